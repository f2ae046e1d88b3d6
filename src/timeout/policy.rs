use std::time::{Duration, Instant};

use crate::{call::Deadline, error::ErrorKind};

/// The next instant at which something ends, and what it then ends as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) at: Deadline,
    pub(crate) kind: ErrorKind,
}

/// What is left of the layer's deadline at the commit point: nothing of one that nobody chose.
pub(crate) fn lasting(own: Duration, preset: bool) -> Duration {
    if preset { Duration::MAX } else { own }
}

/// How long an attempt without a limit has to run before its end counts as slow.
///
/// Half of the layer's own deadline: an attempt cut by a call's shorter one says nothing of the server.
pub(crate) fn slow_time(own: Duration) -> Option<Duration> {
    (own != Duration::MAX).then(|| own / 2)
}

/// The limit of one attempt: what the call asks for, else the layer's own, else what retry decided.
pub(crate) fn attempt_limit(
    given: Option<Duration>,
    own: Option<Duration>,
    decided: Option<Duration>,
) -> Option<Duration> {
    given.or(own).or(decided)
}

/// What ends an attempt: the call's deadline or, if that is sooner, its own limit.
pub(crate) fn attempt_bound(
    started: Instant,
    limit: Option<Duration>,
    deadline: Deadline,
) -> Bound {
    sooner(deadline, started, limit, ErrorKind::AttemptTimeout)
}

/// Until when the other side is told to work: an attempt's own limit ends with the head, so that it says nothing of an
/// answer that may stream.
pub(crate) fn told(bound: Bound, lasting: Deadline, may_stream: bool) -> Deadline {
    if may_stream { lasting } else { bound.at }
}

/// Whether whoever gives up at `now` does so because it was told of this very bound, and is a little early.
pub(crate) fn is_echo(bound: Bound, told: Deadline, now: Instant) -> bool {
    bound.at == told && told.is_due(now)
}

/// What ends a body that has been silent since then: the call's deadline or, if sooner, the idle limit.
pub(crate) fn body_bound(
    silent_since: Instant,
    idle: Option<Duration>,
    deadline: Deadline,
) -> Bound {
    sooner(deadline, silent_since, idle, ErrorKind::BodyIdle)
}

/// Whether a body that was cut off after this silence is the server's fault: the layer's idle limit or the slow time
/// had passed. A shorter limit that one call brought says nothing.
pub(crate) fn is_stall(silent: Duration, idle: Option<Duration>, slow: Option<Duration>) -> bool {
    let over = |limit: Option<Duration>| limit.is_some_and(|limit| silent >= limit);
    over(idle) || over(slow)
}

/// Whether data that is ready comes too late: at the deadline itself it is still in time.
pub(crate) fn is_overdue(deadline: Deadline, now: Instant) -> bool {
    deadline.instant().is_some_and(|at| at < now)
}

fn sooner(deadline: Deadline, since: Instant, limit: Option<Duration>, kind: ErrorKind) -> Bound {
    let own = limit.map_or(Deadline::NEVER, |limit| Deadline::after(since, limit));
    let at = own.earliest(deadline);
    let kind = if at == deadline {
        ErrorKind::DeadlineExceeded
    } else {
        kind
    };
    Bound { at, kind }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn endless_limits_bound_nothing() {
        let start = Instant::now();
        for endless in [Duration::MAX, Duration::from_secs(u64::MAX / 10)] {
            assert_eq!(
                attempt_bound(start, Some(endless), Deadline::NEVER).at,
                Deadline::NEVER
            );
            assert_eq!(
                body_bound(start, Some(endless), Deadline::NEVER).at,
                Deadline::NEVER
            );
        }
        assert_eq!(slow_time(Duration::MAX), None);
        assert_eq!(slow_time(SECOND), Some(SECOND / 2));
    }

    #[test]
    fn an_attempt_that_ends_with_the_call_ends_as_the_call() {
        let start = Instant::now();
        let deadline = Deadline::at(start + SECOND);
        let kind = |limit| attempt_bound(start, limit, deadline).kind;
        assert_eq!(
            kind(Some(SECOND - Duration::from_nanos(1))),
            ErrorKind::AttemptTimeout
        );
        assert_eq!(kind(Some(SECOND)), ErrorKind::DeadlineExceeded);
        assert_eq!(kind(Some(SECOND * 2)), ErrorKind::DeadlineExceeded);
        assert_eq!(kind(None), ErrorKind::DeadlineExceeded);
    }

    #[test]
    fn an_answer_that_may_stream_is_told_of_the_deadline_alone() {
        let start = Instant::now();
        let deadline = Deadline::at(start + SECOND * 2);
        let bound = attempt_bound(start, Some(SECOND), deadline);
        assert_eq!(told(bound, deadline, false), Deadline::at(start + SECOND));
        assert_eq!(told(bound, deadline, true), deadline);
        assert_eq!(told(bound, Deadline::NEVER, true), Deadline::NEVER);
    }

    #[test]
    fn only_who_knows_of_the_bound_echoes_it_and_only_when_it_is_near() {
        let start = Instant::now();
        let bound = attempt_bound(start, Some(SECOND), Deadline::NEVER);
        let tick = Duration::from_millis(2);
        let near = start + SECOND - tick;
        assert!(is_echo(bound, bound.at, near) && is_echo(bound, bound.at, start + SECOND * 2));
        assert!(!is_echo(bound, bound.at, near - tick));
        assert!(!is_echo(bound, Deadline::at(start + SECOND * 2), near));
        let endless = attempt_bound(start, None, Deadline::NEVER);
        assert!(!is_echo(endless, Deadline::NEVER, near));
    }

    #[test]
    fn the_call_decides_before_the_layer_and_the_layer_before_retry() {
        let [one, two, three] = [1, 2, 3].map(|seconds| Some(SECOND * seconds));
        assert_eq!(attempt_limit(one, two, three), one);
        assert_eq!(attempt_limit(None, two, three), two);
        assert_eq!(attempt_limit(None, None, three), three);
        assert_eq!(attempt_limit(None, None, None), None);
    }

    #[test]
    fn data_at_the_deadline_is_in_time_and_later_is_not() {
        let now = Instant::now();
        assert!(!is_overdue(Deadline::at(now), now));
        assert!(is_overdue(Deadline::at(now), now + Duration::from_nanos(1)));
        assert!(!is_overdue(Deadline::NEVER, now + SECOND));
    }

    proptest! {
        #[test]
        fn no_bound_lies_beyond_the_deadline(limit in any::<Option<u64>>(), deadline in 0_u64..1 << 50) {
            let start = Instant::now();
            let deadline = Deadline::after(start, Duration::from_nanos(deadline));
            let bound = attempt_bound(start, limit.map(Duration::from_nanos), deadline);
            prop_assert_eq!(bound.at.earliest(deadline), bound.at);
        }
    }
}
