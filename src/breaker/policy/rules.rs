use std::time::Duration;

use super::super::config::{BreakerConfig, RateWindow};
use super::answer::Cause;
use crate::classify::Class;
use crate::stats::{
    last::{Last, Mark},
    quantile::RecentMedian,
    run::Run,
    times::Times,
    window::{Counts, Window},
};

/// How an admitted call ended, as far as the circuit cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Counts for the failure rate, and fails a probe: a service that throttles has not recovered.
    Throttled,
    Failure,
    /// It says nothing about the service; a probe gives its slot back.
    Neutral,
    /// Its future was dropped; a probe gives its slot back.
    Abandoned,
}

impl From<Class> for Outcome {
    fn from(class: Class) -> Self {
        match class {
            Class::Success => Self::Success,
            Class::Throttled => Self::Throttled,
            Class::Failure => Self::Failure,
            Class::Neutral => Self::Neutral,
        }
    }
}

/// The end of an admitted call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    /// How long it took, where somebody measured.
    pub(crate) ran: Option<Duration>,
    /// Where it failed, where a balancer says so.
    pub(crate) endpoint: Option<Seen>,
    /// The pause that the server asked for.
    pub(crate) pushback: Option<Duration>,
}

/// An endpoint on which a failure was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Its serial number.
    pub(crate) serial: u64,
    /// How many endpoints there are.
    pub(crate) of: usize,
}

impl Finished {
    pub(crate) const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            ran: None,
            endpoint: None,
            pushback: None,
        }
    }
}

/// The rules that are on, with what they remember. All of it is tagged with the generation that
/// recorded it, so that a closed circuit starts from nothing.
#[derive(Debug)]
pub(super) struct Rules {
    consecutive: Option<Run>,
    within: Option<Times>,
    rates: Rates,
    failure_rate: Option<f64>,
    slow_rate: Option<f64>,
    slow: Option<Duration>,
    min_requests: u32,
    min_endpoints: Option<usize>,
    median: RecentMedian,
}

/// Where the rates come from. Over time each has a window of its own; a failure rate alone, the
/// common case, then costs one atomic update per result.
#[derive(Debug)]
enum Rates {
    Time {
        failures: Option<Box<Window>>,
        slow: Option<Box<Window>>,
    },
    Count(Last),
}

