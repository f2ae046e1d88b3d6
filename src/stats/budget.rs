use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    bucket::{TokenBucket, UNIT},
    throttle::Throttle,
};
use crate::sync::atomic::{AtomicU64, Ordering};

/// How many retries a destination may be sent, as a share of its calls.
///
/// Each call deposits `ratio` of a token when it starts, a retry withdraws a whole one, and `per_second`
/// tokens come without any call, so that a rare caller can retry too. When the destination is down for
/// everybody, attempts grow by the ratio and not by `max_attempts`.
///
/// That is the kind of [`Budget::new`] and the default. [`Budget::grpc_throttling`] makes the other kind, which counts
/// how attempts end and is not paid into by calls.
///
/// Exact and lock-free: fractions never round to nothing or to everything, the refill is continuous, and no
/// update is lost between threads. A clone is a handle to the same tokens, so several clients of one
/// destination can share a budget. A retry whose call is dropped before it is sent gives its token back.
///
/// ```
/// use std::time::Instant;
/// use evenkeel::Budget;
///
/// let budget = Budget::new(0.1, 0.0, 10)?;
/// let now = Instant::now();
/// (0..25).for_each(|_| budget.deposit(now));
/// assert!(budget.withdraw(now) && budget.withdraw(now));
/// assert!(!budget.withdraw(now));
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

enum Inner {
    /// Calls pay in, retries are paid for.
    Ledger(Ledger),
    /// Ends of attempts are counted, retries cost nothing.
    Throttle(Throttle),
}

struct Ledger {
    bucket: TokenBucket,
    calls: CallsPerSecond,
    made: Instant,
    /// When it was made, or its first use if that names an earlier instant: what refills is counted from here.
    start: OnceLock<Instant>,
    initial: i64,
    deposit: i64,
    capacity: Capacity,
}

/// How much a budget can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capacity {
    /// This many units.
    Fixed(i64),
    /// What the calls of the last full second deposited, at least this many units.
    LastSecond(i64),
}

/// What a budget is made of, in units of the bucket; checked by who makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) deposit: i64,
    pub(crate) refill: i64,
    pub(crate) initial: i64,
    pub(crate) capacity: Capacity,
}

impl Budget {
    pub(crate) fn from_rates(rates: Rates, made: Instant) -> Self {
        Self(Arc::new(Inner::Ledger(Ledger {
            bucket: TokenBucket::new(rates.refill, rates.initial),
            calls: CallsPerSecond::default(),
            made,
            start: OnceLock::new(),
            initial: rates.initial,
            deposit: rates.deposit,
            capacity: rates.capacity,
        })))
    }

    pub(crate) fn from_throttle(throttle: Throttle) -> Self {
        Self(Arc::new(Inner::Throttle(throttle)))
    }

