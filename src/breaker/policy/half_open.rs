use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use super::super::config::{BreakerConfig, CloseWhen};
use super::timing::millis;

/// The verdict on a half-open circuit after a probe's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// More results are needed.
    Undecided,
    Close,
    Open,
}

/// How many probes succeeded and failed, tagged with the generation they belong to:
/// `generation:16 | failed:24 | succeeded:24`.
#[derive(Debug)]
pub(super) struct Probes {
    results: AtomicU64,
    slots: u8,
    close_when: CloseWhen,
    timeout: u64,
    /// How long a probe is waited for: `generation:16 | milliseconds:48`.
    patience: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Results {
    generation: u16,
    failed: u32,
    succeeded: u32,
}

const PATIENCE_BITS: u32 = 48;
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl Probes {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        Self {
            results: AtomicU64::new(0),
            slots: config.probes.clamp(1, 255) as u8,
            close_when: config.close_when,
            timeout: millis(config.probe_timeout),
            patience: AtomicU64::new(0),
        }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u8 {
        self.slots
    }

    /// Whether a probe with a result keeps its slot: where a fixed number of results decides.
    pub(super) fn keeps_slot(&self) -> bool {
        matches!(self.close_when, CloseWhen::FailureRateBelow(_))
    }

    /// Records a probe's result and judges.
    pub(super) fn record(&self, generation: u16, succeeded: bool) -> Judgement {
        let after = self.update(|results| results.of(generation).plus(succeeded));
        self.judge(after)
    }

    /// Hands the results of one generation on to the next, when hung probes are given up; answers
    /// how many there are.
    pub(super) fn hand_on(&self, generation: u16) -> u32 {
        let after = self.update(|results| {
            let results = results.of(generation);
            Results {
                generation: generation.wrapping_add(1),
                ..results
            }
        });
        after.failed + after.succeeded
    }

    /// Results that were recorded in this generation.
    pub(super) fn finished(&self, generation: u16) -> u32 {
        let results = Results::from(self.results.load(Acquire)).of(generation);
        results.failed + results.succeeded
    }

    /// Waits for a probe of this generation for as long as its own limit, if that is longer.
    pub(super) fn be_patient(&self, generation: u16, limit: Option<Duration>) {
        let patience = self.timeout.max(limit.map_or(0, millis));
        let tagged = u64::from(generation) << PATIENCE_BITS | patience;
        // A failed update means that a more patient probe of this generation is under way.
        let _ = self.patience.fetch_update(AcqRel, Acquire, |there| {
            let same = (there >> PATIENCE_BITS) as u16 == generation;
            (!same || there < tagged).then_some(tagged)
        });
    }

    /// After how many milliseconds the probes of this generation are given up.
    pub(super) fn patience(&self, generation: u16) -> u64 {
        let word = self.patience.load(Acquire);
        match (word >> PATIENCE_BITS) as u16 == generation {
            true => word & ((1 << PATIENCE_BITS) - 1),
            false => self.timeout,
        }
    }

    fn judge(&self, results: Results) -> Judgement {
        let Results {
            failed, succeeded, ..
        } = results;
        match self.close_when {
            CloseWhen::Successes(_) if failed > 0 => Judgement::Open,
            CloseWhen::Successes(enough) if succeeded >= enough => Judgement::Close,
            CloseWhen::FailureRateBelow(rate)
                if f64::from(failed) >= rate * f64::from(self.slots) =>
            {
                Judgement::Open
            }
            CloseWhen::FailureRateBelow(_) if failed + succeeded >= u32::from(self.slots) => {
                Judgement::Close
            }
            CloseWhen::Successes(_) | CloseWhen::FailureRateBelow(_) => Judgement::Undecided,
        }
    }

    fn update(&self, step: impl Fn(Results) -> Results) -> Results {
        let mut before = self.results.load(Acquire);
        loop {
            let after = step(before.into());
            match self
                .results
                .compare_exchange_weak(before, after.into(), AcqRel, Acquire)
            {
                Ok(_) => return after,
                Err(seen) => before = seen,
            }
        }
    }
}

impl Results {
    /// These results, or none if they belong to another generation.
    fn of(self, generation: u16) -> Self {
        if self.generation == generation {
            return self;
        }
        Self {
            generation,
            ..Self::default()
        }
    }

    fn plus(self, succeeded: bool) -> Self {
        match succeeded {
            true => Self {
                succeeded: self.succeeded.saturating_add(1).min(COUNT_MASK as u32),
                ..self
            },
            false => Self {
                failed: self.failed.saturating_add(1).min(COUNT_MASK as u32),
                ..self
            },
        }
    }
}

impl From<u64> for Results {
    fn from(bits: u64) -> Self {
        Self {
            generation: (bits >> (2 * COUNT_BITS)) as u16,
            failed: (bits >> COUNT_BITS & COUNT_MASK) as u32,
            succeeded: (bits & COUNT_MASK) as u32,
        }
    }
}

impl From<Results> for u64 {
    fn from(results: Results) -> Self {
        Self::from(results.generation) << (2 * COUNT_BITS)
            | Self::from(results.failed) << COUNT_BITS
            | Self::from(results.succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::{BreakerConfig, CloseWhen, Judgement, Probes};

    fn probes(slots: u32, close_when: CloseWhen) -> Probes {
        Probes::new(&BreakerConfig::new().half_open(slots, close_when))
    }

    #[test]
    fn enough_successes_close() {
        let probes = probes(1, CloseWhen::Successes(2));
        assert_eq!(probes.record(1, true), Judgement::Undecided);
        assert_eq!(probes.record(1, true), Judgement::Close);
    }

    #[test]
    fn the_first_failure_opens_where_successes_are_counted() {
        let probes = probes(5, CloseWhen::Successes(5));
        assert_eq!(probes.record(1, true), Judgement::Undecided);
        assert_eq!(probes.record(1, false), Judgement::Open);
    }

    #[test]
    fn a_rate_is_decided_by_all_probes() {
        let probes = probes(4, CloseWhen::FailureRateBelow(0.5));
        for succeeded in [true, false, true] {
            assert_eq!(probes.record(1, succeeded), Judgement::Undecided);
        }
        assert_eq!(probes.record(1, true), Judgement::Close);
    }

    #[test]
    fn a_rate_that_cannot_be_held_any_more_opens_at_once() {
        let probes = probes(4, CloseWhen::FailureRateBelow(0.5));
        assert_eq!(probes.record(1, false), Judgement::Undecided);
        assert_eq!(probes.record(1, false), Judgement::Open);
    }

    #[test]
    fn another_generation_starts_from_nothing_unless_handed_on() {
        let probes = probes(1, CloseWhen::Successes(2));
        probes.record(1, true);
        assert_eq!(probes.finished(2), 0);
        assert_eq!(probes.hand_on(1), 1);
        assert_eq!(probes.record(2, true), Judgement::Close);
        assert_eq!(probes.record(5, true), Judgement::Undecided);
    }
}
