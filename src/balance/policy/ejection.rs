//! Taking an endpoint that fails call after call out of the picks, and bringing it back by one probe.

use std::time::Duration;

use super::{
    ejected::{Caller, Ejected, due, millis},
    ejection_rule::{Ejection, Threshold, shortened},
    tally::{Counted, Tally},
    word::{IN, OUT, PROBING, RETIRED, Word},
};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The adaptive threshold allows one false ejection per endpoint in this many seconds.
const SECONDS_PER_FALSE_ALARM: f64 = 6_000.0;

/// The failure ratio of the other endpoints is taken to lie in this range: nothing is free of failures, and where
/// everything fails the row would have to be endless.
const OTHERS_FAIL: (f64, f64) = (0.01, 0.99);

/// With fewer results of the others their ratio says nothing.
const LEAST_EVIDENCE: u64 = 10;

/// No threshold is lower: one failure says nothing about an endpoint.
const LEAST_ROW: u32 = 2;

/// A probe that has no answer gives its slot to another one after this time, or after the attempt limit if that is
/// longer.
const PROBE_SLOT: Duration = Duration::from_secs(10);

/// No endpoint is probed sooner than this after it was ejected: its fault has hardly passed, and the probe costs a call.
const LEAST_OUT: Duration = Duration::from_secs(1);

/// The health of one endpoint as its calls saw it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// `until:38 (ms) | epoch:16 | level:8 | kind:2`: every transition is one compare-and-swap.
    word: AtomicU64,
    row: AtomicU32,
    tally: Tally,
}

/// A call's right to speak about the endpoint: results of an earlier epoch change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    epoch: u16,
    probe: bool,
}

impl Permit {
    pub(crate) fn is_probe(self) -> bool {
        self.probe
    }
}

/// How an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    In,
    /// Ejected until this long after the start of the component.
    Out {
        until: Duration,
    },
    /// Ejected, and one call is finding out whether it works again.
    Probing,
    /// Removed from the set.
    Retired,
}

/// What a result led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Ejected,
    /// It should be out, but no more may be.
    Spared,
    /// It came back: its measures start again.
    Readmitted,
}

/// What ejection has to know of a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// How many endpoints there are.
    pub(crate) size: usize,
    /// Time since the start of the component.
    pub(crate) age: Duration,
    /// A random number in [0, 1).
    pub(crate) unit: f64,
}

impl Health {
    pub(crate) fn standing(&self) -> Standing {
        let word = Word(self.word.load(Ordering::Relaxed));
        match word.kind() {
            IN => Standing::In,
            OUT => Standing::Out {
                until: Duration::from_millis(word.until()),
            },
            PROBING => Standing::Probing,
            _ => Standing::Retired,
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        self.out().is_some()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.standing() == Standing::Retired
    }

    pub(super) fn out(&self) -> Option<Word> {
        let word = Word(self.word.load(Ordering::Relaxed));
        matches!(word.kind(), OUT | PROBING).then_some(word)
    }

    /// Failures in a row.
    pub(crate) fn row(&self) -> u32 {
        self.row.load(Ordering::Relaxed)
    }

    pub(crate) fn counted(&self, age: Duration) -> Counted {
        self.tally.read(age)
    }

    /// The permit of an ordinary call.
    pub(crate) fn permit(&self) -> Permit {
        Permit {
            epoch: Word(self.word.load(Ordering::Relaxed)).epoch(),
            probe: false,
        }
    }

    /// The permit of the one probe, if this endpoint wants one from this caller now.
    pub(crate) fn claim_probe(
        &self,
        rule: &Ejection,
        caller: Caller,
        limit: Option<Duration>,
        age: Duration,
    ) -> Option<Permit> {
        let word = self.out()?;
        if due(word, rule, caller) > millis(age) {
            return None;
        }
        let slot = limit.map_or(PROBE_SLOT, |limit| limit.max(PROBE_SLOT));
        // A new epoch: a probe that was given up on cannot decide any more.
        let probing = word.next(PROBING, millis(age.saturating_add(slot)), word.level());
        self.swap(word, probing).then_some(Permit {
            epoch: probing.epoch(),
            probe: true,
        })
    }

    /// Takes a success.
    pub(crate) fn success(&self, permit: Permit, ejected: &Ejected, age: Duration) -> Change {
        self.tally.record(false, age);
        let word = Word(self.word.load(Ordering::Relaxed));
        if word.epoch() != permit.epoch {
            return Change::None;
        }
        self.clear_row();
        match word.kind() {
            OUT | PROBING => self.readmit(word, ejected),
            _ => Change::None,
        }
    }

    /// Takes an answer that is neither good nor bad for ejection (429): the endpoint is there and speaks.
    pub(crate) fn neither(&self, permit: Permit, ejected: &Ejected) -> Change {
        match self.speaks_of_out(permit).filter(|_| permit.probe) {
            Some(word) => self.readmit(word, ejected),
            None => Change::None,
        }
    }

    /// Takes a failure; `others` is asked only where it can matter.
    pub(crate) fn failure(
        &self,
        permit: Permit,
        ejected: &Ejected,
        rule: &Ejection,
        failed: Failed,
        others: impl FnOnce() -> Counted,
    ) -> Change {
        self.tally.record(true, failed.age);
        let word = Word(self.word.load(Ordering::Relaxed));
        if word.epoch() != permit.epoch {
            return Change::None;
        }
        match word.kind() {
            IN => self.one_more(word, ejected, rule, failed, others),
            PROBING if permit.probe => self.again(word, ejected, rule, failed),
            _ => Change::None,
        }
    }

    /// Takes a call that was given up: a probe leaves its slot to the next call.
    pub(crate) fn abandoned(
        &self,
        permit: Permit,
        ejected: &Ejected,
        rule: &Ejection,
        age: Duration,
    ) {
        if let Some(word) = self.speaks_of_out(permit).filter(|_| permit.probe)
            && self.swap(word, word.next(OUT, millis(age), word.level()))
        {
            ejected.expect_probe(self, rule);
        }
    }

    /// Lets an ejected endpoint be probed from now on, if it has been out for a while.
    pub(super) fn hasten(&self, rule: &Ejection, age: Duration) -> bool {
        let ends = |word: &Word| word.kind() == OUT && word.until() != u64::MAX;
        let Some(word) = self.out().filter(ends) else {
            return false;
        };
        // The shortest that its period may have been.
        let period = shortened(rule.period(word.level()), 1.0);
        let left = Duration::from_millis(word.until()).saturating_sub(age);
        left.saturating_add(LEAST_OUT) <= period
            && self.swap(word, word.next(OUT, millis(age), word.level()))
    }

    /// Brings the endpoint back, whatever it did.
    pub(crate) fn clear(&self, ejected: &Ejected) -> Change {
        self.clear_row();
        match self.out() {
            Some(word) => self.readmit(word, ejected),
            None => Change::None,
        }
    }

    /// Begins anew where the endpoint gets or loses its place in the set: results of calls from before change nothing.
    pub(crate) fn begin_anew(&self, ejected: &Ejected) {
        self.clear_row();
        let renewed = |word| Some(Word(word).next(IN, 0, 0).0);
        let old = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, renewed);
        if old.is_ok_and(|old| matches!(Word(old).kind(), OUT | PROBING)) {
            ejected.release();
        }
    }

