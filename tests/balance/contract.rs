//! What tower's services owe one another.

use super::*;

// TWR-01, tower-rs/tower#547; TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_called() {
    for readiness in [
        Readiness::Always,
        Readiness::Polls(2),
        Readiness::After(MS(30)),
    ] {
        let mock = Mock::new([]).readiness(readiness);
        let service = mock.clone();
        let mut balancer = Balancer::builder(fixed([1, 2]))
            .build(move |_| Ok(service.clone()))
            .unwrap();
        for _ in 0..20 {
            let ready: &mut Balancer<Mock> = ServiceExt::<Request<Body>>::ready(&mut balancer)
                .await
                .unwrap();
            ready.call(get()).await.unwrap();
        }
        assert_eq!((mock.calls(), mock.reserved()), (20, 0));
    }
}

// TWR-06, tower-rs/tower#303
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_broke_since_it_was_ready_is_passed_over_and_no_call_is_lost() {
    for pick in PICKS {
        let fleet = Fleet::default();
        let mut balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .build(fleet.make())
            .unwrap();
        for _ in 0..50 {
            let ready: &mut Balancer<Member> = ServiceExt::<Request<Body>>::ready(&mut balancer)
                .await
                .unwrap();
            fleet.set_ready(1, Ready::Broken);
            let response = ready.call(get()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&body[..], b"2");
            fleet.set_ready(1, Ready::Yes);
            advance(S(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_every_endpoint_broken_the_error_comes_out_as_not_sent() {
    let fleet = Fleet::default();
    (1..4).for_each(|port| fleet.set_ready(port, Ready::Broken));
    let balancer = Balancer::builder(fixed([1, 2, 3]))
        .build(fleet.make())
        .unwrap();
    let error = balancer.clone().oneshot(get()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
    );
    assert_eq!((1..4).map(|port| fleet.calls(port)).sum::<usize>(), 0);
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_not_ready_is_passed_over_for_one_that_is() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let balancer = Balancer::builder(fixed([1, 2]))
        .pick(Pick::round_robin())
        .build(fleet.make())
        .unwrap();
    many(&balancer, 100, 1).await;
    assert_eq!(fleet.calls(2), 100);
    assert_eq!(status(&balancer, 1).in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_first_when_no_other_is_ready() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    fleet.set_ready(2, Ready::Never);
    let balancer = Balancer::builder(fixed([1, 2]))
        .build(fleet.make())
        .unwrap();
    let waiting = tokio::spawn(async move { port(&balancer).await });
    sleep(S(5)).await;
    fleet.set_ready(1, Ready::Yes);
    fleet.set_ready(2, Ready::Yes);
    timeout(S(1), waiting)
        .await
        .expect("woken")
        .unwrap()
        .unwrap();
}

// TWR-03, joshrotenberg/tower-resilience#365
#[tokio::test(start_paused = true)]
async fn nobody_wakes_itself_while_a_call_waits() {
    let fleet = Fleet::default();
    fleet.set_ready(1, Ready::Never);
    let parked = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let awaiting = Balancer::builder(Sets::new()).build(fleet.make()).unwrap();
    for balancer in [parked, awaiting] {
        let service = DeadlineLayer::new(S(10)).unwrap().layer(balancer);
        let (answer, polls) = support::mock::Counted::new(service.oneshot(get())).await;
        assert!(answer.is_err());
        assert!(polls < 6, "{polls}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_says_where_the_attempt_went() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Refuse, MS(3));
    let named = Endpoint::new(address(1)).with_name("payments-1");
    let balancer = Balancer::builder(Fixed::new([named]))
        .build(fleet.make())
        .unwrap();
    let error = balancer.oneshot(get()).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::NotSent);
    let [attempt] = error.report().attempts() else {
        panic!("one attempt: {error}")
    };
    assert_eq!(
        (attempt.endpoint(), attempt.ran()),
        (Some("payments-1"), MS(3))
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cuts_an_attempt_off_says_where_it_was() {
    let fleet = Fleet::default();
    fleet.set(1, Manner::Hang, Duration::ZERO);
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    let error = DeadlineLayer::new(S(1))
        .unwrap()
        .layer(balancer)
        .oneshot(get())
        .await
        .unwrap_err();
    assert_eq!(error.report().attempts()[0].endpoint(), Some("10.0.0.1:1"));
    assert!(error.may_have_happened());
}
