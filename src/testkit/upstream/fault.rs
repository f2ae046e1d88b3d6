use std::{ops::Range, time::Duration};

use http::StatusCode;

/// What is wrong with an [`Upstream`](super::Upstream) for a while, from its making on.
#[derive(Clone, Debug)]
pub struct Fault {
    span: Range<Duration>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Refuse,
    Hang,
    Freeze,
    Slow(f64),
    Fail(StatusCode, f64),
    Reset(f64),
}

impl Fault {
    const fn new(span: Range<Duration>, kind: Kind) -> Self {
        Self { span, kind }
    }

    /// Connections are refused.
    #[must_use]
    pub const fn refuse(span: Range<Duration>) -> Self {
        Self::new(span, Kind::Refuse)
    }

    /// Calls are taken and never answered; they hold no worker.
    #[must_use]
    pub const fn hang(span: Range<Duration>) -> Self {
        Self::new(span, Kind::Hang)
    }

    /// No worker gets on with its work until it is over.
    #[must_use]
    pub const fn freeze(span: Range<Duration>) -> Self {
        Self::new(span, Kind::Freeze)
    }

    /// Calls that a worker begins take so many times as long.
    ///
    /// # Panics
    /// If the factor is negative or not finite.
    #[must_use]
    pub fn slow(span: Range<Duration>, factor: f64) -> Self {
        assert!(
            factor.is_finite() && factor >= 0.0,
            "{factor} is no factor of a time"
        );
        Self::new(span, Kind::Slow(factor))
    }

    /// This share of the calls is answered with this status, at once.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn fail(span: Range<Duration>, status: u16, share: f64) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status) => Self::new(span, Kind::Fail(status, share)),
            Err(_) => panic!("{status} is no status"),
        }
    }

    /// This share of the calls is worked on, and then the connection breaks.
    #[must_use]
    pub const fn reset(span: Range<Duration>, share: f64) -> Self {
        Self::new(span, Kind::Reset(share))
    }

    pub(super) fn at(&self, now: Duration) -> Option<Kind> {
        self.span.contains(&now).then_some(self.kind)
    }
}

/// How much longer than its work a worker takes that begins now: no time passes in a freeze.
pub(super) fn frozen(faults: &[Fault], begun: Duration, work: Duration) -> Duration {
    let mut freezes: Vec<_> = faults
        .iter()
        .filter(|fault| fault.kind == Kind::Freeze && fault.span.end > begun)
        .map(|fault| fault.span.clone())
        .collect();
    freezes.sort_by_key(|span| span.start);
    let (mut now, mut left, mut lost) = (begun, work, Duration::ZERO);
    for freeze in freezes {
        let runs = freeze.start.saturating_sub(now);
        if runs >= left && !runs.is_zero() {
            break;
        }
        left -= runs.min(left);
        let stands = freeze.end.saturating_sub(now.max(freeze.start));
        lost += stands;
        now = now.max(freeze.end);
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stands_still_in_a_freeze_and_goes_on_after_it() {
        let s = Duration::from_secs;
        let faults = [Fault::freeze(s(10)..s(12)), Fault::freeze(s(5)..s(6))];
        for (begun, work, lost) in [
            (0, 3, 0),
            (0, 5, 0),
            (4, 2, 1),
            (5, 1, 1),
            (4, 6, 3),
            (11, 1, 1),
            (12, 9, 0),
        ] {
            let found = frozen(&faults, s(begun), s(work));
            assert_eq!(found, s(lost), "begun at {begun} s with {work} s of work");
        }
    }
}
