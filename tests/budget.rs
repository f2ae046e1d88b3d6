//! The retry budget by hand-made instants, and what it does to an outage.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use evenkeel::{Backoff, Body, Budget, Jitter, Report, Retry, RetryLayer, call::Stop};
use http::{Request, Response};
use support::{
    mock::{Mock, Readiness},
    script::{Act, Script, answering, statuses},
};
use tower::{Layer, ServiceExt};

fn budget(ratio: f64, per_second: f64, max: u32) -> Budget {
    Budget::new(ratio, per_second, max).expect("valid")
}

fn granted(budget: &Budget, now: Instant) -> u32 {
    (0..1_000_000)
        .take_while(|_| budget.withdraw(now))
        .count()
        .try_into()
        .expect("few")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// BUD-01, tower-rs/tower#857
#[test]
fn a_fractional_ratio_is_exact() {
    for (ratio, calls, grants) in [
        (0.6, 10, 6),
        (0.3, 10, 3),
        (0.01, 10, 0),
        (0.01, 100, 1),
        (1.5, 10, 15),
        (0.0, 10, 0),
        (0.1, 9, 0),
        (0.1, 10, 1),
        (0.1, 1_000_000, 100_000),
        (0.0001, 10_000, 1),
        (0.0001, 9_999, 0),
        (1.0 / 3.0, 31, 10),
        (0.7, 10, 7),
        (100.0, 1, 100),
    ] {
        let now = Instant::now();
        let budget = budget(ratio, 0.0, 1_000_000);
        (0..calls).for_each(|_| budget.deposit(now));
        assert_eq!(granted(&budget, now), grants, "{ratio} of {calls}");
    }
}

// BUD-02, joshrotenberg/tower-resilience#370
#[test]
fn tokens_come_back_with_time_alone() {
    let start = Instant::now();
    let budget = budget(0.0, 10.0, 10).starting_with(10);
    assert_eq!(granted(&budget, start), 10);
    assert_eq!(granted(&budget, start + ms(1_000)), 10);
    assert_eq!(granted(&budget, start + ms(1_050)), 0);
    assert_eq!(granted(&budget, start + ms(1_200)), 2);
    let unused = self::budget(0.0, 10.0, 10);
    assert_eq!(granted(&unused, Instant::now() + ms(1_000)), 10);
}

// BUD-02
#[test]
fn threads_conserve_the_sum_and_stay_within_the_range() {
    let now = Instant::now();
    let budget = budget(0.3, 0.0, 1_000_000);
    let taken: u32 = thread::scope(|scope| {
        let work = || {
            let mut taken = 0;
            for _ in 0..10_000 {
                budget.deposit(now);
                taken += u32::from(budget.withdraw(now));
                let balance = budget.balance(now);
                assert!((0.0..=1_000_000.0).contains(&balance), "{balance}");
            }
            taken
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum()
    });
    let left = granted(&budget, now);
    assert_eq!(taken + left, 24_000);
}

// BUD-03, grpc/proposal#27
#[test]
fn a_quiet_day_banks_no_more_than_the_maximum() {
    let start = Instant::now();
    let budget = budget(0.1, 1.0, 20);
    (0..1_000_000).for_each(|_| budget.deposit(start));
    let later = start + Duration::from_secs(86_400);
    assert!((budget.balance(later) - 20.0).abs() < f64::EPSILON);
    let mut retries = 0;
    for _ in 0..1_000 {
        budget.deposit(later);
        retries += u32::from(budget.withdraw(later));
    }
    assert!(retries <= 20 + 100, "{retries}");
}

// BUD-05, anza-xyz/agave#10438
#[test]
fn no_span_grants_more_than_the_burst_and_its_refill() {
    let start = Instant::now();
    let budget = budget(0.0, 10.0, 10).starting_with(10);
    let mut grants = Vec::new();
    for millis in 0..5_000 {
        let now = start + ms(millis);
        // Bursts around each boundary of a second, and a steady trickle between them.
        let wishes = if millis % 1_000 > 940 || millis % 1_000 < 60 {
            20
        } else {
            1
        };
        grants.push((0..wishes).filter(|_| budget.withdraw(now)).count());
    }
    for span in [100, 500, 1_000] {
        let most = grants
            .windows(span)
            .map(|window| window.iter().sum::<usize>())
            .max();
        assert!(most <= Some(10 + span / 100), "{most:?} within {span} ms");
    }
    let after_the_burst: usize = grants[100..].iter().sum();
    assert!(after_the_burst <= 50, "{after_the_burst}");
}

#[test]
fn instants_out_of_order_and_far_away_do_no_harm() {
    let start = Instant::now();
    let budget = budget(0.5, 5.0, 8).starting_with(8);
    let far = start + Duration::from_secs(10 * 365 * 86_400);
    assert_eq!(granted(&budget, far), 8);
    assert_eq!(granted(&budget, start), 0);
    budget.deposit(start);
    assert!(budget.balance(start) >= 0.0);
    assert_eq!(granted(&budget, far + ms(1_000)), 5);
    if let Some(before) = start.checked_sub(Duration::from_secs(1)) {
        assert!(budget.balance(before) >= 0.0);
    }
}

#[test]
fn a_clone_is_a_handle_to_the_same_tokens() {
    let now = Instant::now();
    let one = budget(1.0, 0.0, 10);
    let other = one.clone();
    one.deposit(now);
    assert!(other.withdraw(now));
    assert!(!one.withdraw(now));
}

#[test]
fn a_start_above_the_maximum_is_the_maximum() {
    let now = Instant::now();
    assert_eq!(
        granted(&budget(0.1, 0.0, 5).starting_with(u32::MAX), now),
        5
    );
    assert_eq!(granted(&budget(0.1, 0.0, 5), now), 0, "it starts empty");
    assert_eq!(granted(&Budget::default(), now), 3, "but the preset");
    assert_eq!(granted(&Budget::default().starting_with(1), now), 1);
}

#[test]
fn the_preset_brings_a_token_in_ten_seconds_or_ten_calls() {
    let start = Instant::now();
    let budget = Budget::default().starting_with(0);
    assert_eq!(granted(&budget, start + ms(9_900)), 0);
    assert_eq!(granted(&budget, start + ms(10_100)), 1);
    (0..10).for_each(|_| budget.deposit(start + ms(10_100)));
    assert_eq!(granted(&budget, start + ms(10_100)), 1);
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    for (ratio, per_second, max, field) in [
        (f64::NAN, 0.0, 1, "Budget::ratio"),
        (-0.1, 0.0, 1, "Budget::ratio"),
        (f64::INFINITY, 0.0, 1, "Budget::ratio"),
        (100.1, 0.0, 1, "Budget::ratio"),
        (0.1, f64::NAN, 1, "Budget::per_second"),
        (0.1, -1.0, 1, "Budget::per_second"),
        (0.1, 10_001.0, 1, "Budget::per_second"),
        (0.1, 0.0, 0, "Budget::max"),
        (0.0, 1.0, 0, "Budget::max"),
    ] {
        let error = Budget::new(ratio, per_second, max).expect_err(field);
        assert_eq!(error.field(), field);
    }
    assert_eq!(
        granted(&budget(0.0, 0.0, 0), Instant::now()),
        0,
        "none at all is a choice"
    );
}

fn get() -> Request<Body> {
    Request::get("/").body(Body::empty()).expect("a request")
}

fn stop<B>(response: &Response<B>) -> Option<Stop> {
    response.extensions().get::<Report>().and_then(Report::stop)
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_sent_a_tenth_more_and_not_three_times_as_much() {
    let script = Script::by(|_| answering(503));
    let policy = Retry::default().max_attempts(3).build().expect("valid");
    let service = RetryLayer::new(policy).layer(script.clone());
    let mut empty = 0;
    for _ in 0..1_000 {
        let answer = service.clone().oneshot(get()).await.expect("a response");
        empty += u32::from(stop(&answer) == Some(Stop::BudgetEmpty));
        tokio::time::sleep(ms(10)).await;
    }
    let sends = script.seen().len();
    assert!((1_090..=1_110).contains(&sends), "{sends} sends");
    assert!(empty > 850, "{empty}");
}

#[tokio::test(start_paused = true)]
async fn two_layers_may_share_one_budget() {
    let script = Script::by(|_| answering(503));
    let shared = budget(0.0, 0.0, 3).starting_with(3);
    let layer = || {
        let policy = Retry::default()
            .budget(shared.clone())
            .build()
            .expect("valid");
        RetryLayer::new(policy).layer(script.clone())
    };
    for service in [layer(), layer(), layer()] {
        service.oneshot(get()).await.expect("a response");
    }
    assert_eq!(script.seen().len(), 3 + 3);
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_says_so_in_the_report() {
    let script = Script::by(|_| answering(503));
    let policy = Retry::default()
        .budget(budget(0.1, 0.0, 1))
        .build()
        .expect("valid");
    let answer = RetryLayer::new(policy)
        .layer(script)
        .oneshot(get())
        .await
        .expect("a response");
    let report = answer.extensions().get::<Report>().expect("it failed");
    assert_eq!(report.stop(), Some(Stop::BudgetEmpty));
    assert!(report.to_string().contains("Budget::new"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_succeed_withdraw_nothing_and_a_nested_retry_deposits_once() {
    let script = statuses([200]);
    let shared = budget(0.5, 0.0, 10);
    let policy = Retry::default()
        .budget(shared.clone())
        .build()
        .expect("valid");
    let layer = RetryLayer::new(policy);
    let service = layer.layer(layer.layer(script));
    for _ in 0..4 {
        service.clone().oneshot(get()).await.expect("a response");
    }
    let balance = shared.balance(tokio::time::Instant::now().into_std());
    assert!((balance - 2.0).abs() < 1e-9, "{balance}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_dropped_before_it_is_sent_gives_its_token_back() {
    for (readiness, dropped_after, calls, left) in [
        // Dropped during the wait.
        (Readiness::Always, ms(50), 1, 1.0),
        // Dropped while the instance of the second attempt is not ready.
        (Readiness::After(ms(1_000)), ms(1_500), 1, 1.0),
        // Dropped under way.
        (Readiness::Always, ms(500), 2, 0.0),
    ] {
        let budget = budget(0.0, 0.0, 1).starting_with(1);
        let backoff = Backoff::default().initial(ms(100)).jitter(Jitter::None);
        let settings = Retry::default().backoff(backoff).budget(budget.clone());
        let mock = Mock::new([Act::status(503), Act::hang()]).readiness(readiness);
        let service = RetryLayer::new(settings.build().expect("valid")).layer(mock.clone());
        let call = service.oneshot(Request::new(Body::empty()));
        assert!(tokio::time::timeout(dropped_after, call).await.is_err());
        assert_eq!(mock.calls(), calls, "{readiness:?}");
        let balance = budget.balance(tokio::time::Instant::now().into_std());
        assert_eq!(balance, left, "{readiness:?} after {dropped_after:?}");
    }
}
