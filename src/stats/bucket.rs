use std::time::Duration;

use crate::sync::atomic::{AtomicI64, Ordering};

/// How far above its capacity a bucket may stand before a deposit writes that down: what lies above is never
/// granted, unless the capacity grows before the next write.
const SLACK: i64 = UNIT / 10;

/// Tokens are counted in millionths, so that a ratio of 0.6 or 0.0001 is exact in every sum.
pub(crate) const UNIT: i64 = 1_000_000;

/// A token bucket: exact, lock-free, refilled continuously.
///
/// One word holds everything. It stores the level *minus* what the refill has brought since the start, so
/// that level, refill and capacity change together in one compare-and-swap and no refill is ever credited
/// twice or lost between two words. Instants that arrive out of order only make the answer a little stale.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    level_at_start: AtomicI64,
    /// Units per second.
    refill: i64,
}

impl TokenBucket {
    /// Amounts in units; `refill` in units per second.
    pub(crate) fn new(refill: i64, level: i64) -> Self {
        Self {
            level_at_start: AtomicI64::new(level),
            refill,
        }
    }

    /// Adds up to the capacity; `elapsed` is the time since the bucket's start.
    pub(crate) fn deposit(&self, amount: i64, capacity: i64, elapsed: Duration) {
        let refilled = self.refilled(elapsed);
        let mut stored = self.level_at_start.load(Ordering::Relaxed);
        loop {
            let level = stored.saturating_add(refilled);
            // A full bucket stays full without a write: the usual case costs one load.
            if (capacity..=capacity.saturating_add(SLACK)).contains(&level) {
                return;
            }
            let level = level.saturating_add(amount).min(capacity);
            match self.replace(stored, level.saturating_sub(refilled)) {
                Ok(_) => return,
                Err(current) => stored = current,
            }
        }
    }

    /// Takes all of the amount or nothing.
    pub(crate) fn withdraw(&self, amount: i64, capacity: i64, elapsed: Duration) -> bool {
        let refilled = self.refilled(elapsed);
        let mut stored = self.level_at_start.load(Ordering::Relaxed);
        loop {
            let level = stored.saturating_add(refilled).min(capacity);
            if level < amount {
                return false;
            }
            match self.replace(
                stored,
                level.saturating_sub(amount).saturating_sub(refilled),
            ) {
                Ok(_) => return true,
                Err(current) => stored = current,
            }
        }
    }

    /// Sets the level.
    pub(crate) fn set(&self, level: i64, elapsed: Duration) {
        self.level_at_start.store(
            level.saturating_sub(self.refilled(elapsed)),
            Ordering::Relaxed,
        );
    }

    /// What it holds, 0 to the capacity.
    pub(crate) fn level(&self, capacity: i64, elapsed: Duration) -> i64 {
        let level = self
            .level_at_start
            .load(Ordering::Relaxed)
            .saturating_add(self.refilled(elapsed));
        level.clamp(0, capacity.max(0))
    }

    fn refilled(&self, elapsed: Duration) -> i64 {
        if self.refill == 0 {
            return 0;
        }
        let seconds = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
        // Exact up to 18 billion units per second; a division of 128 bits would cost more than all the rest.
        let fraction = u64::from(elapsed.subsec_nanos()).saturating_mul(self.refill.unsigned_abs())
            / 1_000_000_000;
        self.refill
            .saturating_mul(seconds)
            .saturating_add_unsigned(fraction)
    }

    // Relaxed is enough: the word is all the state there is, nothing else is published through it.
    fn replace(&self, current: i64, new: i64) -> Result<i64, i64> {
        self.level_at_start.compare_exchange_weak(
            current,
            new,
            Ordering::Relaxed,
            Ordering::Relaxed,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const NEVER: i64 = 1_000_000 * UNIT;

    fn drain(bucket: &TokenBucket, capacity: i64, elapsed: Duration) -> i64 {
        (0..10_000)
            .take_while(|_| bucket.withdraw(UNIT, capacity, elapsed))
            .count() as i64
    }

    #[test]
    fn fractions_add_up_exactly() {
        for (amount, granted) in [
            (600_000, 6),
            (300_000, 3),
            (10_000, 0),
            (1_500_000, 15),
            (0, 0),
            (100_000, 1),
        ] {
            let bucket = TokenBucket::new(0, 0);
            (0..10).for_each(|_| bucket.deposit(amount, NEVER, Duration::ZERO));
            assert_eq!(drain(&bucket, NEVER, Duration::ZERO), granted, "{amount}");
        }
    }

    #[test]
    fn refill_is_continuous_and_stops_at_the_capacity() {
        let capacity = 10 * UNIT;
        let bucket = TokenBucket::new(10 * UNIT, 0);
        assert_eq!(drain(&bucket, capacity, Duration::from_millis(99)), 0);
        assert_eq!(drain(&bucket, capacity, Duration::from_millis(100)), 1);
        assert_eq!(drain(&bucket, capacity, Duration::from_millis(1_100)), 10);
        assert_eq!(drain(&bucket, capacity, Duration::from_secs(3_600)), 10);
        assert_eq!(drain(&bucket, capacity, Duration::MAX), 10);
    }

    #[test]
    fn an_instant_from_before_takes_nothing_back() {
        let capacity = 10 * UNIT;
        let bucket = TokenBucket::new(UNIT, 0);
        assert!(bucket.withdraw(UNIT, capacity, Duration::from_secs(9)));
        assert_eq!(bucket.level(capacity, Duration::from_secs(1)), 0);
        assert!(!bucket.withdraw(UNIT, capacity, Duration::from_secs(1)));
        assert_eq!(bucket.level(capacity, Duration::from_secs(9)), 8 * UNIT);
    }

    #[test]
    fn threads_lose_no_update_and_never_leave_the_range() {
        let capacity = 1_000 * UNIT;
        let bucket = TokenBucket::new(0, 0);
        let taken: i64 = thread::scope(|scope| {
            let work = || {
                (0..10_000)
                    .filter(|_| {
                        bucket.deposit(600_000, NEVER, Duration::ZERO);
                        bucket.withdraw(UNIT, NEVER, Duration::ZERO)
                    })
                    .count() as i64
            };
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"))
                .sum()
        });
        assert_eq!(
            taken * UNIT + bucket.level(NEVER, Duration::ZERO),
            8 * 10_000 * 600_000
        );
        assert!((0..=capacity).contains(&bucket.level(capacity, Duration::ZERO)));
    }

    proptest! {
        #[test]
        fn grants_never_exceed_start_plus_deposits_plus_refill(
            refill in 0..20 * UNIT,
            capacity in 0..20 * UNIT,
            steps in prop::collection::vec((0_u64..2_000, 0..3 * UNIT, any::<bool>()), 1..60),
        ) {
            let bucket = TokenBucket::new(refill, 0);
            let (mut elapsed, mut deposited, mut granted) = (Duration::ZERO, 0_i64, 0_i64);
            for (wait, amount, withdraw) in steps {
                elapsed += Duration::from_millis(wait);
                if withdraw {
                    granted += i64::from(bucket.withdraw(UNIT, capacity, elapsed)) * UNIT;
                } else {
                    bucket.deposit(amount, capacity, elapsed);
                    deposited += amount;
                }
                let level = bucket.level(capacity, elapsed);
                prop_assert!((0..=capacity).contains(&level));
                let refilled = (elapsed.as_millis() as i64) * refill / 1_000;
                prop_assert!(granted + level <= deposited + refilled);
            }
        }
    }
}
