//! Limits of the response body.

use super::*;

// TMO-01 (browserbase/sdk-node#206, haskell/wreq#141, seanmonstar/reqwest#1380)
#[tokio::test(start_paused = true)]
async fn a_body_that_falls_silent_errors_exactly_at_the_deadline() {
    let start = Instant::now();
    let body = [Step::data("x"), Step::stall()];
    let mock = Mock::new([Act::ok().after(millis(10)).body(body)]);
    let service = deadline(millis(50)).layer(mock.clone());
    let response = service.oneshot(get()).await.expect("a head");
    assert_eq!(start.elapsed(), millis(10));
    let mut body = response.into_body();
    let frame = body.frame().await.expect("one byte").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "x");
    let error = ours(body.frame().await.expect("an error").unwrap_err());
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(50), ErrorKind::DeadlineExceeded)
    );
    assert!(timeout_in_chain(&error));
    assert_eq!(error.disposition(), Disposition::Answered);
    assert!(
        body.frame().await.is_none(),
        "nothing comes after the error"
    );
    drop(body);
    assert_eq!(mock.bodies(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_ends_at_its_idle_limit_and_a_busy_one_does_not() {
    let limits = deadline(Duration::MAX)
        .body_idle(millis(30))
        .expect("above zero");
    let busy = [
        Step::pause(millis(29)),
        Step::data("a"),
        Step::pause(millis(29)),
        Step::data("b"),
    ];
    let silent = [Step::data("a"), Step::pause(millis(31)), Step::data("b")];

    let start = Instant::now();
    let service = limits.layer(Mock::new([Act::ok().body(busy)]));
    let response = service.oneshot(get()).await.expect("a head");
    let (text, error, at) = read(response.into_body(), start).await;
    assert_eq!(
        (text.as_str(), error.is_none(), at),
        ("ab", true, millis(58))
    );

    let start = Instant::now();
    let service = limits.layer(Mock::new([Act::ok().body(silent)]));
    let response = service.oneshot(get()).await.expect("a head");
    let (text, error, at) = read(response.into_body(), start).await;
    let error = error.expect("silent for too long");
    assert_eq!(
        (text.as_str(), error.kind(), at),
        ("a", ErrorKind::BodyIdle, millis(30))
    );
    assert!(timeout_in_chain(&error));
}

#[tokio::test(start_paused = true)]
async fn the_idle_limit_of_a_call_replaces_the_layers() {
    for (given, ends) in [
        (millis(10), Some(millis(10))),
        (millis(90), None),
        (Duration::MAX, None),
    ] {
        let limits = deadline(Duration::MAX)
            .body_idle(millis(30))
            .expect("above zero");
        let body = [Step::pause(millis(60)), Step::data("a")];
        let start = Instant::now();
        let service = limits.layer(Mock::new([Act::ok().body(body)]));
        let response = service
            .oneshot(with(CallPolicy::new().body_idle(given)))
            .await
            .expect("a head");
        let (_, error, at) = read(response.into_body(), start).await;
        assert_eq!(error.is_some().then_some(at), ends);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_held_against_the_server() {
    let limits = deadline(Duration::MAX)
        .body_idle(millis(30))
        .expect("above zero");
    let mock = Mock::new([Act::ok().body([Step::data("a"), Step::data("b"), Step::data("c")])]);
    let mut body = limits
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    for expected in ["a", "b", "c"] {
        sleep(millis(500)).await;
        let frame = body.frame().await.expect("data").expect("no error");
        assert_eq!(frame.into_data().expect("data"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_does_not_escape_its_deadline() {
    let mock = Mock::new([Act::ok().body([Step::flood()])]);
    let mut body = deadline(millis(50))
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    for _ in 0..3 {
        assert!(body.frame().await.expect("data").is_ok());
    }
    advance(millis(50)).await;
    assert!(
        body.frame().await.expect("data").is_ok(),
        "ready at the very expiry"
    );
    advance(millis(1)).await;
    let error = ours(body.frame().await.expect("an error").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_data_and_the_end_are_handed_out_however_late() {
    let mock = Mock::new([Act::ok().body([Step::data("whole")])]);
    let body = deadline(millis(50))
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    sleep(millis(500)).await;
    let (text, error, _) = read(body, Instant::now()).await;
    assert_eq!((text.as_str(), error.is_none()), ("whole", true));
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_stream_stays_open() {
    let hour = Duration::from_secs(3600);
    let body = [
        Step::pause(hour),
        Step::data("a"),
        Step::pause(hour),
        Step::data("b"),
    ];
    let service = deadline(millis(50)).layer(Mock::new([Act::ok().body(body)]));
    let start = Instant::now();
    let response = service
        .oneshot(with(CallPolicy::new().no_deadline()))
        .await
        .expect("a head");
    let (text, error, at) = read(response.into_body(), start).await;
    assert_eq!((text.as_str(), error.is_none(), at), ("ab", true, hour * 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_comes_through_as_it_is() {
    let mock =
        Mock::new([Act::ok().body([Step::data("a"), Step::fail(io::ErrorKind::ConnectionReset)])]);
    let body = deadline(millis(50))
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    let error = body.collect().await.map(drop).unwrap_err();
    let error = error.downcast::<io::Error>().expect("the body's own error");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
