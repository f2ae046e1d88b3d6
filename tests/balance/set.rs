//! The set of endpoints and its changes.

use super::*;

// LB-02, tower-rs/tower#856, #874
#[tokio::test(start_paused = true)]
async fn a_set_that_changes_between_readiness_and_call_is_picked_from_anew() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2, 3]));
    let mut balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for gone in [2, 1] {
        port(&balancer).await.unwrap();
        fleet.forget_calls();
        let ready: &mut Balancer<Member> = ServiceExt::<Request<Body>>::ready(&mut balancer)
            .await
            .unwrap();
        let left = endpoints([1, 2, 3])
            .into_iter()
            .filter(|endpoint| endpoint.address() != address(gone));
        sets.answer(left.collect());
        settle().await;
        ready.call(get()).await.unwrap();
        many(&balancer, 100, 1).await;
        assert_eq!(fleet.calls(gone), 0);
        sets.answer(endpoints([1, 2, 3]));
        settle().await;
    }
}

// LB-05, linkerd/linkerd2#2550
#[tokio::test(start_paused = true)]
async fn a_parked_call_moves_when_discovery_replaces_its_endpoint() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let parked = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(1)).await;
    sets.answer(endpoints([2]));
    let answered = timeout(S(1), parked).await.expect("moved").unwrap();
    assert_eq!(answered.unwrap(), 2);
    assert_eq!(fleet.instances(1), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_ends_at_its_deadline_and_is_not_sent() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let start = Instant::now();
    let error = DeadlineLayer::new(MS(700))
        .unwrap()
        .layer(balancer.clone())
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(start.elapsed(), MS(700));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(status(&balancer, 1).in_flight, 0);
}

// LB-05, tower-rs/tower#824
#[tokio::test(start_paused = true)]
async fn updates_apply_without_traffic() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    port(&balancer).await.unwrap();
    sets.answer(endpoints([2, 3]));
    settle().await;
    let known: Vec<_> = balancer
        .endpoints()
        .iter()
        .map(|status| status.address)
        .collect();
    assert_eq!(known, [address(2), address(3)]);
    assert_eq!((fleet.made(2), fleet.instances(1)), (1, 0));
}

// LB-07, linkerd/linkerd2-proxy#240
#[tokio::test(start_paused = true)]
async fn before_the_first_answer_calls_wait_and_wake_when_it_comes() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let start = Instant::now();
    let error = DeadlineLayer::new(S(1))
        .unwrap()
        .layer(balancer.clone())
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::DeadlineExceeded, Disposition::NotSent)
    );
    assert_eq!(start.elapsed(), S(1));

    let waiting = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(60)).await;
    sets.answer(endpoints([1]));
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_endpoints_ends_at_the_deadline_of_the_call() {
    let balancer = Balancer::builder(Sets::new())
        .build(Fleet::default().make())
        .unwrap();
    let mut request = get();
    request
        .extensions_mut()
        .insert(CallPolicy::new().deadline(S(2)));
    let service = DeadlineLayer::new(S(9)).unwrap().layer(balancer);
    let start = Instant::now();
    assert!(service.oneshot(request).await.is_err());
    assert_eq!(start.elapsed(), S(2));
}

// LB-07, tower-rs/tower#17
#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_an_error_at_once_if_there_never_was_a_set_or_it_is_trusted() {
    for trust in [false, true] {
        let (fleet, sets) = (Fleet::default(), Sets::of([]));
        let builder = Balancer::builder(sets.clone());
        let builder = if trust {
            builder.trust_empty()
        } else {
            builder
        };
        let balancer = builder.build(fleet.make()).unwrap();
        let start = Instant::now();
        let error = port(&balancer).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.disposition()),
            (ErrorKind::NoEndpoints, Disposition::NotSent)
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(error.to_string().contains("empty"), "{error}");

        sets.answer(endpoints([1]));
        settle().await;
        port(&balancer).await.unwrap();
        sets.answer(vec![]);
        settle().await;
        assert_eq!(port(&balancer).await.is_err(), trust);
        sets.answer(endpoints([2]));
        settle().await;
        assert_eq!(port(&balancer).await.unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_wakes_the_calls_that_wait() {
    let sets = Sets::new();
    let balancer = Balancer::builder(sets.clone())
        .build(Fleet::default().make())
        .unwrap();
    let waiting = tokio::spawn(async move { port(&balancer).await });
    sleep(S(1)).await;
    sets.answer(vec![]);
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::NoEndpoints
    );
}

#[tokio::test(start_paused = true)]
async fn errors_of_discovery_never_shrink_the_set_and_tell_a_call_that_waited_in_vain() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    sets.fail("no such host");
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let service = DeadlineLayer::new(S(1)).unwrap().layer(balancer.clone());
    let error = service.oneshot(get()).await.unwrap_err();
    assert!(error.to_string().contains("no such host"), "{error}");

    sets.answer(endpoints([1, 2]));
    settle().await;
    port(&balancer).await.unwrap();
    for _ in 0..3 {
        sets.fail("timed out");
        settle().await;
        port(&balancer).await.unwrap();
        assert_eq!(balancer.endpoints().len(), 2);
    }
}

// LB-08, apple/servicetalk#1028
#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_finishes_its_calls_gets_no_new_ones_and_is_freed() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    fleet.set(1, Manner::Answer(200), S(2));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let start = Instant::now();
    let long = tokio::spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    sleep(S(1)).await;
    sets.answer(endpoints([2]));
    settle().await;
    many(&balancer, 100, 1).await;
    assert_eq!(fleet.calls(1), 1);
    assert_eq!(long.await.unwrap().unwrap(), 1);
    assert_eq!(start.elapsed(), S(2));
    assert_eq!(fleet.instances(1), 0);
}

// LB-12, envoyproxy/envoy#433, grpc/grpc-java#11342
#[tokio::test(start_paused = true)]
async fn a_thousand_answers_with_duplicates_change_nothing() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 1, 2]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for round in 0..1000 {
        sets.answer(endpoints([1, 1, 2]));
        settle().await;
        port(&balancer).await.unwrap();
        assert_eq!(balancer.endpoints().len(), 2, "round {round}");
    }
    sets.answer(endpoints([1, 2]));
    settle().await;
    assert_eq!([fleet.made(1), fleet.made(2)], [1, 1]);
    assert!(fleet.calls(1) > 400 && fleet.calls(2) > 400);
}

#[tokio::test(start_paused = true)]
async fn churn_leaves_no_service_behind_and_keeps_those_that_stay() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for round in 0..1000u16 {
        let ports = [1, 2, 100 + round, 101 + round, 100 + round];
        sets.answer(endpoints(ports));
        settle().await;
        assert!(ports.contains(&port(&balancer).await.unwrap()));
    }
    assert_eq!(balancer.endpoints().len(), 4);
    assert_eq!([fleet.made(1), fleet.made(2), fleet.made(700)], [1, 1, 1]);
    let alive = (100..1098)
        .filter(|port| fleet.instances(*port) > 0)
        .count();
    assert_eq!(alive, 0);
}