impl Rules {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        Self {
            consecutive: config.consecutive.map(Run::new),
            within: config
                .within
                .map(|(count, within)| Times::new(count, within)),
            rates: Rates::new(config),
            failure_rate: config.failure_rate,
            slow_rate: config.slow_rate,
            slow: config.slow_duration,
            min_requests: config.min_requests,
            min_endpoints: config.min_endpoints.map(|endpoints| endpoints as usize),
            median: RecentMedian::new(),
        }
    }

    /// Whether this call took long enough to be a slow one.
    pub(super) fn is_slow(&self, ran: Option<Duration>) -> bool {
        self.slow.zip(ran).is_some_and(|(slow, ran)| ran >= slow)
    }

    /// Whether calls have to be timed.
    pub(super) fn is_timed(&self) -> bool {
        self.slow.is_some()
    }

    /// Whether endpoints matter.
    pub(super) fn asks_for_endpoints(&self) -> bool {
        self.min_endpoints.is_some()
    }

    pub(super) fn median(&self) -> Option<Duration> {
        self.median.median()
    }

    /// Notes how long a success took.
    pub(super) fn note_latency(&self, end: &Finished) {
        if let (Outcome::Success, Some(ran)) = (end.outcome, end.ran) {
            self.median.record(ran);
        }
    }

    /// Records the end of a call at `at` nanoseconds and says which rule it met; `live` says
    /// whether the era is not over yet.
    pub(super) fn record(
        &self,
        era: u16,
        at: u64,
        end: &Finished,
        live: impl Fn() -> bool,
    ) -> Option<Cause> {
        let slow = self.is_slow(end.ran);
        match end.outcome {
            Outcome::Success => {
                self.good(era, at, slow);
                None
            }
            Outcome::Throttled => self.rated_bad(era, at, slow, end),
            Outcome::Failure => self.bad(era, at, slow, end, live),
            Outcome::Neutral | Outcome::Abandoned => return None,
        }
        .or_else(|| self.too_slow(era, at, slow))
    }

    fn good(&self, era: u16, at: u64, slow: bool) {
        if let Some(run) = &self.consecutive {
            run.end(era);
        }
        self.rates.add(
            era,
            at,
            Mark {
                slow,
                ..Mark::default()
            },
        );
    }

    /// Every rule records before one decides: the next decision must not miss this failure.
    fn bad(
        &self,
        era: u16,
        at: u64,
        slow: bool,
        end: &Finished,
        live: impl Fn() -> bool,
    ) -> Option<Cause> {
        let serial = end.endpoint.map(|seen| seen.serial);
        let run = self.consecutive.as_ref();
        let run = run.filter(|run| run.add(era, serial, live));
        let times = self
            .within
            .as_ref()
            .filter(|times| times.add(era, at, serial));
        let rate = self.rated_bad(era, at, slow, end);
        if run.is_some_and(|run| self.is_spread(end, || run.endpoints(era))) {
            return Some(Cause::ConsecutiveFailures);
        }
        if times.is_some_and(|times| self.is_spread(end, || times.endpoints(era, at))) {
            return Some(Cause::FailuresWithin);
        }
        rate
    }

    fn rated_bad(&self, era: u16, at: u64, slow: bool, end: &Finished) -> Option<Cause> {
        let endpoint = end.endpoint.map(|seen| seen.serial);
        self.rates.add(
            era,
            at,
            Mark {
                bad: true,
                slow,
                endpoint,
            },
        );
        let counts = self.rates.failures(era, at);
        let met = self
            .failure_rate
            .is_some_and(|rate| self.reaches(counts, rate));
        (met && self.is_spread(end, || self.rates.endpoints(era, at))).then_some(Cause::FailureRate)
    }

    fn too_slow(&self, era: u16, at: u64, slow: bool) -> Option<Cause> {
        let rate = self.slow_rate.filter(|_| slow)?;
        self.reaches(self.rates.slow(era, at), rate)
            .then_some(Cause::SlowCallRate)
    }

    fn reaches(&self, counts: Counts, rate: f64) -> bool {
        counts.total() >= self.min_requests && counts.bad_rate() >= rate
    }

    /// Whether failures were seen on enough endpoints for the service itself to be at fault.
    fn is_spread(&self, end: &Finished, endpoints: impl FnOnce() -> usize) -> bool {
        match (self.min_endpoints, end.endpoint) {
            (Some(enough), Some(seen)) => endpoints() >= enough.min(seen.of),
            _ => true,
        }
    }

    /// Failures in a row, failures within the stretch, results and failures of the rate.
    pub(super) fn counts(&self, era: u16, at: u64) -> (u32, u32, Counts, Counts) {
        (
            self.consecutive.as_ref().map_or(0, |run| run.length(era)),
            self.within.as_ref().map_or(0, |times| times.count(era, at)),
            self.failure_rate
                .map_or_else(Counts::default, |_| self.rates.failures(era, at)),
            self.slow_rate
                .map_or_else(Counts::default, |_| self.rates.slow(era, at)),
        )
    }
}

impl Rates {
    fn new(config: &BreakerConfig) -> Self {
        let over = |length, on: bool| on.then(|| Box::new(Window::new(length)));
        let (failures, slow) = (config.failure_rate.is_some(), config.slow_rate.is_some());
        match config.window {
            RateWindow::Count(results) if failures || slow => Self::Count(Last::new(results)),
            // Without a rate there is nothing to remember.
            RateWindow::Count(_) => Self::Time {
                failures: None,
                slow: None,
            },
            RateWindow::Time(length) => Self::Time {
                failures: over(length, failures),
                slow: over(length, slow),
            },
        }
    }

    fn add(&self, era: u16, at: u64, mark: Mark) {
        match self {
            Self::Time { failures, slow } => {
                match failures {
                    Some(window) if mark.bad => window.add_bad(era, at, mark.endpoint),
                    Some(window) => window.add_good(era, at),
                    None => {}
                }
                match slow {
                    Some(window) if mark.slow => window.add_bad(era, at, None),
                    Some(window) => window.add_good(era, at),
                    None => {}
                }
            }
            Self::Count(last) => last.add(era, mark),
        }
    }

    fn failures(&self, era: u16, at: u64) -> Counts {
        match self {
            Self::Time { failures, .. } => counts(failures.as_deref(), era, at),
            Self::Count(last) => last.bad(era),
        }
    }

    fn slow(&self, era: u16, at: u64) -> Counts {
        match self {
            Self::Time { slow, .. } => counts(slow.as_deref(), era, at),
            Self::Count(last) => last.slow(era),
        }
    }

    fn endpoints(&self, era: u16, at: u64) -> usize {
        match self {
            Self::Time { failures, .. } => failures
                .as_ref()
                .map_or(0, |window| window.bad_endpoints(era, at)),
            Self::Count(last) => last.bad_endpoints(era),
        }
    }
}

fn counts(window: Option<&Window>, era: u16, at: u64) -> Counts {
    window.map_or_else(Counts::default, |window| window.counts(era, at))
}
