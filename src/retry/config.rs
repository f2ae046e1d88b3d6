use std::time::{Duration, Instant};

use http::HeaderName;

use crate::{
    classify::Classifier,
    clock,
    error::InvalidSetting,
    rng::Random,
    stats::{
        bucket::UNIT,
        budget::{Budget, Capacity, Rates},
    },
};

/// Three attempts see through one bad server and one unlucky pick; more add load faster than success.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// Long enough for a restart of a connection, short beside any deadline.
pub const DEFAULT_INITIAL_BACKOFF: Duration = Duration::from_millis(50);

/// Beyond this a waiting caller has given up.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The growth that every system of this kind uses.
pub const DEFAULT_MULTIPLIER: f64 = 2.0;

/// A server that asks for more than this wants the caller to come back later, not to wait.
pub const DEFAULT_MAX_PUSHBACK: Duration = Duration::from_secs(30);

/// What a proxy of this kind keeps; nearly every request that is retried is smaller.
pub const DEFAULT_REPLAY_LIMIT: usize = 64 * 1024;

/// The header of the IETF draft, which payment services read.
pub const DEFAULT_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// One retry per ten calls: at an outage attempts grow by a tenth, and at 10 % errors calls still succeed.
pub const DEFAULT_BUDGET_RATIO: f64 = 0.1;

/// Never scaled with anything, since a client does not know how many clients there are: a hundred of them
/// send ten retries a second.
pub const DEFAULT_BUDGET_PER_SECOND: f64 = 0.1;

/// A small client's first flaky calls should not find the budget empty.
pub const DEFAULT_BUDGET_START: u32 = 3;

/// Upper end of what a ratio may be: a hundred retries per call is no budget.
const MAX_RATIO: f64 = 100.0;

/// Keeps the sum of a refill within 64 bits for thirty years.
const MAX_PER_SECOND: f64 = 10_000.0;

/// The waits between attempts: `min(initial * multiplier^(n-1), max)` before retry n, with jitter.
///
/// Setters only record; [`Retry::build`] checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub(super) initial: Duration,
    pub(super) multiplier: f64,
    pub(super) max: Duration,
    pub(super) jitter: Jitter,
}

/// How waits are spread, so that callers that failed together do not come back together.
///
/// No kind ever waits longer than the maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Anything up to the whole wait: the widest spread, and the default.
    #[default]
    Full,
    /// The first half is always waited, the second is spread.
    Equal,
    /// Anything from the initial wait to three times the wait before; above the maximum it is drawn again.
    Decorrelated,
    /// 0 to 50 % on top; the base stops at max / 1.5, so that some spread remains there.
    Proportional,
    /// No spread: for tests, and where one caller is all there is.
    None,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: DEFAULT_INITIAL_BACKOFF,
            multiplier: DEFAULT_MULTIPLIER,
            max: DEFAULT_MAX_BACKOFF,
            jitter: Jitter::default(),
        }
    }
}

impl Backoff {
    /// The wait before the first retry. Range: above zero, at most `max`. Default 50 ms.
    #[must_use]
    pub const fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// The factor from one wait to the next. Range: 1 and above, finite. Default 2.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// No wait is longer, jitter included. Range: at least `initial`. Default 2 s.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// How waits are spread. Default [`Jitter::Full`].
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }
}

impl Budget {
    /// A budget of `ratio` tokens per call and `per_second` tokens without any, that holds up to `max`.
    ///
    /// It starts empty: see [`starting_with`](Self::starting_with). Ratio: 0 to 100, counted in millionths;
    /// `per_second`: 0 to 10 000. `Budget::new(0.1, 0.1, 3)?.starting_with(3)` is a good one for a
    /// destination called less than 30 times a second; [`Budget::default`] adapts to the rate.
    ///
    /// # Errors
    /// If a number is out of range or not finite, or if `max` is zero while another is not: such a budget
    /// could never grant anything ([`Retry::max_attempts`] of 1 switches retries off).
    pub fn new(ratio: f64, per_second: f64, max: u32) -> Result<Self, InvalidSetting> {
        if !(0.0..=MAX_RATIO).contains(&ratio) {
            return Err(InvalidSetting::new("Budget::ratio", ratio, "0 to 100"));
        }
        if !(0.0..=MAX_PER_SECOND).contains(&per_second) {
            return Err(InvalidSetting::new(
                "Budget::per_second",
                per_second,
                "0 to 10000",
            ));
        }
        if max == 0 && (ratio > 0.0 || per_second > 0.0) {
            return Err(InvalidSetting::new("Budget::max", max, "1 and above"));
        }
        let capacity = Capacity::Fixed(i64::from(max) * UNIT);
        Ok(Self::from_rates(
            Rates {
                deposit: units(ratio),
                refill: units(per_second),
                initial: 0,
                capacity,
            },
            clock::now(),
        ))
    }