    /// Sets what it starts with, up to the maximum; for a budget that is not in use yet.
    #[must_use]
    pub fn starting_with(self, tokens: u32) -> Self {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.set(tokens),
            Inner::Throttle(throttle) => throttle.set(tokens),
        }
        self
    }

    /// A call starts. One of [`grpc_throttling`](Self::grpc_throttling) gains nothing by that.
    pub fn deposit(&self, now: Instant) {
        if let Inner::Ledger(ledger) = &*self.0 {
            ledger.deposit(now);
        }
    }

    /// Takes a token for a retry; false if there is no whole one. Of one of
    /// [`grpc_throttling`](Self::grpc_throttling) nothing is taken: it answers as [`has_token`](Self::has_token).
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.withdraw(now),
            Inner::Throttle(throttle) => throttle.lets_through(),
        }
    }

    /// Whether a retry could be paid for now; of one of [`grpc_throttling`](Self::grpc_throttling), whether more than
    /// half of its tokens are there.
    #[must_use]
    pub fn has_token(&self, now: Instant) -> bool {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.level(now) >= UNIT,
            Inner::Throttle(throttle) => throttle.lets_through(),
        }
    }

    /// Whether an attempt that starts now may be followed by another one should it fail.
    pub(crate) fn allows_another(&self, now: Instant) -> bool {
        match &*self.0 {
            Inner::Ledger(_) => self.has_token(now),
            Inner::Throttle(throttle) => throttle.would_let_through(),
        }
    }

    /// An attempt succeeded. It matters to one of [`grpc_throttling`](Self::grpc_throttling) alone.
    pub fn succeeded(&self) {
        if let Inner::Throttle(throttle) = &*self.0 {
            throttle.succeeded();
        }
    }

    /// An attempt failed in a way that is retried, or the server said not to retry. It matters to one of
    /// [`grpc_throttling`](Self::grpc_throttling) alone.
    pub fn failed(&self) {
        if let Inner::Throttle(throttle) = &*self.0 {
            throttle.failed();
        }
    }

    /// Whether it has to be told how attempts end.
    pub(crate) fn counts_ends(&self) -> bool {
        matches!(&*self.0, Inner::Throttle(_))
    }

    /// The tokens there are, from 0 to the maximum, a fraction included.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "for display; a budget never holds 2^53 units"
    )]
    pub fn balance(&self, now: Instant) -> f64 {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.level(now) as f64 / UNIT as f64,
            Inner::Throttle(throttle) => throttle.tokens(),
        }
    }

    /// Whether it holds at least what a new one of its kind does.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.level(now) >= ledger.initial,
            Inner::Throttle(throttle) => throttle.is_full(),
        }
    }

    #[cfg(all(test, evenkeel_loom))]
    pub(super) fn calls_in(&self, second: u64) -> u32 {
        match &*self.0 {
            Inner::Ledger(ledger) => ledger.calls.last_full(second + 1),
            Inner::Throttle(_) => 0,
        }
    }

    /// Gives a token back that paid for nothing.
    pub(crate) fn give_back(&self) {
        if let Inner::Ledger(ledger) = &*self.0 {
            // At the start nothing has been refilled yet: the sum stays exact, and a reader caps it.
            ledger.bucket.deposit(UNIT, i64::MAX, Duration::ZERO);
        }
    }
}

impl Ledger {
    fn set(&self, tokens: u32) {
        let level = i64::from(tokens)
            .saturating_mul(UNIT)
            .min(self.capacity(Duration::ZERO));
        self.bucket.set(level, Duration::ZERO);
    }

    fn deposit(&self, now: Instant) {
        let elapsed = self.elapsed(now);
        if let Capacity::LastSecond(_) = self.capacity {
            self.calls.count(elapsed.as_secs());
        }
        self.bucket
            .deposit(self.deposit, self.capacity(elapsed), elapsed);
    }

    fn withdraw(&self, now: Instant) -> bool {
        let elapsed = self.elapsed(now);
        self.bucket.withdraw(UNIT, self.capacity(elapsed), elapsed)
    }

    fn level(&self, now: Instant) -> i64 {
        let elapsed = self.elapsed(now);
        self.bucket.level(self.capacity(elapsed), elapsed)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        let start = self.start.get_or_init(|| self.made.min(now));
        now.saturating_duration_since(*start)
    }

    fn capacity(&self, elapsed: Duration) -> i64 {
        match self.capacity {
            Capacity::Fixed(units) => units,
            Capacity::LastSecond(least) => {
                let calls = i64::from(self.calls.last_full(elapsed.as_secs()));
                least.max(calls.saturating_mul(self.deposit))
            }
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Ledger(ledger) => f
                .debug_struct("Budget")
                .field("deposit", &ledger.deposit)
                .field("capacity", &ledger.capacity)
                .field("bucket", &ledger.bucket)
                .finish_non_exhaustive(),
            Inner::Throttle(throttle) => f.debug_tuple("Budget").field(throttle).finish(),
        }
    }
}

/// Counts of this second and of the one before, each tagged with its second.
#[derive(Debug, Default)]
struct CallsPerSecond([AtomicU64; 2]);

