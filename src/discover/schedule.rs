//! When to look up again. `unit` is a random number from 0 up to, not including, 1.

use std::time::Duration;

/// Shortest time between two lookups, whatever was asked for and whatever the jitter.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// Longest time between two failed lookups: a resolver that is back should be noticed within a minute.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How far a delay is moved either way, so that clients started together do not ask together.
const JITTER: f64 = 0.2;

/// The delay after a lookup that answered; `None` means never again.
pub(super) fn after_success(every: Duration, unit: f64) -> Option<Duration> {
    (every != Duration::MAX).then(|| spread(every, unit))
}

/// The delay after `failures` lookups in a row that did not: doubled each time, and no longer than the usual one.
pub(super) fn after_failure(every: Duration, failures: u32, unit: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    spread(
        (SHORTEST * (1 << doublings))
            .min(LONGEST_BACKOFF)
            .min(every),
        unit,
    )
}

fn spread(delay: Duration, unit: f64) -> Duration {
    let factor = 1.0 - JITTER + 2.0 * JITTER * unit;
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor)
        .unwrap_or(Duration::MAX)
        .max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop_assert, proptest};

    use super::{SHORTEST, after_failure, after_success};

    const HALF_MINUTE: Duration = Duration::from_secs(30);

    #[test]
    fn a_delay_moves_by_a_fifth_either_way() {
        assert_eq!(
            after_success(HALF_MINUTE, 0.0),
            Some(Duration::from_secs(24))
        );
        assert_eq!(after_success(HALF_MINUTE, 0.5), Some(HALF_MINUTE));
        assert!(
            after_success(HALF_MINUTE, 0.999)
                .is_some_and(|delay| delay > Duration::from_millis(35_900))
        );
    }

    // TMO-08, tokio-rs/tokio#3551
    #[test]
    fn the_longest_duration_means_never_again_and_others_near_it_do_not_overflow() {
        assert_eq!(after_success(Duration::MAX, 0.9), None);
        let nearly = Duration::MAX - Duration::from_nanos(1);
        assert!(
            after_success(nearly, 0.999)
                .is_some_and(|delay| delay > Duration::from_secs(u64::MAX / 2))
        );
        assert!(after_failure(Duration::MAX, u32::MAX, 0.999) < Duration::from_secs(73));
    }

    #[test]
    fn failures_double_the_delay_up_to_the_usual_one() {
        let delays: Vec<u64> = (1..=7)
            .map(|failures| after_failure(HALF_MINUTE, failures, 0.5).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    }

    proptest! {
        // DSC-03, temporalio/sdk-rust#1266
        #[test]
        fn no_delay_is_below_the_floor(nanos in any::<u64>(), failures in any::<u32>(), unit in 0.0..1.0) {
            let every = Duration::from_nanos(nanos);
            prop_assert!(after_success(every, unit) >= Some(SHORTEST));
            prop_assert!(after_failure(every, failures, unit) >= SHORTEST);
        }
    }
}
