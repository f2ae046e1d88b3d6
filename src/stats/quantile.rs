use std::{
    array,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

/// How many durations are remembered: enough for a steady median, 256 bytes, and at 10 calls/s six seconds old.
const KEPT: usize = 64;

/// Below this many samples there is no median: a guess from a few would stop retries that could succeed.
pub(crate) const MIN_SAMPLES: usize = 20;

/// The median of the last durations, in bounded memory and without a lock.
///
/// Approximate under contention: a reader may see a slot that is about to be overwritten.
#[derive(Debug)]
pub(crate) struct RecentMedian {
    /// Microseconds plus one; 0 is a slot never written.
    slots: [AtomicU32; KEPT],
    next: AtomicUsize,
}

impl RecentMedian {
    pub(crate) fn new() -> Self {
        Self {
            slots: array::from_fn(|_| AtomicU32::new(0)),
            next: AtomicUsize::new(0),
        }
    }

    /// Remembers a duration in place of the oldest; over 71 minutes counts as 71 minutes.
    pub(crate) fn record(&self, took: Duration) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        let micros = u32::try_from(took.as_micros())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        self.slots[slot].store(micros, Ordering::Relaxed);
    }

    /// The median, from 20 samples on.
    pub(crate) fn median(&self) -> Option<Duration> {
        let mut seen: [u32; KEPT] = array::from_fn(|slot| self.slots[slot].load(Ordering::Relaxed));
        let empty = seen.iter().filter(|micros| **micros == 0).count();
        let count = KEPT - empty;
        if count < MIN_SAMPLES {
            return None;
        }
        // Empty slots are zeros and sort first.
        let (_, median, _) = seen.select_nth_unstable(empty + count / 2);
        Some(Duration::from_micros(u64::from(*median - 1)))
    }
}

impl Default for RecentMedian {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_is_no_median_below_twenty_samples() {
        let recent = RecentMedian::new();
        for _ in 1..MIN_SAMPLES {
            recent.record(Duration::from_millis(7));
            assert_eq!(recent.median(), None);
        }
        recent.record(Duration::from_millis(7));
        assert_eq!(recent.median(), Some(Duration::from_millis(7)));
    }

    #[test]
    fn old_samples_are_forgotten() {
        let recent = RecentMedian::new();
        (0..1_000).for_each(|_| recent.record(Duration::from_secs(9)));
        (0..KEPT).for_each(|_| recent.record(Duration::from_millis(1)));
        assert_eq!(recent.median(), Some(Duration::from_millis(1)));
    }

    #[test]
    fn zero_and_endless_durations_are_samples_too() {
        let recent = RecentMedian::new();
        (0..MIN_SAMPLES).for_each(|_| recent.record(Duration::ZERO));
        assert_eq!(recent.median(), Some(Duration::ZERO));
        (0..KEPT).for_each(|_| recent.record(Duration::MAX));
        assert!(recent.median() > Some(Duration::from_secs(4_000)));
    }

    proptest! {
        #[test]
        fn the_median_lies_in_the_middle(samples in prop::collection::vec(0_u64..10_000_000, MIN_SAMPLES..KEPT)) {
            let recent = RecentMedian::new();
            samples.iter().for_each(|micros| recent.record(Duration::from_micros(*micros)));
            let mut sorted = samples;
            sorted.sort_unstable();
            let median = Duration::from_micros(sorted[sorted.len() / 2]);
            prop_assert_eq!(recent.median(), Some(median));
        }
    }
}
