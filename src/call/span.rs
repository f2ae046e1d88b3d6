use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::deadline::{Deadline, LONGEST};

/// Stands for no limit where a duration is kept as nanoseconds.
const NEVER: u64 = u64::MAX;

/// A length of time, or none, that is read and written without a lock.
#[derive(Debug)]
pub(crate) struct Span(AtomicU64);

impl Default for Span {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl Clone for Span {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Relaxed)))
    }
}

impl Span {
    pub(crate) fn get(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(super) fn of(length: Option<Duration>) -> Self {
        Self(AtomicU64::new(length.map_or(NEVER, nanos)))
    }

    pub(super) fn set(&self, length: Option<Duration>) {
        self.0.store(length.map_or(NEVER, nanos), Relaxed);
    }

    /// No longer than this.
    pub(super) fn shorten(&self, length: Duration) {
        if length <= LONGEST {
            let known = self.0.load(Relaxed);
            self.0.store(known.min(nanos(length)), Relaxed);
        }
    }

    /// Whether it is over after so long.
    pub(super) fn is_over(&self, elapsed: Duration) -> bool {
        let length = self.0.load(Relaxed);
        length != NEVER && length <= nanos(elapsed)
    }

    /// The instant so long after `started`.
    pub(super) fn from(&self, started: Instant) -> Deadline {
        self.get()
            .map_or(Deadline::NEVER, |length| Deadline::after(started, length))
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
