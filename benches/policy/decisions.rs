//! Our decisions without a service.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use evenkeel::{Breaker, BreakerConfig, Budget, breaker::State};

use crate::harness::{
    Batch, Case,
    Limit::{Allocations, Instructions, Nanos},
    on_two_threads, repeat,
};

const BREAKER: &str = "a breaker's decision: permit and result, the clock read by the breaker";
const BUDGET: &str = "a budget's decision";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(BREAKER, "breaker closed", closed).within([
            Nanos(32.0),
            Instructions(130.0),
            Allocations(0.0),
        ]),
        Case::new(BREAKER, "breaker closed, 2 threads", shared)
            .shared()
            .within([Nanos(20.0)]),
        Case::new(BREAKER, "breaker open: reject", open).within([Nanos(30.0), Allocations(0.0)]),
        Case::new(BUDGET, "budget: deposit", deposit).within([Allocations(0.0)]),
    ]
}

fn breaker() -> Breaker {
    BreakerConfig::service_default()
        .build()
        .expect("the preset is in range")
}

/// One decision: asked, and told that it went well.
fn decide(breaker: &Breaker) {
    if let Ok(permit) = black_box(breaker).try_acquire() {
        permit.success();
    }
}

fn closed() -> Batch {
    let breaker = breaker();
    repeat(move || decide(&breaker))
}

fn shared() -> Batch {
    let breaker = breaker();
    on_two_threads(move || decide(&breaker))
}

fn open() -> Batch {
    let breaker = BreakerConfig::count(1, Duration::from_secs(1))
        .break_duration(Duration::from_secs(3600))
        .build()
        .expect("settings in range");
    if let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    assert_eq!(breaker.state(), State::Open);
    repeat(move || decide(&breaker))
}

fn deposit() -> Batch {
    let budget = Budget::default();
    let now = Instant::now();
    repeat(move || black_box(&budget).deposit(now))
}
