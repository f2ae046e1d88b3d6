//! Calls in flight.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_full_endpoint_is_passed_over_and_when_all_are_full_a_call_is_refused_unsent() {
    for pick in PICKS {
        let fleet = Fleet::default();
        (1..3).for_each(|port| fleet.set(port, Manner::Hang, Duration::ZERO));
        let balancer = Balancer::builder(fixed([1, 2]))
            .pick(pick)
            .max_in_flight(3)
            .build(fleet.make())
            .unwrap();
        let mut calls: Vec<_> = (0..6)
            .map(|_| Box::pin(balancer.clone().oneshot(get())))
            .collect();
        for call in &mut calls {
            assert!(call.now_or_never().is_none());
        }
        assert_eq!((fleet.in_flight(1), fleet.in_flight(2)), (3, 3));
        let error = balancer.clone().oneshot(get()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.disposition()),
            (ErrorKind::Overloaded, Disposition::NotSent)
        );
        assert_eq!(ejected(&balancer), 0);
        calls.pop();
        assert!(
            balancer.clone().oneshot(get()).now_or_never().is_none(),
            "a place came free"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn counters_are_back_at_zero_wherever_a_call_is_dropped() {
    let slow_body = || {
        Act::ok()
            .after(MS(10))
            .body([Step::data("a"), Step::pause(MS(10)), Step::data("b")])
    };
    for cut in 0..60 {
        let mock = Mock::new([slow_body(), slow_body()]).readiness(Readiness::After(MS(10)));
        let sets = Sets::new();
        let service = mock.clone();
        let balancer = Balancer::builder(sets.clone())
            .build(move |_| Ok(service.clone()))
            .unwrap();
        let call = async {
            let response = balancer.clone().oneshot(get()).await.unwrap();
            let mut body = pin!(response.into_body());
            while body.frame().await.is_some() {}
        };
        let answer = async {
            sleep(MS(10)).await;
            sets.answer(endpoints([1]));
            std::future::pending::<()>().await;
        };
        let _ = timeout(MS(cut), async {
            tokio::select! { () = call => {}, () = answer => {} }
        })
        .await;
        settle().await;
        assert!(
            balancer
                .endpoints()
                .iter()
                .all(|status| status.in_flight == 0),
            "cut at {cut} ms"
        );
        assert_eq!(
            (mock.in_flight(), mock.bodies(), mock.reserved()),
            (0, 0, 0),
            "cut at {cut} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_its_body_ends_or_is_dropped() {
    let steps = || [Step::data("a"), Step::pause(S(5)), Step::data("b")];
    let mock = Mock::new([Act::ok().body(steps()), Act::ok().body(steps())]);
    let balancer = Balancer::builder(fixed([1]))
        .build(move |_| Ok(mock.clone()))
        .unwrap();
    let in_flight = || balancer.endpoints()[0].in_flight;
    let read = balancer.clone().oneshot(get()).await.unwrap();
    let dropped = balancer.clone().oneshot(get()).await.unwrap();
    assert_eq!(in_flight(), 2);
    drop(dropped);
    assert_eq!(in_flight(), 1);
    read.into_body().collect().await.unwrap();
    assert_eq!(in_flight(), 0);
}