impl CallsPerSecond {
    fn count(&self, second: u64) {
        let slot = self.slot(second);
        let fresh = tag(second);
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let next = match (word >> 32).wrapping_sub(fresh >> 32) as u32 {
                0 => word.saturating_add(1),
                // A later second is counted here already.
                1..LATE => return,
                _ => fresh | 1,
            };
            match slot.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    fn last_full(&self, second: u64) -> u32 {
        let Some(last) = second.checked_sub(1) else {
            return 0;
        };
        let word = self.slot(last).load(Ordering::Relaxed);
        // The lower half is the count.
        if word & TAG == tag(last) {
            u32::try_from(word & !TAG).unwrap_or(u32::MAX)
        } else {
            0
        }
    }

    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.0[usize::from(second % 2 == 1)]
    }
}

const TAG: u64 = !(u32::MAX as u64);

/// A count that is late by fewer seconds than this must not replace that of its successor.
const LATE: u32 = 3_600;

/// The second plus one (an unused word is no second) in the upper half.
const fn tag(second: u64) -> u64 {
    second.wrapping_add(1) << 32
}

/// A token that was taken for an attempt; dropped before that attempt is sent, it goes back.
#[derive(Debug, Default)]
pub(crate) struct Token(Option<Budget>);

impl Token {
    /// Takes a token; a policy without a budget has always one.
    pub(crate) fn take(budget: Option<&Budget>, now: Instant) -> Option<Self> {
        match budget {
            Some(budget) => budget.withdraw(now).then(|| Self(Some(budget.clone()))),
            None => Some(Self(None)),
        }
    }

    /// The attempt is sent.
    pub(crate) fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(budget) = &self.0 {
            budget.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn adaptive(start: Instant) -> Budget {
        Budget::from_rates(
            Rates {
                deposit: UNIT / 10,
                refill: UNIT / 10,
                initial: 3 * UNIT,
                capacity: Capacity::LastSecond(3 * UNIT),
            },
            start,
        )
    }

    fn drain(budget: &Budget, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn the_preset_holds_three_or_what_the_last_full_second_brought() {
        let start = Instant::now();
        let budget = adaptive(start);
        (0..1_000).for_each(|_| budget.deposit(start + ms(100)));
        assert_eq!(
            drain(&budget, start + ms(900)),
            3,
            "the first second is not full"
        );
        (0..1_000).for_each(|_| budget.deposit(start + ms(1_100)));
        assert_eq!(drain(&budget, start + ms(1_200)), 100);
        (0..1_000).for_each(|_| budget.deposit(start + ms(1_300)));
        assert_eq!(
            drain(&budget, start + ms(3_500)),
            3,
            "the last full second was quiet"
        );
    }

    #[test]
    fn what_a_quiet_hour_refilled_is_not_found_when_the_capacity_grows() {
        let start = Instant::now();
        let budget = adaptive(start);
        let busy = start + Duration::from_secs(3_600);
        (0..1_000).for_each(|_| budget.deposit(busy));
        assert_eq!(drain(&budget, busy + ms(1_000)), 3);
    }

    #[test]
    fn a_token_that_paid_for_nothing_goes_back_whenever_that_is() {
        let start = Instant::now();
        let budget = adaptive(start);
        let token = Token::take(Some(&budget), start + ms(10));
        assert_eq!(drain(&budget, start + ms(20)), 2);
        drop(token);
        assert_eq!(drain(&budget, start + ms(30)), 1);
        let later = start + Duration::from_secs(60);
        if let Some(token) = Token::take(Some(&budget), later) {
            token.spend();
        }
        assert_eq!(
            drain(&budget, later),
            2,
            "a token that was spent does not go back"
        );
    }

    #[test]
    fn without_a_budget_there_is_always_a_token() {
        assert!(Token::take(None, Instant::now()).is_some());
    }

    #[test]
    fn counts_of_seconds_long_ago_are_no_counts() {
        let calls = CallsPerSecond::default();
        assert_eq!(calls.last_full(0), 0);
        (0..5).for_each(|_| calls.count(7));
        assert_eq!(
            (calls.last_full(7), calls.last_full(8), calls.last_full(9)),
            (0, 5, 0)
        );
        assert_eq!(calls.last_full(10), 0);
        calls.count(9);
        assert_eq!(calls.last_full(10), 1);
        calls.count(7);
        assert_eq!(calls.last_full(10), 1, "a late thread wipes nothing out");
    }
}
