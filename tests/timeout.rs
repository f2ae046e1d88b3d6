//! The deadline and attempt timeout layers over scripted services, under paused time.

mod support;

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, BoxError, CallPolicy, Deadline, DeadlineLayer, Disposition,
    Error, ErrorKind, IdempotencyKeyLayer, Jitter, Report, Retry, RetryLayer,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use support::mock::{Act, Counted, Mock, Readiness, Script, Step, millis};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

fn deadline(length: Duration) -> DeadlineLayer {
    DeadlineLayer::new(length).expect("above zero")
}

fn attempt(limit: Duration) -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(limit).expect("above zero")
}

fn get() -> Request<String> {
    Request::new(String::new())
}

fn with(policy: CallPolicy) -> Request<String> {
    let mut request = get();
    request.extensions_mut().insert(policy);
    request
}

/// Our layers are ready at the first poll, whatever is below them.
async fn be_ready<S: Service<Request<String>, Error = Error>>(service: &mut S) {
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(service.poll_ready(cx))).await;
    assert!(
        matches!(polled, std::task::Poll::Ready(Ok(()))),
        "{polled:?}"
    );
}

/// Whether the source chain of an error holds an io timeout.
fn timeout_in_chain(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        source = error.source();
    }
    false
}

fn ours(error: BoxError) -> Box<Error> {
    error.downcast().expect("an error of this crate")
}

/// Reads a body to its end or its error, with the time at which that came.
async fn read<B>(mut body: B, start: Instant) -> (String, Option<Box<Error>>, Duration)
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut text = String::new();
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&data).expect("text"));
            }
            Some(Err(error)) => return (text, Some(ours(error)), start.elapsed()),
            None => return (text, None, start.elapsed()),
        }
    }
}

// ===== the deadline =====

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

