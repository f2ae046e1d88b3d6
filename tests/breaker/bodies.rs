//! How a response body ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_makes_a_failure_of_a_good_head() {
    let mock = Mock::new([body([
        Step::data("a"),
        Step::fail(io::ErrorKind::ConnectionReset),
    ])]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let response = answer(&service).await;
    assert_eq!(breaker.state(), State::Closed);
    let error = response
        .into_body()
        .collect()
        .await
        .expect_err("it breaks off");
    assert!(error.is::<io::Error>(), "the error is not hidden");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_bad_head_settles_before_its_body() {
    let mock = Mock::new([Act::status(500).body([Step::stall()])]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _body = answer(&service).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_decided_by_the_end_of_its_body() {
    for (last, state) in [
        (Step::data("b"), State::Closed),
        (Step::fail(io::ErrorKind::ConnectionReset), State::Open),
    ] {
        let mock = Mock::new([
            reset(),
            body([Step::data("a"), Step::pause(millis(500)), last]),
        ]);
        let (breaker, service) = before(on_first_failure(), &mock);
        let _ = call(&service).await;
        advance(5 * SECOND).await;
        let response = answer(&service).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.try_acquire().is_err(), "its slot is taken");
        let _ = response.into_body().collect().await;
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_head_stands_when_its_body_is_dropped_or_empty() {
    for steps in [vec![Step::stall()], vec![]] {
        let (breaker, service) = before(on_first_failure(), &Mock::new([reset(), body(steps)]));
        let _ = call(&service).await;
        advance(5 * SECOND).await;
        drop(answer(&service).await);
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_closes_it_after_a_second_and_may_still_fail() {
    let steps = [
        Step::data("a"),
        Step::pause(millis(1_001)),
        Step::data("b"),
        Step::pause(SECOND),
        Step::fail(io::ErrorKind::ConnectionReset),
    ];
    let mock = Mock::new([reset(), body(steps.clone()), body(steps)]);
    let (breaker, service) = before(on_first_failure(), &mock);
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    let mut stream = answer(&service).await.into_body();
    let _ = stream.frame().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Closed,
        "it has been read for over a second"
    );
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Closed,
        "what the probe says now is late"
    );

    let mut stream = answer(&service).await.into_body();
    let _ = (stream.frame().await, stream.frame().await);
    assert_eq!(breaker.state(), State::Closed);
    let _ = stream.frame().await;
    assert_eq!(
        breaker.state(),
        State::Open,
        "one failure more of the same period"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_slow_and_a_long_body_is_not() {
    let config = || {
        Breaker::builder()
            .slow_call_rate_threshold(1.0)
            .slow_call_duration(SECOND)
            .min_requests(1)
    };
    for (act, state) in [
        (Act::ok().after(SECOND), State::Open),
        (
            body([Step::pause(9 * SECOND), Step::data("a")]),
            State::Closed,
        ),
    ] {
        let (breaker, service) = before(config(), &Mock::new([act]));
        let _ = call(&service).await;
        assert_eq!(breaker.state(), state);
    }
}
