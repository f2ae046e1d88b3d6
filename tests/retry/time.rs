//! What the deadline leaves for attempts.

use super::*;

// TMO-02, JustinBeckwith/retry-axios#138
#[tokio::test(start_paused = true)]
async fn all_attempts_share_one_deadline() {
    let script = Script::by(|_| Act::hang());
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(12)).expect("valid"))
        .layer(RetryLayer::new(
            plain().max_retries(5).build().expect("valid"),
        ))
        .layer(AttemptTimeoutLayer::new(Duration::from_secs(5)).expect("valid"))
        .service(script.clone());
    let start = Instant::now();
    let error = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect_err("it hangs");
    assert_eq!(start.elapsed(), Duration::from_secs(12));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(script.recorder().times(), [0, 5_100, 10_300]);
    assert_eq!(error.report().attempts().len(), 3);
    assert!(error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_call_alone_ends_attempts_and_waits() {
    let deadline = CallPolicy::new().deadline(Duration::from_millis(1_000));
    let script = Script::by(|attempt| {
        if attempt == 1 {
            answering(503)
        } else {
            Act::hang()
        }
    });
    let start = Instant::now();
    let call = with_policy(request(Method::GET, ""), deadline);
    let error = retried(&script, plain())
        .oneshot(call)
        .await
        .expect_err("it hangs");
    assert_eq!(start.elapsed(), Duration::from_millis(1_000));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let outcomes: Vec<_> = error
        .report()
        .attempts()
        .iter()
        .map(|attempt| attempt.outcome())
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Status(http::StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Unanswered
        ]
    );
}

// TMO-03, softonic/axios-retry#21
#[tokio::test(start_paused = true)]
async fn an_attempt_gets_what_is_left_and_with_nothing_left_none_starts() {
    let ends = |took: u64| {
        let script = Script::by(move |_| answering(503).after(millis(took)));
        let backoff = Backoff::default()
            .initial(Duration::from_millis(1))
            .jitter(Jitter::None);
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_millis(100)).expect("valid"))
            .layer(RetryLayer::new(
                plain()
                    .backoff(backoff)
                    .max_retries(3)
                    .build()
                    .expect("valid"),
            ))
            .layer(AttemptTimeoutLayer::default())
            .service(script.clone());
        (script, service)
    };
    let start = Instant::now();
    let (script, service) = ends(40);
    let error = service.oneshot(request(Method::POST, "")).await;
    assert_eq!(stop(&error.expect("a response")), Some(Stop::NotIdempotent));
    assert_eq!(script.seen().len(), 1);

    let (script, service) = ends(45);
    let error = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect_err("out of time");
    assert_eq!(
        (error.kind(), script.recorder().times()),
        (ErrorKind::DeadlineExceeded, vec![0, 46, 93])
    );
    assert_eq!(start.elapsed(), Duration::from_millis(140));

    let (script, service) = ends(49);
    let answer = service.oneshot(request(Method::GET, "")).await;
    assert_eq!(script.recorder().times(), [0, 50]);
    assert_eq!(
        stop(&answer.expect("a response")),
        Some(Stop::DeadlineInfeasible),
        "99 ms are gone"
    );
}

// TMO-04, hashicorp/go-retryablehttp#272, temporalio/temporal#4403
#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_end_in_time_is_not_waited_for() {
    let script = statuses([503]);
    let backoff = Backoff::default()
        .initial(Duration::from_secs(10))
        .max(Duration::from_secs(10))
        .jitter(Jitter::None);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(5)).expect("valid"))
        .layer(RetryLayer::new(
            plain().backoff(backoff).build().expect("valid"),
        ))
        .service(script.clone());
    let start = Instant::now();
    let answer = service
        .oneshot(request(Method::GET, ""))
        .await
        .expect("the last real outcome");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(
        (answer.status().as_u16(), stop(&answer)),
        (503, Some(Stop::DeadlineInfeasible))
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_shorter_than_recent_successes_does_not_start() {
    let fail = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fail);
    let script = Script::by(move |_| {
        answering(if failing.load(SeqCst) { 503 } else { 200 }).after(millis(40))
    });
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_millis(170)).expect("valid"))
        .layer(RetryLayer::new(plain().build().expect("valid")))
        .service(script.clone());
    for _ in 0..20 {
        service
            .clone()
            .oneshot(request(Method::GET, ""))
            .await
            .expect("a response");
    }
    fail.store(true, SeqCst);
    let answer = service
        .clone()
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        stop(&answer),
        Some(Stop::DeadlineInfeasible),
        "30 ms are left after the wait, 40 are needed"
    );
    assert_eq!(script.seen().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_take_half_of_the_call_only_if_another_may_follow() {
    let hang_once = || {
        Script::by(|attempt| {
            if attempt == 1 {
                Act::hang()
            } else {
                answering(200)
            }
        })
    };
    let over = |script: &Script, settings: Retry| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(3)).expect("valid"))
            .layer(RetryLayer::new(settings.build().expect("valid")))
            .layer(AttemptTimeoutLayer::default())
            .service(script.clone())
    };
    let script = hang_once();
    let answer = over(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!(
        (answer.status().as_u16(), script.recorder().times()),
        (200, vec![0, 1_600])
    );
    let empty = Budget::new(0.1, 0.0, 1).expect("valid");
    for (settings, method) in [
        (plain(), Method::POST),
        (plain().max_attempts(1), Method::GET),
        (plain().budget(empty), Method::GET),
    ] {
        let script = hang_once();
        let start = Instant::now();
        let error = over(&script, settings)
            .oneshot(request(method, ""))
            .await
            .expect_err("it hangs");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
