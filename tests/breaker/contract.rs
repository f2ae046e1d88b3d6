//! What tower's services owe one another.

use super::*;

/// TWR-01, tower-rs/tower#547, joshrotenberg/tower-resilience#286, tower-rs/tower-http#561: the mock panics
/// otherwise.
#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_that_is_called() {
    let mock = Mock::new([reset()]).readiness(Readiness::After(millis(10)));
    let (breaker, mut service) = before(on_first_failure(), &mock);
    let instances = mock.instances();
    let ready = be_ready(&mut service).await.expect("always ready");
    sleep(millis(10)).await;
    let ready = be_ready(ready).await.expect("always ready");
    assert_eq!(mock.reserved(), 1);
    let _ = ready.call(get()).await;
    assert_eq!(mock.instances(), instances, "no clone was called");
    assert_eq!(breaker.state(), State::Open);
    advance(5 * SECOND).await;
    let probe = service.call(get()).await;
    assert!(probe.is_ok(), "a probe makes its instance ready inside");
}

/// TWR-05, linkerd/linkerd2-proxy#506
#[tokio::test(start_paused = true)]
async fn the_service_below_is_called_only_once_it_is_ready() {
    let mock = Mock::new([]).readiness(Readiness::Polls(2));
    let (_breaker, service) = before(on_first_failure(), &mock);
    assert_eq!(call(&service).await, Ok(200));
    assert_eq!(mock.ready_polls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_comes_out_of_the_call_and_counts() {
    let mock = Mock::new([]).readiness(Readiness::Fail(io::ErrorKind::ConnectionRefused));
    let (breaker, mut service) = before(on_first_failure(), &mock);
    let ready = be_ready(&mut service).await.expect("always ready");
    let error = ready.call(get()).await.expect_err("the inner error");
    assert_eq!(error.disposition(), Disposition::NotSent);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_bad_policy_is_refused_and_blames_nobody() {
    let mock = Mock::new([]);
    let (breaker, service) = before(on_first_failure(), &mock);
    fail(&breaker, 1);
    advance(5 * SECOND).await;
    let mut request = get();
    request
        .extensions_mut()
        .insert(CallPolicy::new().max_attempts(0));
    let error = service
        .clone()
        .oneshot(request)
        .await
        .expect_err("zero attempts");
    assert_eq!((error.kind(), mock.calls()), (ErrorKind::InvalidCall, 0));
    assert_eq!(call(&service).await, Ok(200), "the probe's slot is free");
}
