//! Budgets and runs under every order of two threads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loom::{
    model,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use super::{
    bucket::{TokenBucket, UNIT},
    budget::{Budget, Capacity, Rates, Token},
    run::Run,
    throttle::Throttle,
};

const NEVER: i64 = 1_000 * UNIT;

/// What both threads answer.
fn both<T: 'static, U>(other: impl FnOnce() -> T + 'static, this: impl FnOnce() -> U) -> (T, U) {
    let other = thread::spawn(other);
    let this = this();
    (other.join().expect("no panic"), this)
}

#[test]
fn the_last_token_is_granted_once() {
    model(|| {
        let bucket = Arc::new(TokenBucket::new(0, UNIT));
        let taken = {
            let bucket = Arc::clone(&bucket);
            move || bucket.withdraw(UNIT, NEVER, Duration::ZERO)
        };
        let (one, two) = both(taken.clone(), taken);
        assert!(one ^ two);
        assert_eq!(bucket.level(NEVER, Duration::ZERO), 0);
    });
}

#[test]
fn deposits_refill_and_withdrawals_add_up_and_stay_within_the_capacity() {
    model(|| {
        let (capacity, second) = (2 * UNIT, Duration::from_secs(1));
        let bucket = Arc::new(TokenBucket::new(UNIT / 2, 0));
        let work = {
            let bucket = Arc::clone(&bucket);
            move || {
                bucket.deposit(UNIT * 6 / 10, capacity, second);
                i64::from(bucket.withdraw(UNIT, capacity, second))
            }
        };
        let (one, two) = both(work.clone(), work);
        let level = bucket.level(capacity, second);
        assert_eq!((one + two) * UNIT + level, UNIT * 17 / 10);
    });
}

#[test]
fn a_deposit_does_not_lift_it_above_the_capacity_when_another_is_faster() {
    model(|| {
        let bucket = Arc::new(TokenBucket::new(0, UNIT));
        let work = {
            let bucket = Arc::clone(&bucket);
            move || bucket.deposit(UNIT, 2 * UNIT, Duration::ZERO)
        };
        both(work.clone(), work);
        assert_eq!(bucket.level(NEVER, Duration::ZERO), 2 * UNIT);
    });
}

fn budget(start: Instant) -> Budget {
    let rates = Rates {
        deposit: UNIT / 10,
        refill: 0,
        initial: UNIT,
        capacity: Capacity::LastSecond(UNIT),
    };
    Budget::from_rates(rates, start)
}

#[test]
fn a_token_given_back_is_there_for_exactly_one_other_call() {
    model(|| {
        let start = Instant::now();
        let budget = budget(start);
        let token = Token::take(Some(&budget), start).expect("it starts with one");
        let take = {
            let budget = budget.clone();
            move || {
                Token::take(Some(&budget), start)
                    .map(Token::spend)
                    .is_some()
            }
        };
        let (took, ()) = both(take, || drop(token));
        assert_eq!(budget.has_token(start), !took);
    });
}

#[test]
fn no_call_of_a_second_is_missed_and_a_late_one_wipes_nothing_out() {
    model(|| {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        let budget = budget(start);
        let calls = |seconds: &'static [u64]| {
            let budget = budget.clone();
            move || {
                seconds
                    .iter()
                    .for_each(|second| budget.deposit(at(*second)))
            }
        };
        // Second 1 goes where second 3 is counted.
        both(calls(&[1, 3]), calls(&[3]));
        assert_eq!(budget.calls_in(3), 2);
    });
}

#[test]
fn throttling_loses_no_end_of_an_attempt() {
    model(|| {
        let throttle = Arc::new(Throttle::new(10_000, 500));
        throttle.set(5);
        let ends = |succeeded: &'static [bool]| {
            let throttle = Arc::clone(&throttle);
            move || {
                for end in succeeded {
                    match end {
                        true => throttle.succeeded(),
                        false => throttle.failed(),
                    }
                }
            }
        };
        both(ends(&[true, false]), ends(&[true, true]));
        assert_eq!(throttle.tokens(), 5.5);
    });
}

#[test]
fn a_late_failure_of_an_older_era_leaves_the_run_of_the_newer_one_alone() {
    model(|| {
        let (run, era) = (Arc::new(Run::new(2)), Arc::new(AtomicU16::new(1)));
        let fails = |of: u16| {
            let (run, era) = (Arc::clone(&run), Arc::clone(&era));
            move || run.add(of, None, || era.load(Ordering::Acquire) == of)
        };
        let (late, newer) = (fails(1), fails(2));
        let older = thread::spawn(late);
        era.store(2, Ordering::Release);
        let met = [newer(), newer()];
        older.join().expect("no panic");
        assert_eq!(met, [false, true]);
    });
}
