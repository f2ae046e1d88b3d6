use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire};

/// What the word says of the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Traffic flows; `stamp` is since when.
    Closed,
    /// Closed a while ago, traffic comes back gradually; `stamp` is since when.
    Ramp,
    /// Nothing passes; `stamp` is until when.
    Open,
    /// Probes pass; `stamp` is when the last one was let through.
    HalfOpen,
    /// Nothing passes until somebody says otherwise.
    ForcedOpen,
    /// Everything passes until somebody says otherwise.
    ForcedClosed,
}

/// The state of the circuit, packed as `stamp:37 | generation:16 | slots:8 | kind:3`.
///
/// The stamp counts milliseconds and saturates after four years. A generation ends with every
/// change of kind, so a permit of an older one cannot do anything; it goes round after 65 536
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    /// Half-open: probe slots taken.
    pub(super) slots: u8,
    pub(super) generation: u16,
    pub(super) stamp: u64,
}

const KIND_BITS: u32 = 3;
const GENERATION_SHIFT: u32 = KIND_BITS + u8::BITS;
const STAMP_SHIFT: u32 = GENERATION_SHIFT + u16::BITS;
/// The latest stamp there is.
pub(super) const STAMP_MAX: u64 = u64::MAX >> STAMP_SHIFT;

impl Word {
    /// The word after a change to `kind`: the next generation, no probe slot taken.
    pub(super) fn next(self, kind: Kind, stamp: u64) -> Self {
        Self {
            kind,
            slots: 0,
            generation: self.generation.wrapping_add(1),
            stamp: stamp.min(STAMP_MAX),
        }
    }

    pub(super) fn with_slots(self, slots: u8) -> Self {
        Self { slots, ..self }
    }
}

impl From<u64> for Word {
    fn from(bits: u64) -> Self {
        Self {
            kind: match bits & 0b111 {
                0 => Kind::Closed,
                1 => Kind::Ramp,
                2 => Kind::Open,
                3 => Kind::HalfOpen,
                4 => Kind::ForcedOpen,
                _ => Kind::ForcedClosed,
            },
            slots: (bits >> KIND_BITS) as u8,
            generation: (bits >> GENERATION_SHIFT) as u16,
            stamp: bits >> STAMP_SHIFT,
        }
    }
}

impl From<Word> for u64 {
    fn from(word: Word) -> Self {
        word.stamp << STAMP_SHIFT
            | Self::from(word.generation) << GENERATION_SHIFT
            | Self::from(word.slots) << KIND_BITS
            | word.kind as Self
    }
}

/// The word, shared; it starts closed at 0.
#[derive(Debug, Default)]
pub(super) struct Shared(AtomicU64);

impl Shared {
    pub(super) fn load(&self) -> Word {
        self.0.load(Acquire).into()
    }

    /// Replaces the word by what `step` makes of it, again with the new one if another thread was
    /// faster. Answers the words before and after, or the one that `step` left alone.
    pub(super) fn update(
        &self,
        mut step: impl FnMut(Word) -> Option<Word>,
    ) -> Result<(Word, Word), Word> {
        let mut before = self.load();
        loop {
            let Some(after) = step(before) else {
                return Err(before);
            };
            match self
                .0
                .compare_exchange_weak(before.into(), after.into(), AcqRel, Acquire)
            {
                Ok(_) => return Ok((before, after)),
                Err(seen) => before = seen.into(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Kind, STAMP_MAX, Word};

    const KINDS: [Kind; 6] = [
        Kind::Closed,
        Kind::Ramp,
        Kind::Open,
        Kind::HalfOpen,
        Kind::ForcedOpen,
        Kind::ForcedClosed,
    ];

    proptest! {
        #[test]
        fn packing_loses_nothing(kind in 0..6_usize, slots: u8, generation: u16, stamp in 0..=STAMP_MAX) {
            let word = Word { kind: KINDS[kind], slots, generation, stamp };
            prop_assert_eq!(Word::from(u64::from(word)), word);
        }

        #[test]
        fn a_change_starts_a_new_generation_without_slots(bits: u64, stamp in any::<u64>()) {
            let before = Word::from(bits);
            let after = Word::from(u64::from(before.next(Kind::Open, stamp)));
            prop_assert_eq!(after.generation, before.generation.wrapping_add(1));
            prop_assert_eq!((after.slots, after.stamp), (0, stamp.min(STAMP_MAX)));
        }
    }
}
