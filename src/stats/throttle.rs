use super::budget::Budget;
use crate::{
    error::InvalidSetting,
    sync::atomic::{AtomicU32, Ordering},
};

/// The most that gRPC's service config allows.
const MAX_TOKENS: u32 = 1_000;

/// Tokens are counted in thousandths, as gRFC A6 counts the ratio.
const MILLI: u32 = 1_000;

/// The throttling of retries that gRFC A6 describes: failures take a token, successes bring a part of one, and retries go
/// while more than half of the tokens are there.
///
/// One word holds everything: no update is lost.
#[derive(Debug)]
pub(crate) struct Throttle {
    tokens: AtomicU32,
    max: u32,
    per_success: u32,
}

impl Throttle {
    /// Amounts in thousandths of a token; it starts full.
    pub(crate) fn new(max: u32, per_success: u32) -> Self {
        Self {
            tokens: AtomicU32::new(max),
            max,
            per_success,
        }
    }

    pub(crate) fn succeeded(&self) {
        // A full one stays full without a write: the usual case costs one load.
        if self.level() < self.max {
            self.update(|tokens| tokens.saturating_add(self.per_success).min(self.max));
        }
    }

    pub(crate) fn failed(&self) {
        self.update(|tokens| tokens.saturating_sub(MILLI));
    }

    pub(crate) fn lets_through(&self) -> bool {
        self.is_above_half(self.level())
    }

    /// Whether it would after one more failure.
    pub(crate) fn would_let_through(&self) -> bool {
        self.is_above_half(self.level().saturating_sub(MILLI))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.level() >= self.max
    }

    pub(crate) fn tokens(&self) -> f64 {
        f64::from(self.level()) / f64::from(MILLI)
    }

    pub(crate) fn set(&self, tokens: u32) {
        let level = tokens.saturating_mul(MILLI).min(self.max);
        self.tokens.store(level, Ordering::Relaxed);
    }

    const fn is_above_half(&self, tokens: u32) -> bool {
        tokens > self.max / 2
    }

    fn level(&self) -> u32 {
        self.tokens.load(Ordering::Relaxed)
    }

    // Relaxed is enough: the word is all the state there is, nothing else is published through it.
    fn update(&self, change: impl Fn(u32) -> u32) {
        let (mut seen, order) = (self.level(), Ordering::Relaxed);
        while let Err(now) = self
            .tokens
            .compare_exchange_weak(seen, change(seen), order, order)
        {
            seen = now;
        }
    }
}

impl Budget {
    /// The `retryThrottling` of a gRPC service config, by the rule of [gRFC A6]: it starts with `max_tokens`; every
    /// attempt that fails with a status that is retried, and every one whose server says not to retry, takes one, in
    /// whatever call; every success brings `token_ratio` of one. Calls are retried while more than half of
    /// `max_tokens` are there, and a failure counts before its own retry is decided on.
    ///
    /// A status that is not retried, and a response that is dropped before its end, count as neither. Unlike A6 counts
    /// it, so does a failure of which it is known that nothing was processed: no kind of retry is free.
    ///
    /// `max_tokens`: 1 to 1000. `token_ratio`: 0.001 to 1000; decimals beyond the third are ignored.
    ///
    /// ```
    /// use evenkeel::{Budget, Retry, classify::Classifier};
    ///
    /// let policy = Retry::default()
    ///     .classifier(Classifier::grpc())
    ///     .budget(Budget::grpc_throttling(10, 0.1)?)
    ///     .build()?;
    /// # Ok::<(), evenkeel::InvalidSetting>(())
    /// ```
    ///
    /// # Errors
    /// If a number is out of range or not finite.
    ///
    /// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs
    pub fn grpc_throttling(max_tokens: u32, token_ratio: f64) -> Result<Self, InvalidSetting> {
        let field = "Budget::max_tokens";
        if !(1..=MAX_TOKENS).contains(&max_tokens) {
            return Err(InvalidSetting::new(field, max_tokens, "1 to 1000"));
        }
        let field = "Budget::token_ratio";
        if !(0.001..=f64::from(MAX_TOKENS)).contains(&token_ratio) {
            return Err(InvalidSetting::new(field, token_ratio, "0.001 to 1000"));
        }
        let throttle = Throttle::new(max_tokens * MILLI, thousandths(token_ratio));
        Ok(Self::from_throttle(throttle))
    }
}

