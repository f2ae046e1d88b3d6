use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use super::endpoints::{Distinct, Tags};

/// The number of buckets: a window covers between nine and ten tenths of its length.
const BUCKETS: u32 = 10;

const COUNT_BITS: u32 = 18;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_BITS: u32 = 28;
const EPOCH_MASK: u32 = (1 << EPOCH_BITS) - 1;
/// How far apart two eras lie on the scale of epochs. Many times the window, so that they never
/// overlap; and the 2^16 eras go round exactly as the epochs do.
const ERA_SHIFT: u32 = EPOCH_BITS - u16::BITS;
/// A bucket ahead of a result by less than this holds newer results; by more, the scale has gone
/// round since it was written.
const AHEAD: u32 = 1 << 20;

/// Counts good and bad results over the last stretch of time, in ten buckets without a lock.
///
/// Known limits: the sum over the buckets is no atomic snapshot, so two results that race may
/// each miss the other (the next one sees both); a bucket that reaches 2^18 results halves both
/// of its counts, which keeps their ratio.
#[derive(Debug)]
pub(crate) struct Window {
    bucket_nanos: u64,
    buckets: [Bucket; BUCKETS as usize],
}

/// The results of one bucket, on a cache line of its own: `epoch:28 | bad:18 | good:18`, and the
/// endpoints of the bad ones (written on bad results only).
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    counts: AtomicU64,
    endpoints: Tags,
}

/// Good and bad results within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl Counts {
    pub(crate) fn total(self) -> u32 {
        self.good + self.bad
    }

    /// The share of bad results; 0 when there are none at all.
    pub(crate) fn bad_rate(self) -> f64 {
        f64::from(self.bad) / f64::from(self.total().max(1))
    }
}

impl Window {
    /// A window over `length`, which is at least 10 ns.
    pub(crate) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            bucket_nanos: (nanos / u64::from(BUCKETS)).max(1),
            buckets: Default::default(),
        }
    }

    /// Records a good result at `at` nanoseconds.
    pub(crate) fn add_good(&self, era: u16, at: u64) {
        self.add(self.epoch(era, at), Counts { good: 1, bad: 0 });
    }

    /// Records a bad result at `at` nanoseconds, on the endpoint with this serial if one is known.
    pub(crate) fn add_bad(&self, era: u16, at: u64, endpoint: Option<u64>) {
        let epoch = self.epoch(era, at);
        self.add(epoch, Counts { good: 0, bad: 1 });
        if let Some(serial) = endpoint {
            self.bucket(epoch).endpoints.insert(epoch, serial);
        }
    }

    /// What the window holds at `at` nanoseconds.
    pub(crate) fn counts(&self, era: u16, at: u64) -> Counts {
        let now = self.epoch(era, at);
        self.recent(now).fold(Counts::default(), |sum, (_, word)| {
            let bucket = word.counts();
            Counts {
                good: sum.good + bucket.good,
                bad: sum.bad + bucket.bad,
            }
        })
    }

    /// On how many endpoints the bad results in the window were seen: 3 means three or more.
    pub(crate) fn bad_endpoints(&self, era: u16, at: u64) -> usize {
        let now = self.epoch(era, at);
        let mut distinct = Distinct::default();
        self.recent(now)
            .for_each(|(bucket, word)| bucket.endpoints.collect(word.epoch, &mut distinct));
        distinct.len()
    }

    fn add(&self, epoch: u32, one: Counts) {
        // A failed update means that the bucket has moved on: the result is older than the window.
        let _ = self
            .bucket(epoch)
            .counts
            .fetch_update(AcqRel, Acquire, |word| Word::count(word, epoch, one));
    }

    fn recent(&self, now: u32) -> impl Iterator<Item = (&Bucket, Word)> {
        self.buckets.iter().filter_map(move |bucket| {
            let word = Word::from(bucket.counts.load(Acquire));
            // One bucket ahead counts too: a thread with a slightly later clock has opened it.
            let age = now.wrapping_add(1).wrapping_sub(word.epoch) & EPOCH_MASK;
            (age <= BUCKETS).then_some((bucket, word))
        })
    }

    fn bucket(&self, epoch: u32) -> &Bucket {
        &self.buckets[(epoch % BUCKETS) as usize]
    }

    /// The bucket's place on a scale where every era starts far after the one before.
    fn epoch(&self, era: u16, at: u64) -> u32 {
        let tick = (at / self.bucket_nanos) as u32;
        // Never 0 at the first result of the first era: 0 is what an unwritten bucket says.
        tick.wrapping_add((u32::from(era) << ERA_SHIFT) + BUCKETS + 1) & EPOCH_MASK
    }
}

#[derive(Clone, Copy)]
struct Word {
    epoch: u32,
    bad: u64,
    good: u64,
}

impl Word {
    fn counts(self) -> Counts {
        Counts {
            good: self.good as u32,
            bad: self.bad as u32,
        }
    }