    fn preset(start: Instant) -> Self {
        let initial = i64::from(DEFAULT_BUDGET_START) * UNIT;
        let (deposit, refill) = (
            units(DEFAULT_BUDGET_RATIO),
            units(DEFAULT_BUDGET_PER_SECOND),
        );
        Self::from_rates(
            Rates {
                deposit,
                refill,
                initial,
                capacity: Capacity::LastSecond(initial),
            },
            start,
        )
    }
}

impl Default for Budget {
    /// 0.1 per call, at least 0.1 per second; starts with 3 and holds what the calls of the last full
    /// second brought, at least 3.
    fn default() -> Self {
        Self::preset(clock::now())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "in range: checked by the caller"
)]
fn units(tokens: f64) -> i64 {
    (tokens * UNIT as f64).round() as i64
}

/// What a [`RetryPolicy`](crate::RetryPolicy) is made of.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::{Backoff, Budget, Retry};
///
/// let policy = Retry::default()
///     .max_attempts(4)
///     .backoff(Backoff::default().initial(Duration::from_millis(20)))
///     .budget(Budget::new(0.2, 0.5, 10)?)
///     .build()?;
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) budget: BudgetChoice,
    pub(super) max_pushback: Duration,
    pub(super) throttled_means_unprocessed: bool,
    pub(super) replay_limit: usize,
    pub(super) key_header: HeaderName,
    pub(super) trust_caller_keys: bool,
    pub(super) classifier: Classifier,
    pub(super) random: Random,
}

#[derive(Clone, Debug)]
pub(super) enum BudgetChoice {
    Preset,
    Given(Budget),
    Without,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            backoff: Backoff::default(),
            budget: BudgetChoice::Preset,
            max_pushback: DEFAULT_MAX_PUSHBACK,
            throttled_means_unprocessed: false,
            replay_limit: DEFAULT_REPLAY_LIMIT,
            key_header: DEFAULT_KEY_HEADER,
            trust_caller_keys: true,
            classifier: Classifier::default(),
            random: Random::default(),
        }
    }
}

impl Retry {
    /// How often a call may be sent, the first time included. Range: 1 and above; 1 means no retry. Default 3.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How often a call may be sent again after the first time: one less than [`max_attempts`](Self::max_attempts).
    #[must_use]
    pub const fn max_retries(self, retries: u32) -> Self {
        self.max_attempts(retries.saturating_add(1))
    }

    /// The waits between attempts. Default 50 ms, doubling to 2 s, full jitter.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The budget that retries are paid from; a clone of it may serve other policies too.
    ///
    /// Default: a [`Budget::default`] of this policy's own.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = BudgetChoice::Given(budget);
        self
    }

    /// Retries are not limited by a budget: an outage multiplies the load by `max_attempts`.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.budget = BudgetChoice::Without;
        self
    }

    /// The longest pause that a server may ask for by `Retry-After`; one that asks for more is not retried and
    /// its response returned at once. Range: above zero. Default 30 s.
    #[must_use]
    pub const fn max_pushback(mut self, longest: Duration) -> Self {
        self.max_pushback = longest;
        self
    }

    /// Says that this destination answers 429, and 503 with `Retry-After`, only before it processed anything:
    /// then every method may be retried after them. Default false.
    #[must_use]
    pub const fn throttled_means_unprocessed(mut self, unprocessed: bool) -> Self {
        self.throttled_means_unprocessed = unprocessed;
        self
    }

    /// How many bytes of a streamed request body are kept for a retry; a body in memory is retried at any
    /// size. Range: any; 0 keeps none. Default 64 KiB.
    #[must_use]
    pub const fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// The request header whose presence says that the destination de-duplicates by it.
    /// Default `Idempotency-Key`.
    #[must_use]
    pub fn key_header(mut self, header: HeaderName) -> Self {
        self.key_header = header;
        self
    }

    /// Whether a key that the caller put into the header makes a call retryable. Default true.
    #[must_use]
    pub const fn trust_caller_keys(mut self, trusted: bool) -> Self {
        self.trust_caller_keys = trusted;
        self
    }

    /// The header that carries callers' keys, and whether they count.
    pub(crate) const fn caller_keys(&self) -> (&HeaderName, bool) {
        (&self.key_header, self.trust_caller_keys)
    }

    /// How responses and errors are judged. Default: by status, and by the io errors in the source chain.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// Where jitter is drawn from. Default: seeded by the operating system.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }
}
