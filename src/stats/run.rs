use super::endpoints::Tags;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};

/// Failures since the last success: `era:16 | length:48`, and the endpoints they were seen on.
#[derive(Debug)]
pub(crate) struct Run {
    enough: u64,
    length: AtomicU64,
    /// Tagged with the era and the number of the run, so that a new run has none.
    endpoints: Tags,
    number: AtomicU64,
}

const LENGTH_BITS: u32 = 48;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;

impl Run {
    /// Watches for a run of `enough` events.
    pub(crate) fn new(enough: u32) -> Self {
        Self {
            enough: u64::from(enough),
            length: AtomicU64::new(0),
            endpoints: Tags::default(),
            number: AtomicU64::new(0),
        }
    }

    /// One failure more; true if they are enough. `live` says whether the era is not over yet: a
    /// late failure of an older one must not end the run of a later one.
    pub(crate) fn add(&self, era: u16, endpoint: Option<u64>, live: impl Fn() -> bool) -> bool {
        let tag = u64::from(era) << LENGTH_BITS;
        let step = |word: u64| match word & !LENGTH_MASK == tag {
            true => Some((word + 1).min(tag | LENGTH_MASK)),
            false => live().then_some(tag | 1),
        };
        let Ok(before) = self.length.fetch_update(AcqRel, Acquire, step) else {
            return false;
        };
        if let Some(serial) = endpoint {
            self.endpoints.insert(self.epoch(era), serial);
        }
        let same = before & !LENGTH_MASK == tag;
        let length = if same { (before & LENGTH_MASK) + 1 } else { 1 };
        length >= self.enough
    }

    /// A success. Where no failure came before it, the line is only read.
    pub(crate) fn end(&self, era: u16) {
        let tag = u64::from(era) << LENGTH_BITS;
        let ended = self.length.fetch_update(AcqRel, Acquire, |word| {
            (word & !LENGTH_MASK == tag && word != tag).then_some(tag)
        });
        if ended.is_ok() {
            self.number.fetch_add(1, AcqRel);
        }
    }

    /// How long the run is.
    pub(crate) fn length(&self, era: u16) -> u32 {
        let word = self.length.load(Acquire);
        match (word >> LENGTH_BITS) as u16 == era {
            true => (word & LENGTH_MASK) as u32,
            false => 0,
        }
    }

    /// On how many endpoints the run was seen: 3 means three or more.
    pub(crate) fn endpoints(&self, era: u16) -> usize {
        self.endpoints.count(self.epoch(era))
    }

    fn epoch(&self, era: u16) -> u32 {
        (self.number.load(Acquire) as u32).wrapping_add(u32::from(era).wrapping_mul(31))
    }
}

#[cfg(test)]
mod tests {
    use super::Run;

    #[test]
    fn a_run_is_enough_from_its_length_on() {
        let run = Run::new(2);
        assert!(!run.add(0, None, || true));
        assert!(run.add(0, None, || true));
        assert!(run.add(0, None, || true));
        assert_eq!(run.length(0), 3);
    }

    #[test]
    fn a_success_starts_a_new_run_on_no_endpoint() {
        let run = Run::new(2);
        run.add(0, Some(1), || true);
        run.end(0);
        assert_eq!((run.length(0), run.endpoints(0)), (0, 0));
        assert!(!run.add(0, Some(2), || true));
        assert_eq!(run.endpoints(0), 1);
    }

    #[test]
    fn a_late_failure_of_an_older_era_does_not_end_the_run_of_a_later_one() {
        let run = Run::new(2);
        run.add(2, Some(1), || true);
        assert!(!run.add(1, Some(2), || false));
        assert_eq!((run.length(2), run.endpoints(2)), (1, 1));
        assert!(run.add(2, Some(3), || true));
    }

    #[test]
    fn eras_do_not_mix() {
        let run = Run::new(2);
        run.add(1, Some(1), || true);
        run.end(2);
        assert!(!run.add(2, Some(2), || true));
        assert_eq!((run.length(2), run.endpoints(2)), (1, 1));
    }
}
