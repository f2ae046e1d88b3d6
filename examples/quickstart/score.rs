//! What became of the charges: the callers' view held against the ledger.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::drive::Call;
use crate::fleet::Fleet;

/// What one client went through.
pub struct Run {
    pub calls: Vec<Call>,
    pub fleet: Fleet,
    /// How often a circuit breaker opened; a client without a breaker has none.
    pub trips: Option<u64>,
}

/// How all clients did.
pub struct Scores {
    pub http: Score,
    pub naive_http: Score,
    pub grpc: Score,
    pub naive_grpc: Score,
}

/// How one client did.
pub struct Score {
    pub calls: usize,
    pub ok: usize,
    pub attempts: u64,
    pub p50: Duration,
    pub p99: Duration,
    /// Orders that are in the ledger more than once.
    pub double_charges: usize,
    /// Orders that a caller was told are paid and that are not in the ledger.
    pub lost: usize,
    pub trips: Option<u64>,
    /// Each server's share of all requests that arrived, in percent.
    pub shares: Vec<f64>,
}

impl Run {
    pub fn score(&self) -> Score {
        let Self {
            calls,
            fleet,
            trips,
        } = self;
        let ledger = fleet.ledger.times_charged();
        let mut latencies: Vec<Duration> = calls.iter().map(|call| call.latency).collect();
        latencies.sort_unstable();
        Score {
            calls: calls.len(),
            ok: calls.iter().filter(|call| call.outcome.paid).count(),
            attempts: calls
                .iter()
                .map(|call| u64::from(call.outcome.attempts))
                .sum(),
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            double_charges: ledger.values().filter(|&&times| times > 1).count(),
            lost: lost(calls, &ledger),
            trips: *trips,
            shares: shares(&fleet.requests()),
        }
    }
}

impl Score {
    /// Nothing charged twice, nothing lost, and at least 99.9 % paid.
    pub fn is_good(&self) -> bool {
        let failed = self.calls - self.ok;
        self.double_charges == 0 && self.lost == 0 && failed * 1000 <= self.calls
    }

    pub fn attempts_per_call(&self) -> f64 {
        self.attempts as f64 / self.calls as f64
    }

    pub fn figures(&self) -> Figures {
        Figures {
            calls: self.calls,
            ok: self.ok,
            double_charges: self.double_charges,
            lost: self.lost,
            attempts: self.attempts,
            p50_ms: millis(self.p50),
            p99_ms: millis(self.p99),
        }
    }
}

/// What `--json` prints of a score.
#[derive(Serialize)]
pub struct Figures {
    calls: usize,
    ok: usize,
    double_charges: usize,
    lost: usize,
    attempts: u64,
    p50_ms: f64,
    p99_ms: f64,
}

/// In milliseconds, to a tenth.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

fn lost(calls: &[Call], ledger: &HashMap<u64, u32>) -> usize {
    let paid = calls.iter().filter(|call| call.outcome.paid);
    paid.filter(|call| !ledger.contains_key(&call.order))
        .count()
}

fn shares(requests: &[u64]) -> Vec<f64> {
    let all: u64 = requests.iter().sum();
    let share = |&one| 100.0 * one as f64 / all.max(1) as f64;
    requests.iter().map(share).collect()
}
