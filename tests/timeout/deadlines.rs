//! The deadline of a call.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_exactly_at_its_deadline_and_may_have_happened() {
    let start = Instant::now();
    let mock = Mock::new([Act::hang()]);
    let service = deadline(millis(50)).layer(mock.clone());
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(start.elapsed(), millis(50));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.is_timeout() && timeout_in_chain(&error));
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(error.report().attempts().len(), 1);
    assert_eq!(error.report().elapsed(), millis(50));
    assert_eq!((mock.in_flight(), mock.dropped()), (0, 1));
}

// TWR (linkerd/linkerd2-proxy#506), TMO-09 (grpc/grpc-rust#1619)
#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_timed_out_and_nothing_was_sent() {
    let mock = Mock::new([]).readiness(Readiness::Never);
    let services = (
        deadline(millis(30)).layer(mock.clone()),
        attempt(millis(30)).layer(mock.clone()),
    );

    let start = Instant::now();
    let mut service = services.0;
    be_ready(&mut service).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = service.call(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::DeadlineExceeded)
    );
    assert_eq!(error.disposition(), Disposition::NotSent);

    let start = Instant::now();
    let mut service = services.1;
    be_ready(&mut service).await;
    let error = service.call(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::AttemptTimeout)
    );
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert!(timeout_in_chain(&error));
    assert_eq!(mock.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn time_spent_on_readiness_counts() {
    let slow = || Mock::new([Act::ok().after(millis(30))]).readiness(Readiness::After(millis(40)));
    for (limit, in_time) in [(millis(71), true), (millis(69), false)] {
        let start = Instant::now();
        let answer = deadline(limit).layer(slow()).oneshot(get()).await;
        assert_eq!(answer.is_ok(), in_time);
        assert_eq!(start.elapsed(), millis(70).min(limit));
    }
    let error = attempt(millis(69))
        .layer(slow())
        .oneshot(get())
        .await
        .map(drop)
        .unwrap_err();
    assert!(error.may_have_happened(), "it was sent after 40 ms");
}

// TWR-01 (tower-rs/tower#547), TWR-05 (linkerd/linkerd2-proxy#506)
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_called() {
    for readiness in [
        Readiness::Always,
        Readiness::Polls(2),
        Readiness::After(millis(5)),
    ] {
        let mock = Mock::new([]).readiness(readiness);
        let mut service = ServiceBuilder::new()
            .layer(deadline(millis(100)))
            .layer(attempt(millis(50)))
            .service(mock.clone());
        for _ in 0..3 {
            be_ready(&mut service).await;
            service.call(get()).await.expect("an answer");
        }
        assert_eq!((mock.calls(), mock.reserved()), (3, 0), "{readiness:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_comes_out_of_the_call() {
    let mock = Mock::new([]).readiness(Readiness::Fail(io::ErrorKind::ConnectionRefused));
    let mut service = deadline(millis(100)).layer(attempt(millis(50)).layer(mock.clone()));
    be_ready(&mut service).await;
    let error = service.call(get()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(
        source.map(io::Error::kind),
        Some(io::ErrorKind::ConnectionRefused)
    );
    assert!(!error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_at_the_very_expiry_is_not_lost() {
    let act = || Act::ok().after(millis(50));
    let response = deadline(millis(50))
        .layer(Mock::new([act()]))
        .oneshot(get())
        .await;
    assert!(response.is_ok());
    let response = attempt(millis(50))
        .layer(Mock::new([act()]))
        .oneshot(get())
        .await;
    assert!(response.is_ok());
    let run = Deadline::from_now(millis(50)).run(sleep(millis(50))).await;
    assert!(run.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_found_late_by_a_busy_task_is_not_lost() {
    let mock = Mock::new([Act::ok().after(millis(10))]);
    let mut call = tokio_test::task::spawn(deadline(millis(50)).layer(mock).oneshot(get()));
    assert!(call.poll().is_pending());
    advance(millis(500)).await;
    assert!(matches!(call.poll(), std::task::Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn the_value_of_a_call_replaces_the_layers_in_either_direction() {
    for (policy, ends) in [
        (CallPolicy::new().deadline(millis(20)), Some(millis(20))),
        (CallPolicy::new().deadline(millis(900)), Some(millis(900))),
        (CallPolicy::new().no_deadline(), None),
        (CallPolicy::new().deadline(Duration::MAX), None),
        (CallPolicy::new(), Some(millis(100))),
    ] {
        let start = Instant::now();
        let service = deadline(millis(100)).layer(Mock::new([Act::hang()]));
        let ended = tokio::time::timeout(millis(5000), service.oneshot(with(policy))).await;
        assert_eq!(ended.is_ok().then(|| start.elapsed()), ends);
    }
    for (policy, ends) in [
        (
            CallPolicy::new().attempt_timeout(millis(20)),
            Some(millis(20)),
        ),
        (
            CallPolicy::new().attempt_timeout(millis(900)),
            Some(millis(900)),
        ),
        (CallPolicy::new().attempt_timeout(Duration::MAX), None),
        (CallPolicy::new(), Some(millis(100))),
    ] {
        let start = Instant::now();
        let service = attempt(millis(100)).layer(Mock::new([Act::hang()]));
        let ended = tokio::time::timeout(millis(5000), service.oneshot(with(policy))).await;
        assert_eq!(ended.is_ok().then(|| start.elapsed()), ends);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_layer_without_a_limit_takes_that_of_the_call() {
    let start = Instant::now();
    let service = AttemptTimeoutLayer::default().layer(Mock::new([Act::hang()]));
    let policy = CallPolicy::new().attempt_timeout(millis(25));
    let error = service.oneshot(with(policy)).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(25), ErrorKind::AttemptTimeout)
    );

    let service = AttemptTimeoutLayer::default().layer(Mock::new([Act::hang()]));
    assert!(
        tokio::time::timeout(millis(5000), service.oneshot(get()))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn an_outer_deadline_shortens_an_inner_one_and_is_not_lengthened_by_it() {
    for (outer, inner) in [(40, 90), (90, 40)] {
        let start = Instant::now();
        let mock = Mock::new([Act::hang()]);
        let service = deadline(millis(outer)).layer(deadline(millis(inner)).layer(mock));
        let error = service.oneshot(get()).await.map(drop).unwrap_err();
        assert_eq!(
            (start.elapsed(), error.kind()),
            (millis(40), ErrorKind::DeadlineExceeded)
        );
    }
}
