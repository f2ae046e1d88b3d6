use std::time::Duration;

use super::word::{Kind, Word};
use crate::stats::window::Counts;

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It lets them through.
    Closed,
    /// It rejects them.
    Open,
    /// It lets some through as probes, or would if there were a call.
    HalfOpen,
}

/// The right to make one call, of the generation that granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) generation: u16,
    pub(crate) probe: bool,
}

impl Pass {
    /// The pass of a call that has settled and may still add a failure: a probe no more.
    pub(crate) const fn settled(self) -> Self {
        Self {
            probe: false,
            ..self
        }
    }
}

/// The answer to a call that wants through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted(Pass),
    Rejected {
        /// When the next probe is let through, where that is a matter of time alone.
        retry_in: Option<Duration>,
    },
}

/// A change of the circuit; between equal states it is only a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) generation: u16,
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) cause: Cause,
}

impl Change {
    /// Whether it stops traffic.
    pub(crate) fn opens(self) -> bool {
        self.to == State::Open && self.from != State::Open
    }
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It belongs to an older generation and changed nothing.
    Late,
    Counted,
    Changed(Change),
}

/// What the machine holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) forced: bool,
    pub(crate) next_probe_in: Option<Duration>,
    pub(crate) probes: u8,
    pub(crate) run: u32,
    pub(crate) within: u32,
    pub(crate) failures: Counts,
    pub(crate) slow: Counts,
}

/// The rule that opened the circuit, or what else changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// So many failures came without a success in between.
    ConsecutiveFailures,
    /// So many failures came within the stretch of time.
    FailuresWithin,
    /// The failure rate reached its threshold.
    FailureRate,
    /// The slow-call rate reached its threshold.
    SlowCallRate,
    /// The break was over.
    BreakOver,
    /// The probes failed.
    ProbeFailed,
    /// The probes succeeded.
    ProbeSucceeded,
    /// Somebody forced or reset it.
    Manual,
}

pub(super) fn admitted(word: Word, probe: bool) -> Admission {
    Admission::Admitted(Pass {
        generation: word.generation,
        probe,
    })
}

pub(super) fn rejected(word: Word, now: u64) -> Admission {
    Admission::Rejected {
        retry_in: wait(word, now),
    }
}

pub(super) fn wait(word: Word, now: u64) -> Option<Duration> {
    (word.kind == Kind::Open).then(|| Duration::from_millis(word.stamp.saturating_sub(now)))
}

pub(super) fn is_closed(word: Word) -> bool {
    matches!(word.kind, Kind::Closed | Kind::Ramp | Kind::ForcedClosed)
}

pub(super) fn state(word: Word, now: u64) -> State {
    match word.kind {
        Kind::Closed | Kind::Ramp | Kind::ForcedClosed => State::Closed,
        Kind::Open if now < word.stamp => State::Open,
        Kind::Open | Kind::HalfOpen => State::HalfOpen,
        Kind::ForcedOpen => State::Open,
    }
}

/// For those who watch, a break that nobody has tried to end yet still lasts.
fn kept(word: Word) -> State {
    state(word, 0)
}

pub(super) fn change(before: Word, after: Word, cause: Cause) -> Change {
    Change {
        generation: after.generation,
        from: kept(before),
        to: kept(after),
        cause,
    }
}

pub(super) fn settled(moved: Result<(Word, Word), Word>, cause: Cause) -> Settled {
    match moved {
        Ok((before, after)) => Settled::Changed(change(before, after, cause)),
        Err(_) => Settled::Late,
    }
}
