//! The only file that draws randomness.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

/// Where jitter and picks draw their random numbers from.
///
/// The default draws from a generator that the operating system seeded. A seeded source makes a stack
/// deterministic: clones share one sequence, without a lock. Idempotency keys never come from here.
///
/// ```
/// use evenkeel::Random;
/// assert_eq!(Random::seeded(7).next_u64(), Random::seeded(7).next_u64());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Random {
    seeded: Option<Arc<AtomicU64>>,
}

impl Random {
    /// A source that gives the same sequence for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        // A first draw spreads neighbouring seeds: without it seed 1 would be seed 0 one draw later.
        let start = SmallRng::seed_from_u64(seed).next_u64();
        Self {
            seeded: Some(Arc::new(AtomicU64::new(start))),
        }
    }

    /// Draws 64 random bits.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    pub fn next_u64(&self) -> u64 {
        match &self.seeded {
            Some(counter) => {
                SmallRng::seed_from_u64(counter.fetch_add(1, Ordering::Relaxed)).next_u64()
            }
            None => rand::rng().next_u64(),
        }
    }

    /// Draws a number in [0, 1).
    #[must_use]
    pub fn unit(&self) -> f64 {
        unit(self.next_u64())
    }
}

/// Maps 64 random bits to [0, 1): the 53 bits that a double can hold.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Where idempotency keys come from: the generator that the operating system seeded.
///
/// Apart from [`Random`], so that a seeded stack still never sends a key twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySource {
    seeded: Option<Random>,
}

impl KeySource {
    /// The same keys for the same seed; for tests alone.
    #[cfg(feature = "test-util")]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            seeded: Some(Random::seeded(seed)),
        }
    }

    #[cfg(feature = "test-util")]
    pub(crate) const fn is_seeded(&self) -> bool {
        self.seeded.is_some()
    }

    /// Draws a version 4 UUID: 122 random bits.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    pub(crate) fn draw(&self) -> Uuid {
        match &self.seeded {
            None => Uuid::new_v4(),
            Some(random) => {
                let (high, low) = (random.next_u64(), random.next_u64());
                uuid::Builder::from_random_bytes(Uuid::from_u64_pair(high, low).into_bytes())
                    .into_uuid()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_seeded_source_share_one_sequence() {
        let one = Random::seeded(3);
        let two = one.clone();
        let drawn = [one.next_u64(), two.next_u64()];
        let again = Random::seeded(3);
        assert_eq!(drawn, [again.next_u64(), again.next_u64()]);
        assert_ne!(drawn[0], drawn[1]);
    }

    #[test]
    fn neighbouring_seeds_share_no_sequence() {
        let first: Vec<_> = {
            let r = Random::seeded(1);
            (0..50).map(|_| r.next_u64()).collect()
        };
        let other: Vec<_> = {
            let r = Random::seeded(2);
            (0..50).map(|_| r.next_u64()).collect()
        };
        assert!(first.iter().all(|drawn| !other.contains(drawn)));
    }

    #[test]
    fn units_lie_in_the_half_open_interval_around_one_half() {
        assert!(unit(u64::MAX) < 1.0);
        assert!(unit(0) >= 0.0);
        let random = Random::seeded(1);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "mean {mean}");
    }
}
