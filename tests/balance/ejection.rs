//! Endpoints that fail are left out, and come back.

use super::*;

// OUT-01, envoyproxy/envoy#26877, #27066
#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_is_ejected() {
    for (share, most) in [(0.5, 1), (0.67, 2)] {
        let fleet = Fleet::default();
        failing(&fleet, 1..4);
        let builder =
            Balancer::builder(fixed([1, 2, 3])).ejection(Ejection::consecutive(2).max_share(share));
        let balancer = builder.build(fleet.make()).unwrap();
        for _ in 0..200 {
            many(&balancer, 1, 1).await;
            assert!(ejected(&balancer) <= most);
        }
        assert_eq!(ejected(&balancer), most);
    }
}

// OUT-02, envoyproxy/envoy#3263, #17504
#[tokio::test(start_paused = true)]
async fn a_share_below_one_endpoint_ejects_none_unless_one_is_allowed() {
    let tenth = Ejection::consecutive(1).max_share(0.1);
    let sets = [
        (fixed([1]), tenth, 0),
        (fixed([1, 2]), tenth, 0),
        (fixed([1]), tenth.at_least_one(true), 0),
        (fixed([1, 2]), tenth.at_least_one(true), 1),
        (fixed([1]), Ejection::default(), 0),
    ];
    for (source, ejection, out) in sets {
        let fleet = Fleet::default();
        failing(&fleet, 1..3);
        let balancer = Balancer::builder(source)
            .ejection(ejection)
            .build(fleet.make())
            .unwrap();
        many(&balancer, 100, 1).await;
        assert_eq!(ejected(&balancer), out);
        assert!(fleet.calls(1) > 0);
    }
}

// OUT-05, envoyproxy/envoy#2671, twitter/finagle#529
#[tokio::test(start_paused = true)]
async fn with_everything_ejected_all_are_used_and_come_back_without_a_restart() {
    let fleet = Fleet::default();
    let causes = [
        Manner::Answer(503),
        Manner::Refuse,
        Manner::Reset,
        Manner::Answer(500),
    ];
    (1..5)
        .zip(causes)
        .for_each(|(port, manner)| fleet.set(port, manner, MS(1)));
    let builder =
        Balancer::builder(fixed([1, 2, 3, 4])).ejection(Ejection::consecutive(1).max_share(1.0));
    let balancer = builder
        .random(Random::seeded(8))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 200, 1).await;
    assert!(ejected(&balancer) >= 3);
    assert!(
        (1..5).all(|port| fleet.calls(port) >= 5),
        "{:?}",
        [1, 2, 3, 4].map(|port| fleet.calls(port))
    );
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(1)));
    for _ in 0..400 {
        many(&balancer, 1, 1).await;
        sleep(MS(100)).await;
    }
    assert_eq!(ejected(&balancer), 0);
}

// OUT-03, envoyproxy/envoy#6016
#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_probed_by_one_call_and_comes_back() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let builder = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(fleet.make()).unwrap();
    let retry = Retry::default().without_budget().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    for day in 0..20 {
        failing(&fleet, [1]);
        while ejected(&balancer) == 0 {
            many(&service, 1, 1).await;
        }
        fleet.forget_calls();
        let start = Instant::now();
        fleet.set(1, Manner::Answer(200), MS(200));
        while fleet.calls(1) == 0 {
            many(&service, 1, 1).await;
            sleep(MS(10)).await;
        }
        let waited = start.elapsed();
        assert!((S(4)..MS(5_400)).contains(&waited), "day {day}: {waited:?}");
        assert_eq!(ejected(&balancer), 0, "day {day}");
        sleep(S(3600)).await;
    }
}

