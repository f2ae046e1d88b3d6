use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::policy::{Outcome, Settled, State, View};

/// What a breaker holds at one moment, for admin pages and tests.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What it does with calls.
    pub state: State,
    /// Whether somebody forced it into that state.
    pub forced: bool,
    /// When the next probe is let through, while it is open and not forced.
    pub next_probe_in: Option<Duration>,
    /// Half-open: probe slots that are taken.
    pub probes: u8,
    /// Failures since the last success, if that rule is on.
    pub consecutive_failures: u32,
    /// Failures within the stretch of time, if that rule is on.
    pub failures_within: u32,
    /// Results in the window of the failure rate, if that rule is on.
    pub window_results: u32,
    /// How many of them failed.
    pub window_failures: u32,
    /// Results in the window of the slow-call rate, if that rule is on.
    pub window_timed: u32,
    /// How many of them were slow.
    pub window_slow: u32,
    /// How often it opened.
    pub opened: u64,
    /// Calls that it rejected; they count nowhere else.
    pub rejected: u64,
    /// Failures. Successes are not counted one by one.
    pub failed: u64,
    /// Calls that the service throttled.
    pub throttled: u64,
    /// Calls whose end said nothing about the service.
    pub neutral: u64,
    /// Calls whose future was dropped.
    pub abandoned: u64,
    /// Results that came after their time and changed nothing.
    pub late: u64,
}

impl Snapshot {
    pub(super) fn new(view: &View, opened: u64, counters: &Counters) -> Self {
        Self {
            state: view.state,
            forced: view.forced,
            next_probe_in: view.next_probe_in,
            probes: view.probes,
            consecutive_failures: view.run,
            failures_within: view.within,
            window_results: view.failures.total(),
            window_failures: view.failures.bad,
            window_timed: view.slow.total(),
            window_slow: view.slow.bad,
            opened,
            rejected: counters.rejected.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            throttled: counters.throttled.load(Relaxed),
            neutral: counters.neutral.load(Relaxed),
            abandoned: counters.abandoned.load(Relaxed),
            late: counters.late.load(Relaxed),
        }
    }
}

/// What happened off the success path, since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    rejected: AtomicU64,
    failed: AtomicU64,
    throttled: AtomicU64,
    neutral: AtomicU64,
    abandoned: AtomicU64,
    late: AtomicU64,
}

impl Counters {
    pub(super) fn count_rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(super) fn count(&self, outcome: Outcome, settled: Settled) {
        let counter = match (settled, outcome) {
            (Settled::Late, _) => &self.late,
            (_, Outcome::Success) => return,
            (_, Outcome::Throttled) => &self.throttled,
            (_, Outcome::Failure) => &self.failed,
            (_, Outcome::Neutral) => &self.neutral,
            (_, Outcome::Abandoned) => &self.abandoned,
        };
        counter.fetch_add(1, Relaxed);
    }
}
