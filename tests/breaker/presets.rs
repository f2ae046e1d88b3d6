//! States set by hand, and the presets.

use super::*;

#[tokio::test(start_paused = true)]
async fn forced_states_hold_until_they_are_taken_back() {
    let breaker = built(on_first_failure());
    breaker.force_open();
    advance(86_400 * SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.snapshot().forced);
    breaker.force_closed();
    fail(&breaker, 100);
    assert_eq!(breaker.state(), State::Closed);
    breaker.reset();
    assert!(!breaker.snapshot().forced);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_textbook_breaker_opens_at_five_in_ten_seconds_for_thirty() {
    let breaker = Breaker::count(5, 10 * SECOND).expect("in range");
    for _ in 0..4 {
        fail(&breaker, 1);
        succeed(&breaker);
        advance(millis(2_499)).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    advance(30 * SECOND).await;
    let probe = breaker.try_acquire().expect("a probe");
    assert!(breaker.try_acquire().is_err());
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

/// Random errors of a service that works must not make an outage.
#[tokio::test(start_paused = true)]
async fn the_clients_default_stays_closed_at_twenty_percent_errors() {
    let breaker = built(BreakerConfig::service_default());
    let random = Random::seeded(11);
    for _ in 0..20_000 {
        let permit = breaker.try_acquire().expect("closed");
        if random.unit() < 0.2 {
            permit.failure()
        } else {
            permit.success()
        }
        advance(millis(10)).await;
    }
    assert_eq!(breaker.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn breaks_of_the_clients_default_are_spread_between_half_a_second_and_one() {
    let config = BreakerConfig::service_default().random(Random::seeded(3));
    let breaker = built(config);
    let mut breaks = Vec::new();
    for _ in 0..50 {
        fail(&breaker, 5);
        breaks.push(breaker.snapshot().next_probe_in.expect("open"));
        breaker.reset();
    }
    assert!(
        breaks
            .iter()
            .all(|length| (millis(500)..=SECOND).contains(length))
    );
    let spread = *breaks.iter().max().unwrap() - *breaks.iter().min().unwrap();
    assert!(spread > millis(400), "{spread:?}");
}

/// One seed makes it deterministic.
#[tokio::test(start_paused = true)]
async fn breakers_of_one_seed_break_equally_long() {
    let lengths = || {
        let breaker = built(BreakerConfig::service_default().random(Random::seeded(5)));
        fail(&breaker, 5);
        breaker.snapshot().next_probe_in
    };
    assert_eq!(lengths(), lengths());
}
