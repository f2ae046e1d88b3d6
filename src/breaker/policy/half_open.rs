use std::time::Duration;

use super::super::config::{BreakerConfig, CloseWhen};
use super::timing::millis;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire};

/// The verdict on a half-open circuit after a probe's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// More results are needed.
    Undecided,
    Close,
    Open,
}

/// How many probes succeeded and failed.
///
/// A thread may be late: it asked for the state, and now the generation that it read is over. So
/// whoever would put one generation in the place of another asks once more, by `live`, between
/// reading the old one and replacing it: a later generation is never replaced.
#[derive(Debug)]
pub(super) struct Probes {
    /// By even and odd generations, each tagged with the one they belong to:
    /// `generation:16 | failed:24 | succeeded:24`. Two, so that a generation finds what is handed
    /// on to it before it begins.
    results: [AtomicU64; 2],
    slots: u8,
    close_when: CloseWhen,
    timeout: u64,
    /// How long a probe is waited for: `generation:16 | milliseconds:48`.
    patience: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
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
            results: Default::default(),
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

    /// Records a probe's result and judges; `None` if its generation is over.
    pub(super) fn record(
        &self,
        generation: u16,
        succeeded: bool,
        live: impl Fn() -> bool,
    ) -> Option<Judgement> {
        let after = self.update(generation, live, |results| {
            let results = results.unwrap_or_else(|| Results::none(generation));
            Some(results.plus(succeeded))
        });
        Some(self.judge(after?))
    }

    /// Lets the next generation begin with what this one has, for the case that its hung probes
    /// are given up; answers how many results that are. Whoever does so first decides.
    pub(super) fn hand_on(&self, generation: u16, live: impl Fn() -> bool) -> u32 {
        let next = generation.wrapping_add(1);
        let has = self
            .load(generation)
            .unwrap_or_else(|| Results::none(generation));
        let given = self.update(next, live, |there| match there {
            Some(_) => None,
            None => Some(Results {
                generation: next,
                ..has
            }),
        });
        given
            .or_else(|| self.load(next))
            .map_or(0, Results::finished)
    }

    /// Waits for a probe of this generation for as long as its own limit, if that is longer.
    pub(super) fn be_patient(
        &self,
        generation: u16,
        limit: Option<Duration>,
        live: impl Fn() -> bool,
    ) {
        let patience = self.timeout.max(limit.map_or(0, millis));
        let tagged = u64::from(generation) << PATIENCE_BITS | patience;
        // A failed update means that a more patient probe of this generation is under way, or that
        // this generation is over.
        let _ = self.patience.fetch_update(AcqRel, Acquire, |there| {
            let same = (there >> PATIENCE_BITS) as u16 == generation;
            let more = if same { there < tagged } else { live() };
            more.then_some(tagged)
        });
    }