// Faults that wander from server to server fill the share with servers that recovered long ago.
#[tokio::test(start_paused = true)]
async fn recovered_endpoints_do_not_keep_a_failing_one_in_use() {
    let fleet = Fleet::default();
    (1..9).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
    let builder = Balancer::builder(fixed([1, 2, 3, 4, 5, 6, 7, 8]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(fleet.make()).unwrap();
    let retry = Retry::default().without_budget().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    failing(&fleet, 1..5);
    while ejected(&balancer) < 4 {
        many(&service, 1, 1).await;
    }
    (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
    sleep(S(2)).await;
    failing(&fleet, [5]);
    fleet.forget_calls();
    many(&service, 200, 1).await;
    assert!(fleet.calls(5) <= 4, "{} calls failed", fleet.calls(5));
    assert!(ejected(&balancer) <= 4);
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_probes_however_many_there_are() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while ejected(&balancer) == 0 {
        many(&balancer, 1, 1).await;
    }
    fleet.set(1, Manner::Hang, Duration::ZERO);
    fleet.forget_calls();
    // Without a retry above any call may probe, after a second period.
    advance(S(10)).await;
    let mut calls: Vec<_> = (0..50)
        .map(|_| Box::pin(balancer.clone().oneshot(get())))
        .collect();
    for call in &mut calls {
        let _ = call.now_or_never();
    }
    assert_eq!(fleet.in_flight(1), 1);
    assert!(matches!(status(&balancer, 1).state, EndpointState::Probing));
    drop(calls);
    assert!(matches!(
        status(&balancer, 1).state,
        EndpointState::Ejected { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_retries_is_no_probe_while_others_may_come() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while ejected(&balancer) == 0 {
        many(&balancer, 1, 1).await;
    }
    fleet.forget_calls();
    let retry = Retry::default().without_budget().build().unwrap();
    let retrying = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(balancer.clone());
    advance(S(6)).await;
    for _ in 0..20 {
        balancer.clone().oneshot(get()).await.unwrap();
        retrying.clone().oneshot(post()).await.unwrap();
    }
    assert_eq!(fleet.calls(1), 0);
    assert_eq!(
        port(&retrying).await.unwrap(),
        2,
        "the probe failed and was retried elsewhere"
    );
    assert_eq!(fleet.calls(1), 1);
}

#[tokio::test(start_paused = true)]
async fn random_errors_everywhere_eject_nobody_for_long_with_the_adaptive_rule() {
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .random(Random::seeded(9))
        .build(fleet.make())
        .unwrap();
    let (random, mut out) = (Random::seeded(10), 0);
    for _ in 0..3_000 {
        let bad = (1..5).filter(|_| random.unit() < 0.2);
        (1..5).for_each(|port| fleet.set(port, Manner::Answer(200), MS(5)));
        failing(&fleet, bad.collect::<Vec<_>>());
        many(&balancer, 1, 1).await;
        out += ejected(&balancer);
    }
    assert!(out < 3_000 / 10, "{out}");
}

#[tokio::test(start_paused = true)]
async fn cleared_ejections_are_gone_at_once() {
    let fleet = Fleet::default();
    failing(&fleet, 1..5);
    let balancer = Balancer::builder(fixed([1, 2, 3, 4]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    many(&balancer, 50, 1).await;
    assert_eq!(ejected(&balancer), 2);
    balancer.clear_ejections();
    assert_eq!(ejected(&balancer), 0);
}

// CLS-03, microsoft/agent-governance-toolkit#2202
#[tokio::test(start_paused = true)]
async fn callers_that_give_up_eject_nobody() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Answer(200), S(1));
    fleet.set(2, Manner::Answer(200), S(1));
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(3)).unwrap().layer(balancer.clone());
    for _ in 0..50 {
        let _ = timeout(MS(50), port(&service)).await;
    }
    assert_eq!(ejected(&balancer), 0);
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.penalty == 1.0 && status.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_reach_their_deadline_count_against_the_endpoint() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer.clone());
    many(&service, 4, 1).await;
    assert_eq!(ejected(&balancer), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_counts_against_the_endpoint() {
    let broken = Act::ok().body([Step::data("x"), Step::fail(io::ErrorKind::ConnectionReset)]);
    let one = Mock::new(vec![broken; 4]);
    let (first, second) = (one.clone(), Mock::new([]));
    let builder = Balancer::builder(fixed([1, 2]))
        .ejection(Ejection::consecutive(2))
        .pick(Pick::round_robin());
    let balancer = builder.build(move |endpoint| match endpoint.address().port() {
        1 => Ok(first.clone()),
        _ => Ok(second.clone()),
    });
    let balancer = balancer.unwrap();
    for _ in 0..8 {
        let response = balancer.clone().oneshot(get()).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    assert_eq!(one.calls(), 2);
    assert!(matches!(
        balancer.endpoints()[0].state,
        EndpointState::Ejected { .. }
    ));
}
