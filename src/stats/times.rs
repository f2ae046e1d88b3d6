use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use super::endpoints::{Distinct, tag};

const AT_BITS: u32 = 64 - u16::BITS;
const AT_MAX: u64 = (1 << AT_BITS) - 1;

/// Remembers when the last `n` events were, to say exactly whether `n` lie within a stretch.
///
/// Nothing is rounded to buckets, and the stretch slides: it never restarts from an event.
#[derive(Debug)]
pub(crate) struct Times {
    within: u64,
    next: AtomicU64,
    events: Box<[Event]>,
}

/// One event: `era:16 | microseconds:48` (never all zero, so that zero means none yet), and its
/// endpoint's tag or 0.
#[derive(Debug, Default)]
struct Event {
    at: AtomicU64,
    endpoint: AtomicU64,
}

impl Times {
    /// Watches for `count` events less than `within` apart.
    pub(crate) fn new(count: u32, within: Duration) -> Self {
        Self {
            within: u64::try_from(within.as_micros()).unwrap_or(u64::MAX),
            next: AtomicU64::new(0),
            events: (0..count.max(1)).map(|_| Event::default()).collect(),
        }
    }

    /// Records an event at `at` nanoseconds; true if the last `count` events, this one included,
    /// lie within the stretch.
    pub(crate) fn add(&self, era: u16, at: u64, endpoint: Option<u64>) -> bool {
        let at = micros(at);
        let index = self.next.fetch_add(1, AcqRel);
        let event = self.event(index);
        event
            .endpoint
            .store(endpoint.map_or(0, |serial| u64::from(tag(serial))), Relaxed);
        event.at.store(pack(era, at), Release);
        let oldest = self.event(index.wrapping_add(1)).at.load(Acquire);
        self.is_recent(oldest, era, at)
    }

    /// How many of the remembered events lie within the stretch that ends at `at` nanoseconds.
    pub(crate) fn count(&self, era: u16, at: u64) -> u32 {
        self.recent(era, at).count() as u32
    }

    /// On how many endpoints the events within the stretch were seen: 3 means three or more.
    pub(crate) fn endpoints(&self, era: u16, at: u64) -> usize {
        let mut distinct = Distinct::default();
        self.recent(era, at)
            .map(|event| event.endpoint.load(Relaxed) as u16)
            .filter(|&tag| tag != 0)
            .for_each(|tag| distinct.insert(tag));
        distinct.len()
    }

    fn recent(&self, era: u16, at: u64) -> impl Iterator<Item = &Event> {
        let at = micros(at);
        self.events
            .iter()
            .filter(move |event| self.is_recent(event.at.load(Acquire), era, at))
    }

    fn is_recent(&self, word: u64, era: u16, at: u64) -> bool {
        word & AT_MAX != 0
            && (word >> AT_BITS) as u16 == era
            && at.saturating_sub((word & AT_MAX) - 1) < self.within
    }

    fn event(&self, index: u64) -> &Event {
        &self.events[(index % self.events.len() as u64) as usize]
    }
}

fn pack(era: u16, at: u64) -> u64 {
    u64::from(era) << AT_BITS | (at + 1)
}

/// Microseconds, at most what fits beside the era (8.9 years).
fn micros(nanos: u64) -> u64 {
    (nanos / 1_000).min(AT_MAX - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Times;

    const SECOND: u64 = 1_000_000_000;

    fn adds(times: &Times, at: &[u64]) -> Vec<bool> {
        at.iter()
            .map(|&tenths| times.add(0, tenths * SECOND / 10, None))
            .collect()
    }

    #[test]
    fn sparse_events_are_not_within_the_stretch() {
        let times = Times::new(3, Duration::from_secs(5));
        assert_eq!(adds(&times, &[0, 50, 60]), [false, false, false]);
    }

    #[test]
    fn events_just_inside_the_stretch_count_wherever_it_starts() {
        let times = Times::new(3, Duration::from_secs(5));
        assert_eq!(adds(&times, &[9, 30, 58]), [false, false, true]);
    }

    #[test]
    fn one_event_is_enough_when_one_is_asked_for() {
        let times = Times::new(1, Duration::from_secs(5));
        assert_eq!(adds(&times, &[0]), [true]);
    }

    #[test]
    fn an_older_era_is_forgotten() {
        let times = Times::new(2, Duration::from_secs(5));
        times.add(1, 0, None);
        assert!(!times.add(2, 0, None));
        assert_eq!(times.count(2, 0), 1);
        assert!(times.add(2, 0, None));
    }

    #[test]
    fn endpoints_of_recent_events_are_told_apart() {
        let times = Times::new(4, Duration::from_secs(5));
        for serial in [1, 65, 65] {
            times.add(0, 0, Some(serial));
        }
        times.add(0, 0, None);
        assert_eq!(times.endpoints(0, 0), 2);
    }

    #[test]
    fn an_endless_stretch_holds_everything() {
        let times = Times::new(2, Duration::MAX);
        times.add(0, 0, None);
        assert!(times.add(0, u64::MAX, None));
    }
}
