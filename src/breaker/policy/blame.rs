use std::time::Duration;

use super::rules::Outcome;
use crate::classify::{Class, Pushback};
use crate::error::ErrorKind;

/// A good head stands once its body has been read for longer than this.
pub(super) const HEAD_STANDS_AFTER: Duration = Duration::from_secs(1);

/// A timeout below twice the usual time says more about the caller's patience than the service.
const TIMES_MEDIAN: u32 = 2;

/// What is known of how long an attempt might have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// The attempt's limit, where it did not come with the call.
    pub(crate) attempt: Option<Duration>,
    /// The attempt's limit, where this one call brought it: given by its policy, or half of a
    /// deadline given there.
    pub(crate) call: Option<Duration>,
    /// Half of the deadline that the client gives its calls.
    pub(crate) slow_time: Option<Duration>,
    /// The median of recent successes.
    pub(crate) median: Option<Duration>,
}

impl Limits {
    /// Limits of an attempt whose own limit is `attempt`, and of which the call brought `call`.
    pub(crate) fn new(
        attempt: Option<Duration>,
        call: Option<Duration>,
        slow_time: Option<Duration>,
        median: Option<Duration>,
    ) -> Self {
        let attempt = attempt.filter(|_| call.is_none());
        Self {
            attempt,
            call,
            slow_time,
            median,
        }
    }
}

/// How an attempt ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its own limit cut it off.
    AttemptTimedOut,
    /// The call's deadline cut it off.
    DeadlinePassed,
    /// Its future was dropped before the call's deadline.
    Dropped,
}

impl Ending {
    /// A drop at or after the call's deadline is the deadline's doing.
    pub(crate) const fn of_drop(past_deadline: bool) -> Self {
        match past_deadline {
            true => Self::DeadlinePassed,
            false => Self::Dropped,
        }
    }
}

/// Whether a good head stands this long after it came.
pub(crate) fn stands(since_head: Duration) -> bool {
    since_head > HEAD_STANDS_AFTER
}

/// The pause that a server asked for.
pub(crate) const fn wish(pushback: Pushback) -> Option<Duration> {
    match pushback {
        Pushback::After(pause) | Pushback::Exactly(pause) => Some(pause),
        _ => None,
    }
}

/// What an error means that was classed like this: timeouts are looked at more closely.
pub(crate) fn blame_error(
    kind: ErrorKind,
    class: Class,
    ran: Option<Duration>,
    limits: Limits,
) -> Outcome {
    match (kind, class) {
        (ErrorKind::AttemptTimeout, Class::Failure) => blame(Ending::AttemptTimedOut, ran, limits),
        (ErrorKind::DeadlineExceeded, Class::Failure) => blame(Ending::DeadlinePassed, ran, limits),
        (_, class) => class.into(),
    }
}

/// Whether an attempt that ended so after `ran` counts against the service.
///
/// A timeout counts if the attempt ran for at least the smaller of twice the median success and
/// its limit (or else half of the client's deadline): what is cut off sooner was cut by a caller
/// in a hurry. With neither known it counts. A drop counts only if the attempt had run for as long as
/// its limit (or else half of the client's deadline) already; without either, nobody can know, and
/// it is taken for a caller who lost interest. An attempt that nobody timed has run for ever.
pub(crate) fn blame(ending: Ending, ran: Option<Duration>, limits: Limits) -> Outcome {
    let ran = ran.unwrap_or(Duration::MAX);
    let Limits {
        attempt,
        call,
        slow_time,
        median,
    } = limits;
    let slow = attempt.or(slow_time);
    match ending {
        Ending::AttemptTimedOut if call.is_some_and(|limit| ran >= limit) => {
            timeout(ran, slow_time, median)
        }
        // By its own limit: it has run that long.
        Ending::AttemptTimedOut => Outcome::Failure,
        Ending::DeadlinePassed => timeout(ran, slow, median),
        Ending::Dropped => match slow {
            Some(slow) if ran >= slow => Outcome::Failure,
            _ => Outcome::Abandoned,
        },
    }
}

fn timeout(ran: Duration, slow: Option<Duration>, median: Option<Duration>) -> Outcome {
    let twice = median.map(|median| median.saturating_mul(TIMES_MEDIAN));
    match slow.into_iter().chain(twice).min() {
        Some(floor) if ran < floor => Outcome::Neutral,
        _ => Outcome::Failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Ending::{AttemptTimedOut, DeadlinePassed, Dropped};
    use super::{Limits, Outcome, blame};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn limits(attempt: Option<u64>, slow_time: Option<u64>, median: Option<u64>) -> Limits {
        Limits {
            attempt: attempt.map(ms),
            call: None,
            slow_time: slow_time.map(ms),
            median: median.map(ms),
        }
    }

    #[test]
    fn a_timeout_counts_when_nothing_is_known() {
        for ending in [AttemptTimedOut, DeadlinePassed] {
            assert_eq!(
                blame(ending, Some(ms(1)), Limits::default()),
                Outcome::Failure
            );
        }
    }

    #[test]
    fn a_deadline_below_every_floor_is_excused() {
        let limits = limits(Some(800), None, Some(100));
        assert_eq!(
            blame(DeadlinePassed, Some(ms(199)), limits),
            Outcome::Neutral
        );
        assert_eq!(
            blame(DeadlinePassed, Some(ms(200)), limits),
            Outcome::Failure
        );
    }

    #[test]
    fn a_timeout_at_the_attempts_own_limit_counts_however_slow_the_service_is() {
        let limits = limits(None, Some(1_500), Some(700));
        assert_eq!(
            blame(AttemptTimedOut, Some(ms(800)), limits),
            Outcome::Failure
        );
    }

    #[test]
    fn a_limit_that_the_call_brought_excuses_the_service() {
        let hurried = Limits {
            call: Some(ms(50)),
            ..limits(None, Some(1_500), Some(100))
        };
        assert_eq!(
            blame(AttemptTimedOut, Some(ms(50)), hurried),
            Outcome::Neutral
        );
        let patient = Limits {
            call: Some(ms(400)),
            ..hurried
        };
        assert_eq!(
            blame(AttemptTimedOut, Some(ms(400)), patient),
            Outcome::Failure
        );
        assert_eq!(
            blame(AttemptTimedOut, Some(ms(49)), hurried),
            Outcome::Failure,
            "a limit of the layer came first"
        );
    }

    #[test]
    fn half_of_the_clients_deadline_stands_in_for_a_missing_limit() {
        let limits = limits(None, Some(1_500), None);
        assert_eq!(
            blame(DeadlinePassed, Some(ms(50)), limits),
            Outcome::Neutral
        );
        assert_eq!(
            blame(DeadlinePassed, Some(ms(1_500)), limits),
            Outcome::Failure
        );
    }

    #[test]
    fn an_early_drop_is_nobodys_fault_until_the_attempt_was_slow() {
        let known = limits(None, Some(1_500), Some(100));
        assert_eq!(blame(Dropped, Some(ms(1_499)), known), Outcome::Abandoned);
        assert_eq!(blame(Dropped, Some(ms(1_500)), known), Outcome::Failure);
        let unknown = limits(None, None, Some(100));
        assert_eq!(blame(Dropped, Some(ms(9_000)), unknown), Outcome::Abandoned);
    }
}
