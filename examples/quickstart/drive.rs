//! Sends charges at a fixed pace, whatever becomes of the earlier ones (open loop).

use std::time::Duration;

use evenkeel::Report;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::ledger::Charge;

/// The time from one charge to the next: 200 a second.
pub const PACE: Duration = Duration::from_millis(5);

/// What a client says about one charge.
pub struct Outcome {
    /// The caller was told that the charge was made.
    pub paid: bool,
    pub attempts: u32,
    /// How it went, in the client's words.
    pub story: String,
}

impl Outcome {
    /// What evenkeel says: no report means that the first attempt did it.
    pub fn of(paid: bool, report: Option<&Report>) -> Self {
        Self {
            paid,
            attempts: report.map_or(1, |report| report.count()),
            story: report.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// One charge as its caller saw it.
pub struct Call {
    pub order: u64,
    /// From the moment at which it was due, so a driver that lags hides nothing.
    pub latency: Duration,
    pub outcome: Outcome,
}

/// Makes `calls` charges through `client` and waits for all of them.
pub async fn drive<C, F>(calls: u64, progress: &ProgressBar, client: C) -> Vec<Call>
where
    C: Fn(Charge) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let start = Instant::now();
    let mut running = JoinSet::new();
    for order in 0..calls {
        let due = start + PACE.saturating_mul(order as u32);
        sleep_until(due).await;
        let outcome = client(Charge { order, cents: 1999 });
        let progress = progress.clone();
        running.spawn(async move {
            let outcome = outcome.await;
            progress.inc(1);
            Call {
                order,
                latency: due.elapsed(),
                outcome,
            }
        });
    }
    running.join_all().await
}
