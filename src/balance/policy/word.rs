//! The state of an endpoint's ejection in one word: every transition is one compare-and-swap.

#[derive(Clone, Copy, Debug)]
pub(super) struct Word(pub(super) u64);

pub(super) const IN: u8 = 0;
pub(super) const OUT: u8 = 1;
pub(super) const PROBING: u8 = 2;
pub(super) const RETIRED: u8 = 3;

/// 38 bits of milliseconds are 8.7 years; what ends later never ends.
const UNTIL: u64 = (1 << 38) - 1;

impl Word {
    pub(super) fn new(kind: u8, until: u64, epoch: u16, level: u8) -> Self {
        Self(
            until.min(UNTIL) << 26
                | u64::from(epoch) << 10
                | u64::from(level) << 2
                | u64::from(kind),
        )
    }

    /// The word of the next epoch.
    pub(super) fn next(self, kind: u8, until: u64, level: u8) -> Self {
        Self::new(kind, until, self.epoch().wrapping_add(1), level)
    }

    pub(super) fn kind(self) -> u8 {
        (self.0 & 3) as u8
    }

    pub(super) fn level(self) -> u8 {
        (self.0 >> 2) as u8
    }

    pub(super) fn epoch(self) -> u16 {
        (self.0 >> 10) as u16
    }

    pub(super) fn until(self) -> u64 {
        match self.0 >> 26 {
            UNTIL => u64::MAX,
            until => until,
        }
    }
}