// TMO-08 (tokio-rs/tokio#3551, #5183, #6634)
#[tokio::test(start_paused = true)]
async fn endless_limits_mean_never_and_panic_nowhere() {
    for endless in [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 10),
        Duration::from_secs(1 << 40),
    ] {
        let limits = deadline(endless).body_idle(endless).expect("above zero");
        let body = [Step::pause(Duration::from_secs(3600)), Step::data("late")];
        let mock = Mock::new([Act::ok().after(Duration::from_secs(3600)).body(body)]);
        let start = Instant::now();
        let service = limits.layer(attempt(endless).layer(mock));
        let policy = CallPolicy::new()
            .deadline(endless)
            .attempt_timeout(endless)
            .body_idle(endless);
        let response = service.oneshot(with(policy)).await.expect("an answer");
        let (text, error, _) = read(response.into_body(), start).await;
        assert_eq!((text.as_str(), error.is_none()), ("late", true));
        assert!(
            Deadline::from_now(endless)
                .run(sleep(millis(9)))
                .await
                .is_ok()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn zero_is_refused_where_it_is_set_and_never_means_no_limit() {
    assert_eq!(
        DeadlineLayer::new(Duration::ZERO).unwrap_err().field(),
        "DeadlineLayer::new"
    );
    let idle = deadline(millis(1)).body_idle(Duration::ZERO).unwrap_err();
    assert_eq!(idle.field(), "DeadlineLayer::body_idle");
    let error = AttemptTimeoutLayer::new(Duration::ZERO).unwrap_err();
    assert_eq!(error.field(), "AttemptTimeoutLayer::new");
    assert!(error.to_string().contains("0s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_policy_fails_the_call_unsent_and_frees_the_ready_instance() {
    for policy in [
        CallPolicy::new().deadline(Duration::ZERO),
        CallPolicy::new().attempt_timeout(Duration::ZERO),
        CallPolicy::new().body_idle(Duration::ZERO),
        CallPolicy::new().max_attempts(0),
    ] {
        let mock = Mock::new([]);
        let mut outer = deadline(millis(50)).layer(mock.clone());
        let mut alone = attempt(millis(50)).layer(mock.clone());
        be_ready(&mut outer).await;
        be_ready(&mut alone).await;
        let errors = [
            outer
                .call(with(policy.clone()))
                .await
                .map(drop)
                .unwrap_err(),
            alone.call(with(policy)).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidCall);
            assert_eq!(error.disposition(), Disposition::NotSent);
            assert!(error.to_string().contains("CallPolicy::"), "{error}");
        }
        assert_eq!((mock.calls(), mock.reserved()), (0, 0));
    }
}

// ===== the attempt's limit =====

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_ends_at_its_limit() {
    let start = Instant::now();
    let mock = Mock::new([Act::hang()]);
    let error = attempt(millis(20))
        .layer(mock.clone())
        .oneshot(get())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(20), ErrorKind::AttemptTimeout)
    );
    assert!(error.may_have_happened() && timeout_in_chain(&error));
    assert_eq!((mock.in_flight(), mock.dropped()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_attempt_ends_with_the_head() {
    let body = [Step::pause(millis(500)), Step::data("slow")];
    let mock = Mock::new([Act::ok().after(millis(10)).body(body)]);
    let response = attempt(millis(20))
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head");
    let text = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(text, "slow");
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn an_attempt_gets_no_more_time_than_the_call_has_left() {
    let start = Instant::now();
    let service = deadline(millis(30)).layer(attempt(millis(80)).layer(Mock::new([Act::hang()])));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::DeadlineExceeded)
    );

    let start = Instant::now();
    let service = deadline(millis(80)).layer(attempt(millis(30)).layer(Mock::new([Act::hang()])));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(30), ErrorKind::AttemptTimeout)
    );
    assert!(error.may_have_happened());
}

/// Sleeps before it hands a request on, as a queue does.
#[derive(Clone)]
struct Queue<S>(S, Duration);

impl<S, R> Service<R> for Queue<S>
where
    S: Service<R, Future: Send> + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let clone = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, clone);
        let wait = self.1;
        Box::pin(async move {
            sleep(wait).await;
            inner.call(request).await
        })
    }
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn with_nothing_left_no_attempt_starts() {
    // The queue does not give up at the deadline by itself; what it hands on too late must not be sent.
    let mock = Mock::new([]);
    let late = Queue(attempt(millis(500)).layer(mock.clone()), millis(60));
    let mut service = deadline(millis(50)).layer(late);
    be_ready(&mut service).await;
    let mut call = tokio_test::task::spawn(service.call(get()));
    assert!(call.poll().is_pending());
    advance(millis(70)).await;
    let std::task::Poll::Ready(Err(error)) = call.poll() else {
        panic!("still pending")
    };
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(mock.calls(), 0);
    assert_eq!(error.disposition(), Disposition::NotSent);
}

// TMO-02 (JustinBeckwith/retry-axios#138)
#[tokio::test(start_paused = true)]
async fn a_deadline_placed_below_a_repetition_does_not_start_anew() {
    let start = Instant::now();
    let mock = Mock::new([Act::hang(), Act::hang(), Act::hang()]);
    let inner = deadline(millis(50)).layer(mock.clone());
    // Repeats within one call, as a foreign retry between two layers of this crate would.
    let repeated = tower::service_fn(move |request: Request<String>| {
        let inner = inner.clone();
        async move {
            let _ = inner.clone().oneshot(request.clone()).await;
            inner.oneshot(request).await
        }
    });
    let service = deadline(millis(500)).layer(repeated);
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (millis(50), ErrorKind::DeadlineExceeded)
    );
    assert_eq!(mock.calls(), 1, "the second attempt had no time left");
}

// ===== below a retry =====

fn retry(attempts: u32) -> RetryLayer {
    let retry = Retry::default().max_attempts(attempts).without_budget();
    RetryLayer::new(retry.build().expect("valid settings"))
}

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::new(Bytes::from("again")))
}

