//! BUD: how many retries there may be.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use evenkeel::{Backoff, Body, Budget, Jitter, Report, Retry, RetryLayer, call::Stop};
use http::Request;
use tower::{Layer, ServiceExt};

use crate::support::script::statuses;

const DAY: Duration = Duration::from_secs(86_400);

fn get() -> Request<Body> {
    Request::get("/").body(Body::empty()).unwrap()
}

fn retry(budget: &Budget) -> RetryLayer {
    let backoff = Backoff::default()
        .initial(Duration::from_millis(1))
        .max(Duration::from_millis(1))
        .jitter(Jitter::None);
    RetryLayer::new(
        Retry::default()
            .max_attempts(5)
            .backoff(backoff)
            .budget(budget.clone())
            .build()
            .unwrap(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_income_pays_for_its_start_and_never_again() {
    let budget = Budget::new(0.0, 0.0, 10).unwrap().starting_with(2);
    let script = statuses([503]);
    let service = retry(&budget).layer(script.clone());
    for _ in 0..10 {
        service.clone().oneshot(get()).await.unwrap();
        tokio::time::advance(DAY).await;
    }
    assert_eq!(script.seen().len(), 10 + 2);
    let answer = service.oneshot(get()).await.unwrap();
    let report = answer.extensions().get::<Report>().unwrap();
    assert_eq!(report.stop(), Some(Stop::BudgetEmpty));
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_nothing_at_all_is_no_retry_at_all() {
    let budget = Budget::new(0.0, 0.0, 0).unwrap();
    let script = statuses([503]);
    retry(&budget)
        .layer(script.clone())
        .oneshot(get())
        .await
        .unwrap();
    assert_eq!(script.seen().len(), 1);
}

/// A quiet day, then everything at once: the preset pays for no more than it ever does at once.
#[tokio::test(start_paused = true)]
async fn after_an_idle_day_the_preset_pays_for_a_handful() {
    let budget = Budget::default();
    let script = statuses([503]);
    let service = retry(&budget).layer(script.clone());
    for _ in 0..20 {
        service.clone().oneshot(get()).await.unwrap();
    }
    tokio::time::advance(DAY).await;
    let before = script.seen().len();
    for _ in 0..20 {
        service.clone().oneshot(get()).await.unwrap();
    }
    let retries = script.seen().len() - before - 20;
    assert!(
        retries <= 3 + 2,
        "{retries} retries for 20 calls after a day"
    );
}

/// Two clients, eight threads: what is granted is what was paid in, to the token.
#[test]
fn eight_threads_of_two_clients_get_no_more_than_was_paid_in() {
    let budget = Budget::new(0.25, 0.0, 1_000_000).unwrap();
    let clients = [budget.clone(), budget.clone()];
    let (granted, now) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (client, granted) = (&clients[thread % 2], &granted);
            scope.spawn(move || {
                for _ in 0..10_000 {
                    client.deposit(now);
                    granted.fetch_add(usize::from(client.withdraw(now)), Relaxed);
                }
            });
        }
    });
    let left = budget.balance(now);
    let granted = granted.load(Relaxed);
    assert!(
        ((granted as f64) + left - 20_000.0).abs() < 1e-6,
        "{granted} and {left}"
    );
    assert!(left < 1.0);
}

/// Only whole seconds or steps must not be seen: income comes with every moment.
#[test]
fn income_comes_continuously_and_slow_rates_are_not_lost_to_rounding() {
    let budget = Budget::new(0.0, 0.001, 1).unwrap();
    let start = Instant::now();
    assert!(!budget.withdraw(start));
    // Asked every millisecond, far more often than a thousandth of a token comes.
    for asked in 0..100_000_u64 {
        assert!(!budget.withdraw(start + Duration::from_millis(asked)));
    }
    assert!(budget.withdraw(start + Duration::from_secs(1_001)));
}
