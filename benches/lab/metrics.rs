//! What a run comes to.

use serde::Deserialize;

use crate::{
    arrivals::{MILLI, Nanos, SECOND},
    config::{Kind, Scenario},
    upstream::{NEVER, SLOT, nanos},
    world::{Call, State},
};

/// Everything that was seen in one run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) calls: Vec<Call>,
    /// Attempts by servers and slots of time.
    pub(crate) attempts: Vec<Vec<u32>>,
    pub(crate) deadline: Nanos,
    pub(crate) duration: Nanos,
    /// The end of the last fault that ends.
    pub(crate) fault_end: Option<Nanos>,
    pub(crate) worked: Nanos,
    pub(crate) wasted: Nanos,
    pub(crate) leaked: u32,
    pub(crate) ejected: Option<f64>,
    pub(crate) doubles: u32,
    pub(crate) misused: u32,
    /// Calls that were answered well and are in no ledger.
    pub(crate) missing: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Percent of calls that were answered well within the deadline.
    Success,
    Failed,
    /// Attempts of a call beyond its first, in percent of calls.
    Extra,
    /// Attempts per call.
    Amplification,
    /// Attempts per call of the worst second.
    WorstSecond,
    P50,
    P99,
    P999,
    /// Seconds from the end of the fault to the first of three that are 97 % good.
    Ttr,
    /// Attempts that some servers get, in percent of calls.
    Share,
    /// Attempts that they get, over their fair share.
    FairShare,
    /// Seconds until they have half of their fair share again.
    Readmitted,
    /// Attempts that were never ended.
    Leaked,
    /// Percent of the endpoints' time in which they were left out.
    Ejected,
    /// The most loaded server's attempts over the mean.
    MaxOverMean,
    Wasted,
    /// Charges beyond the first of a call.
    Doubles,
    /// Charges that were acknowledged and are not there.
    Missing,
    /// Calls with several keys, and keys of several calls.
    KeyMisuse,
    /// The most attempts in a tenth of a second.
    Peak,
    /// Seconds from the start of the scope to the end of the last call.
    AllBack,
}

/// Which calls and servers a metric looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scope {
    pub(crate) from: Nanos,
    /// Before this, or to the end of the run.
    pub(crate) to: Nanos,
    pub(crate) servers: Vec<u32>,
}

impl Scope {
    pub(crate) fn whole() -> Self {
        Self {
            from: 0,
            to: NEVER,
            servers: Vec::new(),
        }
    }
}

impl Run {
    pub(crate) fn new(state: &mut State, scenario: &Scenario, ejected: Option<f64>) -> Self {
        let ends = scenario.fault.iter().map(|fault| nanos(fault.to_s));
        let duration = scenario.duration();
        let answered = state.calls.iter().enumerate().filter(|(_, call)| call.good);
        let missing = answered
            .filter(|(call, _)| !state.ledger.has(*call as u32))
            .count();
        Self {
            doubles: state.ledger.doubles(),
            misused: state.ledger.misused(),
            missing: if scenario.kind == Kind::Payments {
                missing as u32
            } else {
                0
            },
            calls: std::mem::take(&mut state.calls),
            attempts: state
                .servers
                .iter()
                .map(|server| server.attempts.clone())
                .collect(),
            deadline: scenario.deadline(),
            duration,
            fault_end: ends.filter(|end| *end < duration).max(),
            worked: state.servers.iter().map(|server| server.worked).sum(),
            wasted: state.wasted,
            leaked: state.open,
            ejected,
        }
    }

    pub(crate) fn figure(&self, metric: Metric, scope: &Scope) -> Option<f64> {
        let scope = &Scope {
            to: scope.to.min(self.duration),
            ..scope.clone()
        };
        match metric {
            Metric::Success => self.good(scope).map(|good| 100.0 * good),
            Metric::Failed => self.good(scope).map(|good| 100.0 * (1.0 - good)),
            Metric::Extra => self
                .per_call(scope, |call| call.attempts.saturating_sub(1))
                .map(|extra| 100.0 * extra),
            Metric::Amplification => self.per_call(scope, |call| call.attempts),
            Metric::WorstSecond => self.worst_second(scope),
            Metric::P50 => self.percentile(scope, 0.5),
            Metric::P99 => self.percentile(scope, 0.99),
            Metric::P999 => self.percentile(scope, 0.999),
            Metric::Ttr => self.recovery(),
            Metric::Share => self.share(scope).map(|share| 100.0 * share),
            Metric::FairShare => self.fair_share(scope),
            Metric::Readmitted => self.readmitted(scope),
            Metric::Leaked => Some(f64::from(self.leaked)),
            Metric::Ejected => self.ejected.map(|share| 100.0 * share),
            Metric::MaxOverMean => self.max_over_mean(),
            Metric::Doubles => Some(f64::from(self.doubles)),
            Metric::Missing => Some(f64::from(self.missing)),
            Metric::KeyMisuse => Some(f64::from(self.misused)),
            Metric::Peak => self.peak(scope),
            Metric::AllBack => self.all_back(scope),
            Metric::Wasted => {
                (self.worked > 0).then(|| 100.0 * self.wasted as f64 / self.worked as f64)
            }
        }
    }

