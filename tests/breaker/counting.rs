//! What counts, and against whom.

use super::*;

/// CLS-03, microsoft/agent-governance-toolkit#2202, MCKRUZ/microsoft-agentic-harness#353
#[tokio::test(start_paused = true)]
async fn callers_that_give_up_do_not_open_it() {
    let mock = Mock::new(std::iter::repeat_n(Act::ok().after(SECOND), 50));
    let (breaker, service) = before(on_first_failure(), &mock);
    for _ in 0..50 {
        assert!(timeout(millis(50), call(&service)).await.is_err());
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.abandoned, snapshot.failed),
        (State::Closed, 50, 0)
    );
}

/// CLS-03: a caller in a hurry who says so by a deadline of his own.
#[tokio::test(start_paused = true)]
async fn a_short_deadline_of_one_call_does_not_blame_the_service() {
    let breaker = built(on_first_failure());
    let mock = Mock::new(std::iter::repeat_n(Act::ok().after(SECOND), 9));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::default())
        .service(mock);
    for policy in [
        CallPolicy::new().deadline(millis(50)),
        CallPolicy::new().attempt_timeout(millis(50)),
    ] {
        let mut request = get();
        request.extensions_mut().insert(policy);
        let error = stack
            .clone()
            .oneshot(request)
            .await
            .expect_err("too slow for it");
        assert!(error.is_timeout());
        assert_eq!(breaker.state(), State::Closed, "{error}");
    }
    assert_eq!(breaker.snapshot().neutral, 2);
}

/// CLS-04: twice the usual time is enough, however short the deadline that the call brought.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_one_call_counts_once_it_leaves_twice_the_usual_time() {
    for (given, failed) in [(19, 0), (20, 1)] {
        let breaker = built(on_first_failure());
        let usual = std::iter::repeat_n(Act::ok().after(millis(10)), 20);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(Mock::new(usual.chain([Act::hang()])));
        for _ in 0..20 {
            stack.clone().oneshot(get()).await.expect("a response");
        }
        let mut request = get();
        request
            .extensions_mut()
            .insert(CallPolicy::new().deadline(millis(given)));
        stack.oneshot(request).await.expect_err("it hangs");
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.neutral), (failed, 1 - failed));
    }
}

/// CLS-04: the client's own deadline, above the breaker, drops the future: a timeout all the same.
#[tokio::test(start_paused = true)]
async fn a_hung_service_opens_it_where_only_a_deadline_above_ends_the_calls() {
    let breaker = built(Breaker::builder().consecutive_failures(3));
    let mock = Mock::new(std::iter::repeat_n(Act::hang(), 9));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(mock);
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        stack.clone().oneshot(get()).await.expect_err("it hangs");
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().failed, 3);
}

/// CLS-04: a caller who waits longer than half of the client's deadline and then goes has seen it hang.
#[tokio::test(start_paused = true)]
async fn a_drop_counts_once_the_attempt_was_slow() {
    for (patience, failed) in [(1_499, 0), (1_500, 1)] {
        let breaker = built(on_first_failure());
        let mock = Mock::new([Act::hang()]);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .service(mock);
        assert!(
            timeout(millis(patience), stack.oneshot(get()))
                .await
                .is_err()
        );
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.abandoned), (failed, 1 - failed));
    }
}

/// CLS-04, resilience4j/resilience4j#2013, #902
#[tokio::test(start_paused = true)]
async fn timeouts_of_attempts_below_open_it_whatever_hides_them_above() {
    let breaker = built(Breaker::builder().consecutive_failures(5));
    let mock = Mock::new(std::iter::repeat_n(Act::hang(), 20));
    let stack = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(SECOND).expect("above zero"))
        .service(mock.clone());
    let hide = |_| async { Ok::<_, Error>("fallback") };
    let hidden = ServiceExt::<Request<String>>::then(stack, hide);
    for _ in 0..20 {
        assert_eq!(hidden.clone().oneshot(get()).await.unwrap(), "fallback");
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.failed, snapshot.rejected), (5, 15));
    assert_eq!((snapshot.opened, mock.calls()), (1, 5));
}

/// CLS-05, nodeshift/opossum#45
#[tokio::test(start_paused = true)]
async fn rejections_are_counted_as_rejections_alone() {
    let mock = Mock::new([reset()]);
    let config = Breaker::builder()
        .failure_rate_threshold(0.5)
        .min_requests(1);
    let (breaker, service) = before(config, &mock);
    let _ = call(&service).await;
    for _ in 0..1_000 {
        assert!(is_open(&call(&service).await));
    }
    advance(5 * SECOND).await;
    assert_eq!(call(&service).await, Ok(200));
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.rejected, snapshot.failed, snapshot.neutral),
        (1_000, 1, 0)
    );
    assert_eq!((snapshot.window_results, snapshot.window_failures), (0, 0));
    assert_eq!(mock.calls(), 2);
}

