use std::time::Duration;

use crate::retry::config::{Backoff, Jitter};

/// The base of proportional jitter is capped at max / 1.5, so that the half that it adds never passes max.
const PROPORTIONAL_SHARE: f64 = 0.5;

/// How much a decorrelated delay may exceed the one before it, at most.
const DECORRELATED_GROWTH: f64 = 3.0;

impl Backoff {
    /// The wait before retry number `retry` (from 1), for a random number in [0, 1).
    ///
    /// `previous` is the wait before this one; only decorrelated jitter asks for it. Never zero, never above
    /// the maximum, whatever the arguments: all arithmetic saturates.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evenkeel::{Backoff, Jitter};
    ///
    /// let backoff = Backoff::default().initial(Duration::from_millis(100)).jitter(Jitter::None);
    /// assert_eq!(backoff.delay(1, None, 0.5), Duration::from_millis(100));
    /// assert_eq!(backoff.delay(3, None, 0.5), Duration::from_millis(400));
    /// assert_eq!(backoff.delay(u32::MAX, None, 0.5), Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn delay(&self, retry: u32, previous: Option<Duration>, unit: f64) -> Duration {
        let max = nanos(self.max);
        let base = self.base(retry, max);
        // From (0, 1]: a full jitter of exactly zero would be a retry without a wait.
        let unit = 1.0 - unit.clamp(0.0, 1.0);
        let delay = match self.jitter {
            Jitter::Full => base * unit,
            Jitter::Equal => base * (0.5 + 0.5 * unit),
            Jitter::Decorrelated => self.decorrelated(previous, max, unit),
            Jitter::Proportional => {
                base.min(max / (1.0 + PROPORTIONAL_SHARE)) * (1.0 + PROPORTIONAL_SHARE * unit)
            }
            Jitter::None => base,
        };
        duration(delay).clamp(
            Duration::from_nanos(1),
            self.max.max(Duration::from_nanos(1)),
        )
    }

    /// `min(initial * multiplier^(retry - 1), max)` in nanoseconds; a double overflows to infinity, not to zero.
    fn base(&self, retry: u32, max: f64) -> f64 {
        let exponent = f64::from(retry.saturating_sub(1));
        (nanos(self.initial) * self.multiplier.powf(exponent)).min(max)
    }

    /// Between initial and three times the previous wait. What lies above the maximum is not cut to it but
    /// drawn again, which is a draw from the part below it: at the cap clients stay spread.
    fn decorrelated(&self, previous: Option<Duration>, max: f64, unit: f64) -> f64 {
        let low = nanos(self.initial).min(max);
        let high = (nanos(previous.unwrap_or(self.initial)) * DECORRELATED_GROWTH).clamp(low, max);
        low + (high - low) * unit
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a wait needs no 128 bits of precision"
)]
fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Saturates: a float cast to an integer stops at its bounds and takes not-a-number as zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates by definition"
)]
fn duration(nanos: f64) -> Duration {
    let seconds = (nanos / 1e9) as u64;
    if seconds >= u64::from(u32::MAX) {
        return Duration::from_secs(seconds);
    }
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JITTERS: [Jitter; 5] = [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::Proportional,
        Jitter::None,
    ];

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn backoff(initial: u64, max: u64, jitter: Jitter) -> Backoff {
        Backoff::default()
            .initial(ms(initial))
            .max(ms(max))
            .jitter(jitter)
    }

    /// Evenly spread numbers in [0, 1).
    fn units(count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |step| f64::from(step) / f64::from(count))
    }

    // BKO-06, elennick/retry4j#36
    #[test]
    fn delays_start_at_initial_and_double() {
        let plain = backoff(100, 5_000, Jitter::None);
        let delays: Vec<_> = (1..=5).map(|retry| plain.delay(retry, None, 0.3)).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(400), ms(800), ms(1_600)]);
    }

    // BKO-01, scylladb/latte#208, zenml-io/zenml#5265; BKO-02, dragonflyoss/dragonfly#4852
    #[test]
    fn delays_grow_to_the_cap_and_stay_there_for_ever() {
        for (initial, max) in [(100, 5_000), (30, 1_000), (1, u64::MAX)] {
            let plain = backoff(initial, max, Jitter::None);
            let mut last = Duration::ZERO;
            for retry in (1..=1_000).chain([1 << 31, u32::MAX - 1, u32::MAX]) {
                let delay = plain.delay(retry, None, 0.5);
                assert!(
                    delay >= last && delay <= ms(max),
                    "{retry}: {delay:?} after {last:?}"
                );
                last = delay;
            }
            assert_eq!(last, ms(max));
        }
    }

    #[test]
    fn no_delay_is_ever_zero() {
        for jitter in JITTERS {
            let backoff = backoff(30, 1_000, jitter);
            for retry in (1..=1_000).chain([u32::MAX]) {
                for unit in [0.0, 0.999_999_999_999_999_9, 1.0, -1.0, f64::NAN] {
                    assert!(
                        backoff.delay(retry, Some(Duration::ZERO), unit) > Duration::ZERO,
                        "{jitter:?} {retry}"
                    );
                }
            }
        }
    }

    // BKO-03, cenkalti/backoff#117, #139, agenda/agenda#1748
    #[test]
    fn jitter_never_passes_the_maximum() {
        for jitter in JITTERS {
            let backoff = backoff(100, 500, jitter);
            for unit in units(10_000) {
                let delay = backoff.delay(20, Some(ms(500)), unit);
                assert!(delay <= ms(500), "{jitter:?}: {delay:?}");
            }
        }
    }

    // BKO-04, ferd/backoff#8
    #[test]
    fn at_the_cap_clients_are_still_spread() {
        for jitter in [
            Jitter::Full,
            Jitter::Equal,
            Jitter::Decorrelated,
            Jitter::Proportional,
        ] {
            let backoff = backoff(100, 900, jitter);
            let delays: Vec<_> = units(1_000)
                .map(|unit| backoff.delay(40, Some(ms(900)), unit))
                .collect();
            let at_cap = delays.iter().filter(|delay| **delay == ms(900)).count();
            let (low, high) = (delays.iter().min(), delays.iter().max());
            assert!(at_cap <= 1, "{jitter:?}: {at_cap} of 1000 at the cap");
            assert!(
                high.zip(low)
                    .is_some_and(|(high, low)| *high - *low >= ms(290)),
                "{jitter:?}: {low:?} {high:?}"
            );
        }
    }

    #[test]
    fn full_jitter_is_uniform_over_the_interval() {
        let full = backoff(100, 1_000, Jitter::Full);
        let below_half = units(1_000)
            .filter(|unit| full.delay(40, None, *unit) < ms(500))
            .count();
        assert!((495..=505).contains(&below_half), "{below_half}");
    }

    // BKO-05, Xuanwo/backon#184
    #[test]
    fn the_spread_grows_with_the_delay() {
        for jitter in [Jitter::Full, Jitter::Equal, Jitter::Proportional] {
            let backoff = backoff(100, 60_000, jitter);
            let spread =
                |retry| backoff.delay(retry, None, 0.0) - backoff.delay(retry, None, 0.999);
            let growth = spread(9).as_secs_f64() / spread(1).as_secs_f64();
            assert!((250.0..262.0).contains(&growth), "{jitter:?}: {growth}");
        }
    }

    #[test]
    fn decorrelated_delays_follow_the_one_before() {
        let backoff = backoff(100, 10_000, Jitter::Decorrelated);
        assert_eq!(backoff.delay(7, None, 0.0), ms(300));
        assert_eq!(backoff.delay(1, Some(ms(1_000)), 0.0), ms(3_000));
        assert!(backoff.delay(1, Some(ms(1_000)), 0.999_999) < ms(101));
    }

    proptest! {
        #[test]
        fn every_delay_lies_within_its_bounds(
            initial in 1_u64..u64::MAX, max in 1_u64..u64::MAX, multiplier in 1.0..1e9_f64,
            retry: u32, previous in prop::option::of(any::<u64>()), unit in 0.0..1.0_f64, jitter in 0..5_usize,
        ) {
            let max = Duration::from_nanos(max);
            let backoff = Backoff::default().initial(Duration::from_nanos(initial)).max(max)
                .multiplier(multiplier).jitter(JITTERS[jitter]);
            let delay = backoff.delay(retry, previous.map(Duration::from_nanos), unit);
            prop_assert!(delay > Duration::ZERO && delay <= max);
        }
    }
}
