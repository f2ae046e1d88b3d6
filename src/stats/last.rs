use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::endpoints::{Distinct, tag};
use super::window::Counts;

const BAD: u64 = 1;
const SLOW: u64 = 1 << 1;
const WRITTEN: u64 = 1 << 2;
const ERA_SHIFT: u32 = 48;
const TAG_SHIFT: u32 = 16;

/// What one result was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) bad: bool,
    pub(crate) slow: bool,
    pub(crate) endpoint: Option<u64>,
}

/// Remembers the last `n` results, however long ago they were.
///
/// One store per result; a question reads all `n`.
#[derive(Debug)]
pub(crate) struct Last {
    next: AtomicU64,
    /// `era:16 | (free):16 | tag:16 | written, slow, bad`.
    results: Box<[AtomicU64]>,
}

impl Last {
    /// Remembers the last `count` results.
    pub(crate) fn new(count: u32) -> Self {
        Self {
            next: AtomicU64::new(0),
            results: (0..count.max(1)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Records a result in the place of the oldest one.
    pub(crate) fn add(&self, era: u16, mark: Mark) {
        let index = self.next.fetch_add(1, AcqRel) % self.results.len() as u64;
        self.results[index as usize].store(pack(era, mark), Release);
    }

    /// Bad results among the remembered ones.
    pub(crate) fn bad(&self, era: u16) -> Counts {
        self.split(era, BAD)
    }

    /// Slow results among the remembered ones, as the bad ones of the counts.
    pub(crate) fn slow(&self, era: u16) -> Counts {
        self.split(era, SLOW)
    }

    /// On how many endpoints the bad results were seen: 3 means three or more.
    pub(crate) fn bad_endpoints(&self, era: u16) -> usize {
        let mut distinct = Distinct::default();
        self.of(era)
            .filter(|word| word & BAD != 0)
            .map(|word| (word >> TAG_SHIFT) as u16)
            .filter(|&tag| tag != 0)
            .for_each(|tag| distinct.insert(tag));
        distinct.len()
    }

    fn split(&self, era: u16, flag: u64) -> Counts {
        self.of(era).fold(Counts::default(), |mut counts, word| {
            match word & flag {
                0 => counts.good += 1,
                _ => counts.bad += 1,
            }
            counts
        })
    }

    fn of(&self, era: u16) -> impl Iterator<Item = u64> {
        self.results
            .iter()
            .map(|result| result.load(Acquire))
            .filter(move |word| word & WRITTEN != 0 && (word >> ERA_SHIFT) as u16 == era)
    }
}

fn pack(era: u16, mark: Mark) -> u64 {
    let endpoint = mark.endpoint.map_or(0, |serial| u64::from(tag(serial)));
    u64::from(era) << ERA_SHIFT
        | endpoint << TAG_SHIFT
        | WRITTEN
        | if mark.bad { BAD } else { 0 }
        | if mark.slow { SLOW } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::super::window::Counts;
    use super::{Last, Mark};

    const BAD: Mark = Mark {
        bad: true,
        slow: false,
        endpoint: None,
    };

    #[test]
    fn the_oldest_result_makes_room_for_the_newest() {
        let last = Last::new(3);
        last.add(0, BAD);
        for _ in 0..2 {
            last.add(0, Mark::default());
        }
        assert_eq!(last.bad(0), Counts { good: 2, bad: 1 });
        last.add(0, Mark::default());
        assert_eq!(last.bad(0), Counts { good: 3, bad: 0 });
    }

    #[test]
    fn a_new_era_starts_empty() {
        let last = Last::new(3);
        last.add(0, BAD);
        assert_eq!(last.bad(1), Counts::default());
    }

    #[test]
    fn slow_and_bad_are_counted_apart() {
        let last = Last::new(3);
        last.add(
            0,
            Mark {
                slow: true,
                ..Mark::default()
            },
        );
        last.add(0, BAD);
        assert_eq!(last.bad(0), Counts { good: 1, bad: 1 });
        assert_eq!(last.slow(0), Counts { good: 1, bad: 1 });
    }

    #[test]
    fn only_endpoints_of_bad_results_count() {
        let last = Last::new(8);
        let on = |serial, bad| Mark {
            bad,
            slow: false,
            endpoint: Some(serial),
        };
        for mark in [on(1, true), on(65, true), on(65, true), on(2, false)] {
            last.add(0, mark);
        }
        assert_eq!(last.bad_endpoints(0), 2);
    }
}