    fn within<'a>(&'a self, scope: &Scope) -> impl Iterator<Item = &'a Call> + use<'a> {
        let (from, to) = (scope.from, scope.to);
        self.calls
            .iter()
            .filter(move |call| (from..to).contains(&call.at))
    }

    pub(crate) fn is_good(&self, call: &Call) -> bool {
        call.good && call.took > 0 && call.took <= self.deadline
    }

    fn good(&self, scope: &Scope) -> Option<f64> {
        let calls = self.within(scope).count();
        let good = self.within(scope).filter(|call| self.is_good(call)).count();
        ratio(good as f64, calls as f64)
    }

    fn per_call(&self, scope: &Scope, count: impl Fn(&Call) -> u32) -> Option<f64> {
        let total: u64 = self.within(scope).map(|call| u64::from(count(call))).sum();
        ratio(total as f64, self.within(scope).count() as f64)
    }

    fn worst_second(&self, scope: &Scope) -> Option<f64> {
        let slots = (SECOND as Nanos / SLOT) as usize;
        let seconds = (scope.from / SECOND as Nanos)..(scope.to / SECOND as Nanos);
        let offered = self.calls_by_second(|_| true);
        let ratios = seconds.filter_map(|second| {
            let first = second as usize * slots;
            let sent: u32 = self
                .attempts
                .iter()
                .flat_map(|slots_of| slots_of.iter().skip(first).take(slots))
                .sum();
            ratio(f64::from(sent), f64::from(*offered.get(second as usize)?))
        });
        ratios.max_by(f64::total_cmp)
    }

    fn calls_by_second(&self, count: impl Fn(&Call) -> bool) -> Vec<u32> {
        let mut seconds = vec![0; self.duration.div_ceil(SECOND as Nanos) as usize];
        for call in self.calls.iter().filter(|call| count(call)) {
            if let Some(second) = seconds.get_mut((call.at / SECOND as Nanos) as usize) {
                *second += 1;
            }
        }
        seconds
    }

    /// Failures count as the deadline.
    fn percentile(&self, scope: &Scope, share: f64) -> Option<f64> {
        let took = |call: &Call| {
            if self.is_good(call) {
                call.took
            } else {
                self.deadline
            }
        };
        let mut times: Vec<Nanos> = self.within(scope).map(took).collect();
        if times.is_empty() {
            return None;
        }
        let index = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1;
        let (_, time, _) = times.select_nth_unstable(index);
        Some(*time as f64 / MILLI)
    }

    /// Infinite if it never came.
    fn recovery(&self) -> Option<f64> {
        let end = self.fault_end?.div_ceil(SECOND as Nanos) as usize;
        let offered = self.calls_by_second(|_| true);
        let good = self.calls_by_second(|call| self.is_good(call));
        let is_good = |second: usize| f64::from(good[second]) >= 0.97 * f64::from(offered[second]);
        let mut starts = end..offered.len().saturating_sub(2);
        let found = starts.find(|start| (*start..start + 3).all(is_good));
        Some(found.map_or(f64::INFINITY, |start| (start - end) as f64))
    }

    fn attempts_of(&self, server: u32, from: Nanos, to: Nanos) -> u32 {
        // A goal of another variant may name a server that this run has not.
        let Some(slots) = self.attempts.get(server as usize) else {
            return 0;
        };
        let (from, to) = ((from / SLOT) as usize, (to / SLOT) as usize);
        slots.iter().take(to).skip(from).sum()
    }

    fn share(&self, scope: &Scope) -> Option<f64> {
        let servers = scope.servers.iter();
        let sent: u32 = servers
            .map(|server| self.attempts_of(*server, scope.from, scope.to))
            .sum();
        ratio(f64::from(sent), self.within(scope).count() as f64)
    }

    fn fair_share(&self, scope: &Scope) -> Option<f64> {
        let of = |server: u32| self.attempts_of(server, scope.from, scope.to);
        let all: u32 = (0..self.attempts.len() as u32).map(of).sum();
        let theirs: u32 = scope.servers.iter().map(|server| of(*server)).sum();
        let fair = scope.servers.len() as f64 / self.attempts.len() as f64;
        ratio(f64::from(theirs), f64::from(all)).map(|share| share / fair)
    }

    /// The first second that has half of the fair share, by its end.
    fn readmitted(&self, scope: &Scope) -> Option<f64> {
        let second = SECOND as Nanos;
        let mut starts = (scope.from..self.duration.saturating_sub(second)).step_by(SLOT as usize);
        let back = starts.find(|start| {
            let scope = Scope {
                from: *start,
                to: start + second,
                servers: scope.servers.clone(),
            };
            self.fair_share(&scope).is_some_and(|share| share >= 0.5)
        });
        Some(back.map_or(f64::INFINITY, |start| (start - scope.from) as f64 / SECOND))
    }

    fn peak(&self, scope: &Scope) -> Option<f64> {
        let slots = (scope.from / SLOT) as usize..(scope.to / SLOT) as usize;
        let of = |slot: usize| -> u32 {
            self.attempts
                .iter()
                .filter_map(|slots| slots.get(slot))
                .sum()
        };
        slots.map(|slot| f64::from(of(slot))).max_by(f64::total_cmp)
    }

    fn all_back(&self, scope: &Scope) -> Option<f64> {
        let ended = |call: &Call| {
            if call.good {
                (call.at + call.took) as f64
            } else {
                f64::INFINITY
            }
        };
        let last = self.calls.iter().map(ended).max_by(f64::total_cmp)?;
        Some((last - scope.from as f64) / SECOND)
    }

    fn max_over_mean(&self) -> Option<f64> {
        let totals = self.attempts.iter().map(|slots| slots.iter().sum::<u32>());
        let all: u32 = totals.clone().sum();
        let most = totals.max()?;
        ratio(f64::from(most), f64::from(all)).map(|share| share * self.attempts.len() as f64)
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}