/// CLS-06, resilience4j/resilience4j#568, #1568
#[tokio::test(start_paused = true)]
async fn client_faults_neither_open_it_nor_keep_it_half_open() {
    let faults = [400, 401, 404, 409, 422];
    let script = faults.into_iter().cycle().take(100).map(Act::status);
    let mock = Mock::new(script.chain([reset(), Act::status(404)]));
    let (breaker, service) = before(on_first_failure(), &mock);
    for _ in 0..100 {
        assert!(call(&service).await.is_ok());
    }
    assert_eq!(breaker.state(), State::Closed);
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    assert_eq!(call(&service).await, Ok(404));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn server_faults_and_broken_connections_count_and_throttling_counts_for_rates() {
    let rates = || {
        Breaker::builder()
            .failure_rate_threshold(1.0)
            .min_requests(1)
    };
    for (act, by_run, by_rate) in [
        (Act::status(500), State::Open, State::Open),
        (Act::status(503), State::Open, State::Open),
        (reset(), State::Open, State::Open),
        (
            Act::fail(io::ErrorKind::ConnectionRefused),
            State::Open,
            State::Open,
        ),
        (Act::status(429), State::Closed, State::Open),
        (Act::status(301), State::Closed, State::Closed),
    ] {
        for (config, state) in [(on_first_failure(), by_run), (rates(), by_rate)] {
            let (breaker, service) = before(config, &Mock::new([act.clone()]));
            let _ = call(&service).await;
            assert_eq!(breaker.state(), state);
        }
    }
}

/// CLS-06: one documented rule for a throttled probe: a service that still throttles has not recovered.
#[tokio::test(start_paused = true)]
async fn a_throttled_probe_opens_it_again() {
    let (breaker, service) = before(on_first_failure(), &Mock::new([reset(), Act::status(429)]));
    let _ = call(&service).await;
    advance(5 * SECOND).await;
    let _ = call(&service).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_the_users_own_is_asked() {
    let breaker = built(on_first_failure());
    let classifier = Classifier::default()
        .response(|status, _| (status == 404).then_some(Verdict::FAILURE))
        .evidence(|error| error.is::<io::Error>().then_some(Evidence::Unsendable));
    let service = CircuitBreakerLayer::new(breaker.clone())
        .classifier(classifier)
        .layer(Mock::new([reset(), Act::status(404)]));
    assert!(service.clone().oneshot(get()).await.is_err());
    assert_eq!(breaker.state(), State::Closed, "nobody's fault, it says");
    service.oneshot(get()).await.expect("a response");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn pushback_lengthens_the_break_to_a_minute_at_most() {
    for (asked, seconds) in [("2", 5), ("20", 20), ("3600", 60)] {
        let busy = Act::status(503).header("retry-after", asked);
        let (breaker, service) = before(on_first_failure(), &Mock::new([busy]));
        let _ = call(&service).await;
        assert_eq!(breaker.snapshot().next_probe_in, Some(seconds * SECOND));
    }
}

/// CLS-05: an open breaker is not retried against.
#[tokio::test(start_paused = true)]
async fn a_retry_above_does_not_try_again_against_an_open_breaker() {
    let (breaker, mock) = (built(on_first_failure()), Mock::new([reset()]));
    let retry = Retry::default().max_attempts(3);
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(retry.build().expect("in range")))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(mock.clone());
    let request = || Request::new(Body::empty());
    let error = stack
        .clone()
        .oneshot(request())
        .await
        .expect_err("reset, then open");
    assert!(
        matches!(error.kind(), ErrorKind::CircuitOpen { .. }),
        "{error}"
    );
    assert_eq!((mock.calls(), breaker.snapshot().rejected), (1, 1));
    assert!(error.may_have_happened(), "the first attempt may have");
    let error = stack.oneshot(request()).await.expect_err("open");
    assert_eq!(error.report().stop(), Some(Stop::CircuitOpen));
    assert_eq!((mock.calls(), breaker.snapshot().rejected), (1, 2));
    assert_eq!(error.disposition(), Disposition::NotSent);
}

/// CLS-04: the default attempt limit, half of the client's deadline, is the client's; half of a shorter one that
/// a call brought is not. The second attempt has less than half of the deadline left and is excused.
#[tokio::test(start_paused = true)]
async fn limits_that_retry_decides_count_unless_the_call_was_in_a_hurry() {
    for (given, failed, neutral) in [(None, 1, 1), (Some(millis(300)), 0, 2)] {
        let config = Breaker::builder().consecutive_failures(9);
        let breaker = built(config);
        let stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new(3 * SECOND).expect("above zero"))
            .layer(RetryLayer::new(
                Retry::default().max_attempts(2).build().expect("in range"),
            ))
            .layer(CircuitBreakerLayer::new(breaker.clone()))
            .layer(AttemptTimeoutLayer::default())
            .service(Mock::new([Act::hang(), Act::hang()]));
        let mut request = Request::new(Body::empty());
        if let Some(given) = given {
            request
                .extensions_mut()
                .insert(CallPolicy::new().deadline(given));
        }
        assert!(
            stack
                .oneshot(request)
                .await
                .expect_err("it hangs")
                .is_timeout()
        );
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.failed, snapshot.neutral), (failed, neutral));
    }
}