// TMO-02 (JustinBeckwith/retry-axios#138)
#[tokio::test(start_paused = true)]
async fn the_whole_call_ends_at_its_deadline_however_often_it_is_tried() {
    let hang = || (0..6).map(|_| Act::hang());
    let deadline = deadline(Duration::from_secs(12));
    let limit = attempt(Duration::from_secs(5));
    let (outside, inside) = (Mock::new(hang()), Mock::new(hang()));

    let start = Instant::now();
    let service = deadline.layer(retry(6).layer(limit.layer(outside.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (Duration::from_secs(12), ErrorKind::DeadlineExceeded)
    );
    assert_eq!((outside.calls(), error.report().attempts().len()), (3, 3));
    assert!(error.may_have_happened(), "{error}");

    // The wrong order does no harm: the deadline is still that of the whole call.
    let start = Instant::now();
    let service = retry(6).layer(deadline.layer(limit.layer(inside.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (start.elapsed(), error.kind()),
        (Duration::from_secs(12), ErrorKind::DeadlineExceeded)
    );
    assert_eq!(inside.calls(), 3);
}

// TMO-03 (softonic/axios-retry#21)
#[tokio::test(start_paused = true)]
async fn the_last_attempt_gets_what_is_left_and_none_starts_with_nothing() {
    for first in [millis(60), millis(95), millis(99), millis(100)] {
        let start = Instant::now();
        let fail = Act::fail(io::ErrorKind::ConnectionReset).after(first);
        let mock = Mock::new([fail, Act::hang(), Act::hang()]);
        let layers = ServiceBuilder::new()
            .layer(deadline(millis(100)))
            .layer(retry(4));
        let service = layers.layer(attempt(millis(98))).service(mock.clone());
        let error = service.oneshot(request()).await.map(drop).unwrap_err();
        assert!(
            start.elapsed() <= millis(100),
            "{first:?}: {:?}",
            start.elapsed()
        );
        assert!(
            error.is_timeout() || start.elapsed() < millis(100),
            "{error}"
        );
        for seen in mock.seen() {
            assert!(seen.at < millis(100), "{first:?}: started at {:?}", seen.at);
        }
        assert_eq!((mock.in_flight(), mock.reserved()), (0, 0));
    }
}

// TMO-04 (hashicorp/go-retryablehttp#272, temporalio/temporal#4403)
#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_happen_is_not_waited_for() {
    let start = Instant::now();
    let mock = Mock::new([Act::status(503).header("retry-after", "10")]);
    let service = deadline(Duration::from_secs(5)).layer(retry(3).layer(mock.clone()));
    let response = service
        .oneshot(request())
        .await
        .expect("the last real outcome");
    assert_eq!(
        (start.elapsed(), response.status().as_u16()),
        (Duration::ZERO, 503)
    );
    let report = response.extensions().get::<Report>().expect("a report");
    assert!(
        report.stop().is_some(),
        "it says why there was no further attempt: {report}"
    );
    assert_eq!(mock.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_is_tried_again_and_its_story_told() {
    let mock = Mock::new([Act::hang(), Act::ok().after(millis(5))]);
    let layers = ServiceBuilder::new()
        .layer(deadline(Duration::from_secs(9)))
        .layer(retry(3));
    let service = layers.layer(attempt(millis(50))).service(mock.clone());
    let response = service
        .oneshot(request())
        .await
        .expect("the second attempt");
    let report = response.extensions().get::<Report>().expect("a report");
    assert_eq!(report.attempts().len(), 2);
    assert!(
        report.may_have_happened(),
        "the first attempt may have: {report}"
    );
    assert_eq!((mock.calls(), mock.dropped()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_passed_through_retry_waited_for_and_then_sent_may_have_happened() {
    let mock = Mock::new([Act::hang()]).readiness(Readiness::After(millis(5)));
    let service = deadline(millis(50)).layer(retry(3).layer(retry(3).layer(mock.clone())));
    let error = service.oneshot(request()).await.map(drop).unwrap_err();
    assert_eq!(
        (error.kind(), mock.calls()),
        (ErrorKind::DeadlineExceeded, 1)
    );
    assert!(error.may_have_happened(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_a_pause_ends_the_call_then() {
    let mock = Mock::new((0..9).map(|_| Act::status(503)));
    let policy = Retry::default().max_attempts(9).without_budget();
    let policy = policy.backoff(Backoff::default().initial(millis(400)).jitter(Jitter::None));
    let retry = RetryLayer::new(policy.build().expect("valid settings"));
    let start = Instant::now();
    let service = deadline(millis(500)).layer(retry.layer(mock.clone()));
    let response = service
        .oneshot(request())
        .await
        .expect("the last real outcome");
    assert_eq!((response.status().as_u16(), mock.calls()), (503, 2));
    assert_eq!(start.elapsed(), millis(400), "800 ms more would not fit");
}

// ===== the body =====

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

// ===== what is given back, and how often anything is woken =====

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_everything_back() {
    let mock = Mock::new([Act::hang(), Act::hang(), Act::ok().body([Step::stall()])]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(50)))
        .layer(attempt(millis(20)))
        .service(mock.clone());
    let mut before = tokio_test::task::spawn(service.clone().oneshot(get()));
    drop(tokio_test::task::spawn(service.clone().oneshot(get())));
    assert!(before.poll().is_pending());
    assert_eq!(mock.in_flight(), 1);
    drop(before);
    assert_eq!((mock.in_flight(), mock.dropped()), (0, 1));

    let mut timed = tokio_test::task::spawn(service.clone().oneshot(get()));
    assert!(timed.poll().is_pending());
    drop(timed);
    let response = service.clone().oneshot(get()).await.expect("a head");
    assert_eq!(mock.bodies(), 1);
    drop((response, service));
    assert_eq!(
        (
            mock.bodies(),
            mock.in_flight(),
            mock.reserved(),
            mock.instances()
        ),
        (0, 0, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_polled_a_handful_of_times() {
    let mock = Mock::new([Act::hang(), Act::ok().after(millis(9_000))]);
    let service = deadline(millis(10_000)).layer(attempt(millis(8_000)).layer(mock.clone()));
    let (answer, polls) = Counted::new(service.clone().oneshot(get())).await;
    assert!(answer.is_err());
    assert!(polls <= 3, "{polls} polls");

    let body = [Step::pause(millis(5_000)), Step::data("a")];
    let mock = Mock::new([Act::ok().body(body)]);
    let limits = deadline(millis(10_000))
        .body_idle(millis(6_000))
        .expect("above zero");
    let body = limits
        .layer(mock)
        .oneshot(get())
        .await
        .expect("a head")
        .into_body();
    let (body, polls) = Counted::new(body.collect()).await;
    assert!(body.is_ok());
    assert!(polls <= 3, "{polls} polls");
}

// TWR-02, TWR-03 (joshrotenberg/tower-resilience#365), TWR-04 (ZcashFoundation/zebra#1593)
#[tokio::test(start_paused = true)]
async fn a_limiter_below_admits_one_at_a_time_and_waiting_costs_a_handful_of_polls() {
    let mock = Mock::new((0..3).map(|_| Act::ok().after(millis(10_000))));
    let service = ServiceBuilder::new()
        .layer(deadline(millis(60_000)))
        .layer(IdempotencyKeyLayer::default())
        .layer(attempt(millis(50_000)))
        .concurrency_limit(1)
        .service(mock.clone());
    let (mut first, mut second) = (service.clone(), service.clone());
    be_ready(&mut first).await;
    be_ready(&mut second).await;
    let start = Instant::now();
    let calls = (
        Counted::new(first.call(get())),
        Counted::new(second.call(get())),
    );
    let ((one, _), (two, polls)) = tokio::join!(calls.0, calls.1);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(start.elapsed(), millis(20_000), "one after the other");
    assert!(polls <= 5, "{polls} polls");

    // A handle that was polled ready and never called gives its slot back when it is dropped.
    let mut idle = service.clone();
    be_ready(&mut idle).await;
    drop(idle);
    assert!(service.oneshot(get()).await.is_ok());
}

// RUN-02 (tower-rs/tower#139, tokio-rs/tokio#1713)
#[test]
fn layers_and_services_are_built_and_dropped_outside_a_runtime() {
    let mock = Mock::new([]);
    let service = deadline(millis(50)).layer(attempt(millis(20)).layer(mock.clone()));
    drop(service.clone());
    drop(service);
    assert_eq!(mock.instances(), 1);
}

#[test]
fn eight_threads_share_a_service_and_nothing_is_left_over() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(async {
        let acts = (0..400).map(|n| if n % 2 == 0 { Act::hang() } else { Act::ok() });
        let mock = Mock::new(acts);
        let service =
            deadline(Duration::from_secs(20)).layer(attempt(millis(30)).layer(mock.clone()));
        let calls = (0..400).map(|_| tokio::spawn(service.clone().oneshot(get())));
        let mut counts = (0, 0);
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("no panic") {
                Ok(_) => counts.0 += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
                    counts.1 += 1;
                }
            }
        }
        assert_eq!(counts, (200, 200));
        drop(service);
        assert_eq!(
            (mock.in_flight(), mock.reserved(), mock.instances()),
            (0, 0, 1)
        );
    });
}

#[tokio::test(start_paused = true)]
async fn an_error_of_this_crate_passes_through_both_layers_unwrapped() {
    let innermost = attempt(millis(10)).layer(Mock::new([Act::hang()]));
    let service = deadline(millis(500)).layer(attempt(millis(100)).layer(innermost));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_error_stays_reachable() {
    let mock = Mock::new([Act::fail(io::ErrorKind::BrokenPipe)]);
    let service = deadline(millis(500)).layer(attempt(millis(100)).layer(mock));
    let error = service.oneshot(get()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_again_gets_its_whole_time_again() {
    let service = deadline(millis(50)).layer(Mock::new([Act::hang(), Act::hang()]));
    let template = with(CallPolicy::new().deadline(millis(30)));
    for _ in 0..2 {
        let start = Instant::now();
        let answer = service.clone().oneshot(template.clone()).await;
        assert!(answer.is_err());
        assert_eq!(start.elapsed(), millis(30));
    }
}

// ===== any future =====

#[tokio::test(start_paused = true)]
async fn a_future_is_cut_at_the_deadline_and_dropped() {
    let start = Instant::now();
    let held = Arc::new(());
    let inner = Arc::clone(&held);
    let run = Deadline::from_now(millis(40)).run(async move {
        sleep(millis(500)).await;
        drop(inner);
    });
    let mut run = tokio_test::task::spawn(run);
    assert!(run.poll().is_pending());
    advance(millis(41)).await;
    let std::task::Poll::Ready(Err(error)) = run.poll() else {
        panic!("still pending")
    };
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "the future is gone before its error is seen"
    );
    assert!(start.elapsed() >= millis(40));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.may_have_happened() && timeout_in_chain(&error));
}

#[tokio::test(start_paused = true)]
async fn a_future_is_not_begun_after_its_deadline() {
    let deadline = Deadline::from_now(millis(10));
    sleep(millis(10)).await;
    let error = deadline
        .run(async { panic!("begun") })
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::NotSent);
}

/// Both services are what an application's state needs.
#[test]
fn services_and_futures_are_send_and_services_are_sync() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send + 'static>(_: T) {}
    let mock = Mock::new([]);
    let service = deadline(millis(50)).layer(attempt(millis(20)).layer(mock));
    shared(&service);
    sent(service.oneshot(get()));
    let _: fn(Response<Script>) = drop;
}