    /// Waits for the probe of this generation for so many milliseconds, if it did so for longer.
    pub(super) fn be_brief(&self, generation: u16, patience: u64, live: impl Fn() -> bool) {
        let tagged = u64::from(generation) << PATIENCE_BITS | patience.min(self.timeout);
        // A failed update means that it is given up sooner already, or that this generation is over.
        let _ = self.patience.fetch_update(AcqRel, Acquire, |there| {
            let same = (there >> PATIENCE_BITS) as u16 == generation;
            let less = if same { there > tagged } else { live() };
            less.then_some(tagged)
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

    /// Results of this generation, if there are any.
    fn load(&self, generation: u16) -> Option<Results> {
        Results::from(self.word(generation).load(Acquire)).of(generation)
    }

    /// Replaces the results of a generation, or those of another one that is over, by what `step`
    /// makes of them; `None` if it leaves them alone or the generation itself is over.
    fn update(
        &self,
        generation: u16,
        live: impl Fn() -> bool,
        step: impl Fn(Option<Results>) -> Option<Results>,
    ) -> Option<Results> {
        let word = self.word(generation);
        let mut before = word.load(Acquire);
        loop {
            let there = Results::from(before).of(generation);
            if there.is_none() && !live() {
                return None;
            }
            let after = step(there)?;
            match word.compare_exchange_weak(before, after.into(), AcqRel, Acquire) {
                Ok(_) => return Some(after),
                Err(seen) => before = seen,
            }
        }
    }

    fn word(&self, generation: u16) -> &AtomicU64 {
        &self.results[usize::from(generation & 1)]
    }
}

impl Results {
    const fn none(generation: u16) -> Self {
        Self {
            generation,
            failed: 0,
            succeeded: 0,
        }
    }

    /// These results, if they belong to this generation.
    fn of(self, generation: u16) -> Option<Self> {
        (self.generation == generation).then_some(self)
    }

    const fn finished(self) -> u32 {
        self.failed + self.succeeded
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
    use super::{BreakerConfig, CloseWhen, Duration, Judgement, Probes};

    fn probes(slots: u32, close_when: CloseWhen) -> Probes {
        Probes::new(&BreakerConfig::new().half_open(slots, close_when))
    }

    fn record(probes: &Probes, generation: u16, succeeded: bool) -> Judgement {
        let judged = probes.record(generation, succeeded, || true);
        judged.expect("the generation is live")
    }

    #[test]
    fn enough_successes_close() {
        let probes = probes(1, CloseWhen::Successes(2));
        assert_eq!(record(&probes, 1, true), Judgement::Undecided);
        assert_eq!(record(&probes, 1, true), Judgement::Close);
    }

    #[test]
    fn the_first_failure_opens_where_successes_are_counted() {
        let probes = probes(5, CloseWhen::Successes(5));
        assert_eq!(record(&probes, 1, true), Judgement::Undecided);
        assert_eq!(record(&probes, 1, false), Judgement::Open);
    }

    #[test]
    fn a_rate_is_decided_by_all_probes() {
        let probes = probes(4, CloseWhen::FailureRateBelow(0.5));
        for succeeded in [true, false, true] {
            assert_eq!(record(&probes, 1, succeeded), Judgement::Undecided);
        }
        assert_eq!(record(&probes, 1, true), Judgement::Close);
    }

    #[test]
    fn a_rate_that_cannot_be_held_any_more_opens_at_once() {
        let probes = probes(4, CloseWhen::FailureRateBelow(0.5));
        assert_eq!(record(&probes, 1, false), Judgement::Undecided);
        assert_eq!(record(&probes, 1, false), Judgement::Open);
    }

    #[test]
    fn another_generation_starts_from_nothing_unless_handed_on() {
        let probes = probes(1, CloseWhen::Successes(2));
        record(&probes, 1, true);
        assert_eq!(probes.hand_on(1, || true), 1);
        assert_eq!(record(&probes, 2, true), Judgement::Close);
        assert_eq!(record(&probes, 5, true), Judgement::Undecided);
    }

    #[test]
    fn the_first_to_hand_on_decides_what_the_next_generation_begins_with() {
        let probes = probes(3, CloseWhen::FailureRateBelow(1.0));
        record(&probes, 1, true);
        assert_eq!(probes.hand_on(1, || true), 1);
        record(&probes, 1, true);
        assert_eq!(
            probes.hand_on(1, || true),
            1,
            "the slots were counted by it"
        );
    }

    #[test]
    fn a_late_thread_of_an_older_generation_wipes_nothing_out() {
        let over = || false;
        let probes = probes(1, CloseWhen::Successes(2));
        record(&probes, 3, true);
        assert_eq!(probes.record(1, false, over), None);
        assert_eq!(probes.hand_on(2, over), 1, "what generation 3 has");
        assert_eq!(record(&probes, 3, true), Judgement::Close);
        let minute = Some(Duration::from_secs(60));
        probes.be_patient(3, minute, || true);
        probes.be_patient(1, None, over);
        assert_eq!(probes.patience(3), 60_000);
    }
}
