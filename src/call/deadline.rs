use std::time::{Duration, Instant};

/// The instant at which a call, an attempt or a wait has to be over, or never.
///
/// All arithmetic saturates: a duration that the clock cannot hold (such as [`Duration::MAX`]) means never.
///
/// ```
/// use std::time::{Duration, Instant};
/// use evenkeel::Deadline;
///
/// let now = Instant::now();
/// let deadline = Deadline::after(now, Duration::from_secs(3));
/// assert_eq!(deadline.remaining(now), Some(Duration::from_secs(3)));
/// assert_eq!(Deadline::after(now, Duration::MAX), Deadline::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

/// Beyond this a wait is called endless: timers cannot hold much more, and no call lasts so long.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// What timers of two programs that were set for the same instant differ by: they count in milliseconds.
const TICK: Duration = Duration::from_millis(2);

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self(None);

    /// The instant `length` after `now`; never if that is over 30 years away.
    #[must_use]
    pub fn after(now: Instant, length: Duration) -> Self {
        if length > LONGEST {
            return Self::NEVER;
        }
        Self(now.checked_add(length))
    }

    /// At exactly this instant.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// The instant, or `None` for never.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The sooner of the two.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.min(two))),
            (one, two) => Self(one.or(two)),
        }
    }

    /// The time left at `now`: `None` without a limit, zero once it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }

    /// Whether somebody who was told of it may give up at `now`: timers of two programs for the same instant go off
    /// this close to one another.
    pub(crate) fn is_due(self, now: Instant) -> bool {
        self.has_passed(now.checked_add(TICK).unwrap_or(now))
    }

    /// Whether no time is left at `now`.
    #[must_use]
    pub fn has_passed(self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_no_clock_holds_mean_never() {
        let now = Instant::now();
        for endless in [
            Duration::MAX,
            Duration::from_secs(u64::MAX / 10),
            LONGEST + Duration::from_nanos(1),
        ] {
            assert_eq!(Deadline::after(now, endless), Deadline::NEVER);
        }
        assert_ne!(Deadline::after(now, LONGEST), Deadline::NEVER);
    }

    #[test]
    fn the_earliest_of_two_is_the_one_that_limits() {
        let now = Instant::now();
        let soon = Deadline::after(now, Duration::from_secs(1));
        let late = Deadline::after(now, Duration::from_secs(2));
        assert_eq!(soon.earliest(late), soon);
        assert_eq!(late.earliest(Deadline::NEVER), late);
        assert_eq!(Deadline::NEVER.earliest(soon), soon);
    }

    #[test]
    fn a_passed_deadline_leaves_zero_and_not_no_limit() {
        let now = Instant::now();
        let deadline = Deadline::at(now);
        assert!(deadline.has_passed(now));
        assert_eq!(
            deadline.remaining(now + Duration::from_secs(5)),
            Some(Duration::ZERO)
        );
        assert_eq!(Deadline::NEVER.remaining(now), None);
    }
}