    /// The word after one result more; `None` if this bucket already holds newer ones.
    #[inline(always)]
    fn count(word: u64, epoch: u32, one: Counts) -> Option<u64> {
        let before = Self::from(word);
        if before.epoch == epoch && before.bad < COUNT_MAX && before.good < COUNT_MAX {
            // Neither count reaches into the next one.
            return Some(word + (u64::from(one.bad) << COUNT_BITS | u64::from(one.good)));
        }
        before.plus(epoch, one).map(u64::from)
    }

    /// One result more; `None` if this bucket already holds newer ones.
    #[cold]
    fn plus(self, epoch: u32, one: Counts) -> Option<Self> {
        let ahead = self.epoch.wrapping_sub(epoch) & EPOCH_MASK;
        let before = match ahead {
            0 => self.halved_when_full(),
            1..AHEAD => return None,
            _ => Self {
                epoch,
                bad: 0,
                good: 0,
            },
        };
        Some(Self {
            bad: before.bad + u64::from(one.bad),
            good: before.good + u64::from(one.good),
            ..before
        })
    }

    fn halved_when_full(self) -> Self {
        if self.bad < COUNT_MAX && self.good < COUNT_MAX {
            return self;
        }
        Self {
            bad: self.bad / 2,
            good: self.good / 2,
            ..self
        }
    }
}

impl From<u64> for Word {
    fn from(word: u64) -> Self {
        Self {
            epoch: (word >> (2 * COUNT_BITS)) as u32,
            bad: word >> COUNT_BITS & COUNT_MAX,
            good: word & COUNT_MAX,
        }
    }
}

impl From<Word> for u64 {
    fn from(word: Word) -> Self {
        Self::from(word.epoch) << (2 * COUNT_BITS) | word.bad << COUNT_BITS | word.good
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::{COUNT_MAX, Counts, Window, Word};

    const SECOND: u64 = 1_000_000_000;

    fn window() -> Window {
        Window::new(Duration::from_secs(10))
    }

    #[test]
    fn results_leave_the_window_after_its_length() {
        let window = window();
        window.add_bad(0, 0, None);
        window.add_good(0, 5 * SECOND);
        assert_eq!(window.counts(0, 9 * SECOND), Counts { good: 1, bad: 1 });
        assert_eq!(window.counts(0, 10 * SECOND), Counts { good: 1, bad: 0 });
        assert_eq!(window.counts(0, 15 * SECOND), Counts::default());
    }

    #[test]
    fn a_bucket_is_reused_after_a_lap_without_its_old_counts() {
        let window = window();
        window.add_bad(0, 0, Some(1));
        window.add_good(0, 10 * SECOND);
        assert_eq!(window.counts(0, 10 * SECOND), Counts { good: 1, bad: 0 });
        assert_eq!(window.bad_endpoints(0, 10 * SECOND), 0);
    }

    #[test]
    fn a_new_era_starts_empty_and_keeps_out_what_comes_late_from_the_old_one() {
        let window = window();
        window.add_bad(3, 0, None);
        assert_eq!(window.counts(4, 0), Counts::default());
        window.add_good(4, 0);
        window.add_bad(3, 0, None);
        assert_eq!(window.counts(4, 0), Counts { good: 1, bad: 0 });
    }

    #[test]
    fn eras_go_round_without_mixing() {
        let window = window();
        window.add_bad(u16::MAX, 0, None);
        assert_eq!(window.counts(0, 0), Counts::default());
        window.add_good(0, 0);
        assert_eq!(window.counts(0, 0), Counts { good: 1, bad: 0 });
    }

    #[test]
    fn endpoints_are_united_over_the_buckets() {
        let window = window();
        for (second, serial) in [(0, 1), (1, 65), (2, 1), (3, 129)] {
            window.add_bad(0, second * SECOND, Some(serial));
        }
        assert_eq!(window.bad_endpoints(0, 3 * SECOND), 3);
        assert_eq!(window.bad_endpoints(0, 11 * SECOND), 2);
    }

    #[test]
    fn a_full_bucket_keeps_its_ratio() {
        let full = Word {
            epoch: 1,
            bad: COUNT_MAX / 4,
            good: COUNT_MAX,
        };
        let after = full.plus(1, Counts { good: 1, bad: 0 }).unwrap().counts();
        assert!((after.bad_rate() - 0.2).abs() < 0.001);
    }

    #[test]
    fn the_longest_window_does_not_overflow() {
        let window = Window::new(Duration::MAX);
        window.add_bad(0, u64::MAX, None);
        assert_eq!(window.counts(0, u64::MAX).bad, 1);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_list(mut results in prop::collection::vec((0..40 * SECOND, prop::bool::ANY), 1..60)) {
            results.sort_unstable();
            let window = window();
            for (index, &(at, good)) in results.iter().enumerate() {
                if good { window.add_good(9, at) } else { window.add_bad(9, at, None) }
                let inside = results[..=index].iter().filter(|(then, _)| at / SECOND - then / SECOND < 10);
                let good = inside.clone().filter(|(_, good)| *good).count() as u32;
                let bad = inside.count() as u32 - good;
                prop_assert_eq!(window.counts(9, at), Counts { good, bad });
            }
        }
    }
}
