//! Which endpoint is picked, and how often.

use super::*;

// LB-01, Netflix/astyanax#17, kubernetes/ingress-nginx#5540
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_fast_gets_less_than_its_share_and_ever_less() {
    for pick in [
        Pick::least_cost(),
        Pick::p2c_peak_ewma(),
        Pick::p2c_in_flight(),
        Pick::least_in_flight(),
    ] {
        for ejection in [Ejection::off(), Ejection::default()] {
            let fleet = Fleet::default();
            (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
            fleet.set(4, Manner::Refuse, MS(1));
            let builder = Balancer::builder(fixed([1, 2, 3, 4]))
                .pick(pick)
                .ejection(ejection);
            let balancer = builder
                .random(Random::seeded(1))
                .build(fleet.make())
                .unwrap();
            many(&balancer, 1_000, 12).await;
            let first = fleet.calls(4);
            fleet.forget_calls();
            many(&balancer, 9_000, 12).await;
            let later = fleet.calls(4);
            assert!(first < 250, "{pick:?}: {first} of 1000");
            assert!(
                later * 1_000 <= first.max(9) * 9_000 / 2 || later < 9_000 / 40,
                "{pick:?}: {first}, then {later} of 9000"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_503_or_a_429_at_once_is_no_lure_either() {
    for status in [503, 429] {
        let fleet = Fleet::default();
        (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
        fleet.set(4, Manner::Answer(status), MS(1));
        let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
            .random(Random::seeded(1))
            .build(fleet.make())
            .unwrap();
        many(&balancer, 5_000, 12).await;
        assert!(fleet.calls(4) < 500, "{status}: {}", fleet.calls(4));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_own_breaker_is_open_is_no_lure_either() {
    let fleet = Fleet::default();
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(50)));
    let make = fleet.make();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4])).random(Random::seeded(1));
    let balancer = balancer.build(move |endpoint| {
        let breaker = Breaker::count(5, S(10))?;
        if endpoint.address().port() == 4 {
            breaker.force_open();
        }
        Ok(CircuitBreakerLayer::new(breaker).layer(make(endpoint)?))
    });
    let balancer = balancer.unwrap();
    let calls = stream::iter(0..2_000).map(|_| port(&balancer));
    let answers: Vec<_> = calls.buffer_unordered(12).collect().await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!((1..100).contains(&refused), "{refused}");
    let mut all = balancer.endpoints().into_iter();
    assert!(all.all(|status| status.state == EndpointState::Ready));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_call_that_hangs_keeps_others_away_before_it_has_failed() {
    let fleet = Fleet::default();
    (1..3).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    let balancer = Balancer::builder(fixed([1, 2]))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 100, 2).await;
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let _hanging = loop {
        let mut call = Box::pin(balancer.clone().oneshot(get()));
        let _ = (&mut call).now_or_never();
        if fleet.in_flight(1) == 1 {
            break call;
        }
    };
    sleep(S(2)).await;
    let elsewhere = timeout(S(60), many(&balancer, 200, 8)).await;
    assert!(elsewhere.is_ok() && fleet.in_flight(1) == 1);
}

#[tokio::test(start_paused = true)]
async fn equal_endpoints_share_alike_and_a_slow_one_gets_less() {
    let fleet = Fleet::default();
    (1..6).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    let balancer = Balancer::builder(fixed([1, 2, 3, 4, 5]))
        .random(Random::seeded(2))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 10_000, 10).await;
    for port in 1..6 {
        assert!(
            (1_700..2_300).contains(&fleet.calls(port)),
            "{port}: {}",
            fleet.calls(port)
        );
    }
    fleet.set(5, Manner::Answer(200), MS(200));
    fleet.forget_calls();
    many(&balancer, 10_000, 10).await;
    assert!(fleet.calls(5) < 500, "{}", fleet.calls(5));
}

#[tokio::test(start_paused = true)]
async fn of_three_endpoints_a_black_hole_swallows_next_to_nothing() {
    let fleet = Fleet::default();
    (1..3).for_each(|port| fleet.set(port, Manner::Answer(200), MS(10)));
    fleet.set(3, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1, 2, 3]))
        .random(Random::seeded(3))
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer);
    many(&service, 3_000, 4).await;
    assert!((1..60).contains(&fleet.calls(3)), "{}", fleet.calls(3));
    assert_eq!(fleet.in_flight(3), 0);
}
