//! Weights, joining endpoints, and where a retry goes.

use super::*;

// LB-04, tower-rs/tower#134, linkerd/linkerd2-proxy#167
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_joins_gets_its_share_within_seconds() {
    for (pick, slow_start) in [
        (Pick::least_cost(), SlowStart::default()),
        (Pick::p2c_peak_ewma(), SlowStart::default()),
        (Pick::least_cost(), SlowStart::off()),
    ] {
        let fleet = Fleet::default();
        (1..4).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
        let sets = Sets::of([1, 2]);
        let builder = Balancer::builder(sets.clone())
            .pick(pick)
            .slow_start(slow_start);
        let balancer = builder
            .random(Random::seeded(4))
            .build(fleet.make())
            .unwrap();
        let at_rate = async |seconds: u64| {
            for _ in 0..seconds * 100 {
                tokio::spawn({
                    let balancer = balancer.clone();
                    async move { port(&balancer).await.map(drop) }
                });
                sleep(MS(10)).await;
            }
        };
        at_rate(5).await;
        sets.answer(endpoints([1, 2, 3]));
        at_rate(10).await;
        assert!(fleet.calls(3) > 50, "{pick:?}: {}", fleet.calls(3));
        fleet.forget_calls();
        at_rate(10).await;
        assert!(
            (200..470).contains(&fleet.calls(3)),
            "{pick:?}: {}",
            fleet.calls(3)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_joining_endpoint_starts_with_a_tenth_and_says_so() {
    let fleet = Fleet::default();
    let sets = Sets::of([1]);
    let balancer = Balancer::builder(sets.clone())
        .pick(Pick::round_robin())
        .random(Random::seeded(5))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 1, 1).await;
    sets.answer(endpoints([1, 2]));
    settle().await;
    many(&balancer, 1_000, 1).await;
    assert!((20..150).contains(&fleet.calls(2)), "{}", fleet.calls(2));
    assert_eq!(status(&balancer, 2).state, EndpointState::Joining);
    advance(S(10)).await;
    fleet.forget_calls();
    many(&balancer, 1_000, 1).await;
    assert_eq!(fleet.calls(2), 500);
    assert_eq!(status(&balancer, 2).state, EndpointState::Ready);
}

// LB-06, prisma-risk/tsoracle#395, #342
#[tokio::test(start_paused = true)]
async fn fresh_clients_start_anywhere_and_clones_take_turns() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let make = || {
            Balancer::builder(fixed([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
                .pick(pick)
                .build(fleet.make())
                .unwrap()
        };
        for _ in 0..1000 {
            many(&make(), 1, 1).await;
        }
        for port in 1..=10 {
            assert!(
                (50..160).contains(&fleet.calls(port)),
                "{pick:?}: {}",
                fleet.calls(port)
            );
        }
    }
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    for _ in 0..400 {
        port(&balancer.clone()).await.unwrap();
    }
    assert_eq!([1, 2, 3, 4].map(|port| fleet.calls(port)), [100; 4]);
}

// LB-10, dotnet/yarp#2065, PostHog/posthog#64326
#[tokio::test(start_paused = true)]
async fn one_two_or_three_endpoints_and_a_list_of_duplicates_serve_every_pick() {
    for pick in PICKS {
        for ports in [&[1][..], &[1, 2], &[1, 2, 3], &[1, 1, 2, 2, 2, 1]] {
            let fleet = Fleet::default();
            let list = ports.iter().map(|port| Endpoint::new(address(*port)));
            let balancer = Balancer::builder(Fixed::new(list))
                .pick(pick)
                .build(fleet.make())
                .unwrap();
            many(&balancer, 1_000, 3).await;
            let n = ports.iter().max().copied().unwrap_or(1);
            assert_eq!(balancer.endpoints().len(), usize::from(n));
            let least = (1..=n).map(|port| fleet.calls(port)).min();
            assert!(
                least > Some(1_000 / usize::from(n) - 120),
                "{pick:?} {ports:?}: {least:?}"
            );
        }
    }
}

// LB-10: the lighter of two
#[tokio::test(start_paused = true)]
async fn of_two_the_one_with_fewer_calls_in_flight_is_always_taken() {
    for pick in [
        Pick::least_cost(),
        Pick::p2c_peak_ewma(),
        Pick::p2c_in_flight(),
        Pick::least_in_flight(),
    ] {
        let fleet = Fleet::default();
        fleet.set(1, Manner::Hang, Duration::ZERO);
        fleet.set(2, Manner::Hang, Duration::ZERO);
        let balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .build(fleet.make())
            .unwrap();
        let mut running = Vec::new();
        for calls in 1..=20 {
            let mut call = Box::pin(balancer.clone().oneshot(get()));
            assert!((&mut call).now_or_never().is_none());
            running.push(call);
            assert!(
                fleet.in_flight(1).abs_diff(fleet.in_flight(2)) <= 1,
                "{pick:?} after {calls}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_follows_the_weights_and_a_weight_that_changes() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let sets = Sets::new();
        let weighted = |one, two| {
            let endpoints = [(1, one), (2, two)];
            endpoints
                .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight))
                .to_vec()
        };
        sets.answer(weighted(1, 3));
        let balancer = Balancer::builder(sets.clone())
            .pick(pick)
            .random(Random::seeded(6))
            .build(fleet.make())
            .unwrap();
        many(&balancer, 4_000, 1).await;
        assert!(
            (850..1150).contains(&fleet.calls(1)),
            "{pick:?}: {}",
            fleet.calls(1)
        );
        sets.answer(weighted(1, 1));
        settle().await;
        fleet.forget_calls();
        many(&balancer, 4_000, 1).await;
        assert!(
            (1_850..2_150).contains(&fleet.calls(1)),
            "{pick:?}: {}",
            fleet.calls(1)
        );
        assert_eq!(fleet.made(1), 1, "a new weight makes no new service");
    }
}

// LB-03, cloudflare/pingora#891
#[tokio::test(start_paused = true)]
async fn weights_of_zero_are_equal_alone_and_nothing_beside_others() {
    let of = |weights: [u32; 2]| {
        let endpoints = [(1, weights[0]), (2, weights[1])];
        endpoints
            .map(|(port, weight)| Endpoint::new(address(port)).with_weight(weight))
            .to_vec()
    };
    for pick in PICKS {
        let (fleet, sets) = (Fleet::default(), Sets::new());
        let builder = Balancer::builder(sets.clone())
            .pick(pick)
            .slow_start(SlowStart::off());
        let balancer = builder.build(fleet.make()).unwrap();
        let calls = async |weights| {
            sets.answer(of(weights));
            settle().await;
            fleet.forget_calls();
            many(&balancer, 1_000, 1).await;
            [fleet.calls(1), fleet.calls(2)]
        };
        assert!(
            calls([0, 0]).await.iter().all(|calls| *calls > 400),
            "{pick:?}"
        );
        assert_eq!(calls([0, 5]).await, [0, 1_000], "{pick:?}");
        assert_eq!(status(&balancer, 1).state, EndpointState::Unweighted);
        assert_eq!(calls([5, 0]).await, [1_000, 0], "{pick:?}");
        assert!(
            calls([u32::MAX, u32::MAX])
                .await
                .iter()
                .all(|calls| *calls > 400),
            "{pick:?}"
        );
        let [light, heavy] = calls([1, u32::MAX]).await;
        assert!(light <= 1 && heavy >= 999, "{pick:?}");
    }
}

// LB-09, envoyproxy/envoy#2259, twitter/finagle#585
#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for pick in PICKS {
        let fleet = Fleet::default();
        fleet.set(1, Manner::Reset, Duration::ZERO);
        let builder = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .ejection(Ejection::off());
        let balancer = builder.build(fleet.make()).unwrap();
        let retry = Retry::default()
            .max_attempts(2)
            .without_budget()
            .build()
            .unwrap();
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(retry))
            .service(balancer);
        for _ in 0..1_000 {
            assert!(service.clone().oneshot(get()).await.is_ok(), "{pick:?}");
        }
        assert!(fleet.calls(1) > 0, "{pick:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_endpoint_alone_it_is_tried_again() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Reset, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let retry = Retry::default()
        .max_attempts(3)
        .without_budget()
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer);
    let error = service.oneshot(get()).await.unwrap_err();
    assert_eq!(fleet.calls(1), 3);
    let report = error.report();
    assert_eq!(report.attempts().len(), 3);
    assert!(
        report
            .attempts()
            .iter()
            .all(|attempt| attempt.endpoint() == Some("10.0.0.1:1"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_leaves_the_zone_that_failed() {
    let fleet = Fleet::default();
    let list = [(1, "a"), (2, "a"), (3, "b")];
    let list = list.map(|(port, zone)| Endpoint::new(address(port)).with_zone(zone));
    (1..3).for_each(|port| fleet.set(port, Manner::Reset, Duration::ZERO));
    let balancer = Balancer::builder(Fixed::new(list))
        .ejection(Ejection::off())
        .build(fleet.make())
        .unwrap();
    let retry = Retry::default()
        .max_attempts(2)
        .without_budget()
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer);
    for _ in 0..300 {
        assert_eq!(port(&service).await.unwrap(), 3);
    }
}