    /// Ends the part that the endpoint has in its set: it takes up no place among the ejected any more.
    pub(crate) fn retire(&self, ejected: &Ejected) {
        let old = Word(
            self.word
                .swap(Word::new(RETIRED, 0, 0, 0).0, Ordering::Relaxed),
        );
        if matches!(old.kind(), OUT | PROBING) {
            ejected.release();
        }
    }

    fn one_more(
        &self,
        word: Word,
        ejected: &Ejected,
        rule: &Ejection,
        failed: Failed,
        others: impl FnOnce() -> Counted,
    ) -> Change {
        let row = self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let enough = match rule.threshold() {
            Threshold::Never => return Change::None,
            Threshold::Fixed(row) => row,
            Threshold::Adaptive if row < LEAST_ROW => return Change::None,
            Threshold::Adaptive => adaptive(others()),
        };
        if row < enough {
            return Change::None;
        }
        if !ejected.claim(failed.size, rule) {
            return Change::Spared;
        }
        if !self.swap(word, word.next(OUT, ends(rule, 0, failed), 0)) {
            ejected.release();
            return Change::None;
        }
        self.clear_row();
        ejected.expect_probe(self, rule);
        Change::Ejected
    }

    /// The probe failed: out for a longer period.
    fn again(&self, word: Word, ejected: &Ejected, rule: &Ejection, failed: Failed) -> Change {
        let level = word.level().saturating_add(1);
        if !self.swap(word, word.next(OUT, ends(rule, level, failed), level)) {
            return Change::None;
        }
        ejected.expect_probe(self, rule);
        Change::Ejected
    }

    /// The present word, if the endpoint is out and the permit was given since.
    fn speaks_of_out(&self, permit: Permit) -> Option<Word> {
        self.out().filter(|word| word.epoch() == permit.epoch)
    }

    fn readmit(&self, word: Word, ejected: &Ejected) -> Change {
        if !self.swap(word, word.next(IN, 0, 0)) {
            return Change::None;
        }
        ejected.release();
        Change::Readmitted
    }

    /// A healthy endpoint is only read.
    fn clear_row(&self) {
        if self.row() != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
    }

    fn swap(&self, old: Word, new: Word) -> bool {
        self.word
            .compare_exchange(old.0, new.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// How many failures in a row mean more than chance, where the others' calls fail as often as counted.
///
/// `k` in a row happen by chance `r * p^k` times a second at `r` calls a second; once in 6000 s is accepted.
pub(crate) fn adaptive(others: Counted) -> u32 {
    let ratio = match others.calls {
        calls if calls < LEAST_EVIDENCE => OTHERS_FAIL.0,
        calls => others.failures as f64 / calls as f64,
    };
    let ratio = ratio.clamp(OTHERS_FAIL.0, OTHERS_FAIL.1);
    let rate = others.calls as f64 / others.seconds.max(1.0);
    let row = (SECONDS_PER_FALSE_ALARM * rate).max(1.0).ln() / (1.0 / ratio).ln();
    (row.ceil() as u32).max(LEAST_ROW)
}

/// When a period that starts now ends, in milliseconds.
fn ends(rule: &Ejection, level: u8, failed: Failed) -> u64 {
    let period = shortened(rule.period(level), failed.unit);
    millis(failed.age.saturating_add(period))
}

#[cfg(test)]
mod tests;