/// Cut off after the third decimal; 0.57 is 570, though as a double it lies a little below.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "in range: checked by the caller"
)]
fn thousandths(ratio: f64) -> u32 {
    (ratio * f64::from(MILLI) + 1e-9).floor() as u32
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retries_go_while_more_than_half_of_the_tokens_are_there() {
        for (max, failures) in [(10, 4), (9, 4), (1, 0), (2, 0), (3, 1), (1_000, 499)] {
            let throttle = Throttle::new(max * MILLI, 100);
            let passed = (0..max).take_while(|_| {
                throttle.failed();
                throttle.lets_through()
            });
            assert_eq!(passed.count(), failures as usize, "{max} tokens");
        }
    }

    #[test]
    fn what_one_more_failure_would_do_is_known_before_it() {
        let throttle = Throttle::new(10 * MILLI, 100);
        for _ in 0..10 {
            let foretold = throttle.would_let_through();
            throttle.failed();
            assert_eq!(throttle.lets_through(), foretold);
        }
    }

    #[test]
    fn successes_bring_their_part_up_to_the_maximum_and_failures_end_at_zero() {
        let throttle = Throttle::new(10 * MILLI, 100);
        throttle.succeeded();
        assert!(throttle.is_full());
        (0..5).for_each(|_| throttle.failed());
        assert!(
            !throttle.lets_through(),
            "exactly half is not more than half"
        );
        throttle.succeeded();
        assert!(throttle.lets_through());
        (0..20).for_each(|_| throttle.failed());
        assert_eq!(throttle.level(), 0);
        (0..50).for_each(|_| throttle.succeeded());
        assert!(!throttle.lets_through());
        throttle.succeeded();
        assert!(throttle.lets_through());
    }

    #[test]
    fn threads_lose_no_update() {
        let throttle = Throttle::new(1_000 * MILLI, 1);
        throttle.set(500);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25_000).for_each(|_| throttle.succeeded()));
                scope.spawn(|| (0..25).for_each(|_| throttle.failed()));
            }
        });
        assert_eq!(throttle.level(), 500 * MILLI);
    }

    #[test]
    fn a_token_ratio_is_cut_off_after_the_third_decimal_and_not_before() {
        for (ratio, expected) in [
            (0.1, 100),
            (0.57, 570),
            (0.001, 1),
            (0.0019, 1),
            (0.1239, 123),
            (1.005, 1_005),
            (1_000.0, 1_000_000),
        ] {
            assert_eq!(thousandths(ratio), expected, "{ratio}");
        }
        for millis in 1..=10_000_u32 {
            assert_eq!(thousandths(f64::from(millis) / 1_000.0), millis);
        }
    }

    #[test]
    fn throttling_out_of_range_is_refused_with_its_field() {
        for (max_tokens, ratio, field) in [
            (0, 0.1, "Budget::max_tokens"),
            (1_001, 0.1, "Budget::max_tokens"),
            (u32::MAX, 0.1, "Budget::max_tokens"),
            (10, 0.0, "Budget::token_ratio"),
            (10, 0.000_9, "Budget::token_ratio"),
            (10, -0.1, "Budget::token_ratio"),
            (10, f64::NAN, "Budget::token_ratio"),
            (10, f64::INFINITY, "Budget::token_ratio"),
        ] {
            let refused = Budget::grpc_throttling(max_tokens, ratio).expect_err(field);
            assert_eq!(refused.field(), field);
        }
        assert!(Budget::grpc_throttling(1, 0.001).is_ok());
        assert!(Budget::grpc_throttling(1_000, 1_000.0).is_ok());
    }

    proptest! {
        #[test]
        fn tokens_are_what_a_plain_sum_says(
            max in 1_u32..=1_000,
            per_success in 1_u32..=10 * MILLI,
            ends in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let throttle = Throttle::new(max * MILLI, per_success);
            let mut sum = i64::from(max) * 1_000;
            for success in ends {
                if success {
                    throttle.succeeded();
                    sum += i64::from(per_success);
                } else {
                    throttle.failed();
                    sum -= 1_000;
                }
                sum = sum.clamp(0, i64::from(max) * 1_000);
                prop_assert_eq!(i64::from(throttle.level()), sum);
                prop_assert_eq!(throttle.lets_through(), sum * 2 > i64::from(max) * 1_000);
            }
        }
    }
}
