//! The time that is left, told to the other side on every attempt: over scripted services, under paused time.

mod support;

use std::{io, time::Duration};

use evenkeel::{
    AttemptTimeoutLayer, Backoff, CallPolicy, Deadline, DeadlineHeader, DeadlineLayer, Error,
    ErrorKind, InheritedDeadline, Jitter, Retry, RetryLayer,
};
use http::Request;
use support::mock::{Act, Mock, Readiness, Seen, millis};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const NAME: &str = "x-timeout-ms";

fn header() -> DeadlineHeader {
    DeadlineHeader::millis(NAME).expect("a header name")
}

fn attempts(limit: Duration) -> AttemptTimeoutLayer {
    let layer = AttemptTimeoutLayer::new(limit).expect("above zero");
    layer.header(header())
}

fn get() -> Request<String> {
    Request::new(String::new())
}

fn with(mut request: Request<String>, policy: CallPolicy) -> Request<String> {
    request.extensions_mut().insert(policy);
    request
}

/// A gRPC request; it is idempotent, so that it is retried.
fn grpc(policy: CallPolicy) -> Request<String> {
    let request = Request::post("/shop.Cart/Add").header("content-type", "application/grpc");
    with(
        request.body(String::new()).expect("a request"),
        policy.idempotent(true),
    )
}

fn told<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let mut values = seen.headers.get_all(name).iter();
    let value = values.next()?;
    assert!(values.next().is_none(), "told twice");
    Some(value.to_str().expect("text"))
}

/// What each attempt was told.
fn all_told<'a>(seen: &'a [Seen], name: &str) -> Vec<Option<&'a str>> {
    seen.iter().map(|seen| told(seen, name)).collect()
}

fn retry(pause: Duration) -> RetryLayer {
    let backoff = Backoff::default().initial(pause).multiplier(1.0);
    let retry = Retry::default().backoff(backoff.jitter(Jitter::None));
    RetryLayer::new(retry.build().expect("valid"))
}

fn deadline(length: Duration) -> DeadlineLayer {
    DeadlineLayer::new(length).expect("above zero")
}

async fn error_of<S>(service: S, request: Request<String>) -> Error
where
    S: Service<Request<String>, Error = Error>,
{
    service
        .oneshot(request)
        .await
        .map(drop)
        .expect_err("cut off")
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_told_what_is_left_then() {
    let slow = |status| Act::status(status).after(millis(100));
    let mock = Mock::new([slow(503), slow(503), slow(200)]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(1000)))
        .layer(retry(millis(50)))
        .layer(attempts(millis(800)))
        .service(mock.clone());
    let mut request = get();
    for old in ["7", "8"] {
        let old = http::HeaderValue::from_static(old);
        request.headers_mut().append(NAME, old);
    }
    service.oneshot(request).await.expect("an answer");
    // Its limit, then the deadline, which is nearer.
    let expected = [Some("800"), Some("800"), Some("700")];
    assert_eq!(all_told(&mock.seen(), NAME), expected);
}

#[tokio::test(start_paused = true)]
async fn time_that_passes_in_wait_for_readiness_is_not_left() {
    let mock = Mock::new([]).readiness(Readiness::After(millis(300)));
    let service = attempts(millis(1000)).layer(mock.clone());
    service.oneshot(get()).await.expect("an answer");
    assert_eq!(all_told(&mock.seen(), NAME), [Some("700")]);
}

#[tokio::test(start_paused = true)]
async fn without_an_end_nothing_is_told_and_an_older_word_is_taken_back() {
    let mock = Mock::new([]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(1000)))
        .layer(AttemptTimeoutLayer::default().header(header()))
        .service(mock.clone());
    let old = || {
        let request = Request::get("/").header(NAME, "7");
        request.body(String::new()).expect("a request")
    };
    for policy in [CallPolicy::new(), CallPolicy::new().no_deadline()] {
        let request = with(old(), policy);
        service.clone().oneshot(request).await.expect("an answer");
    }
    assert_eq!(all_told(&mock.seen(), NAME), [Some("1000"), None]);

    let mock = Mock::new([]);
    let alone = AttemptTimeoutLayer::default().header(header());
    alone
        .layer(mock.clone())
        .oneshot(old())
        .await
        .expect("an answer");
    assert_eq!(all_told(&mock.seen(), NAME), [None]);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_nothing_is_told() {
    let mock = Mock::new([]);
    let layer = AttemptTimeoutLayer::new(millis(800)).expect("above zero");
    layer
        .layer(mock.clone())
        .oneshot(get())
        .await
        .expect("an answer");
    assert!(mock.seen()[0].headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_inherited_is_told() {
    let mock = Mock::new([]);
    let service = attempts(millis(800)).layer(mock.clone());
    let inherited = InheritedDeadline::new(Deadline::from_now(millis(250)));
    let call = inherited.scope(service.oneshot(get()));
    call.await.expect("an answer");
    assert_eq!(all_told(&mock.seen(), NAME), [Some("250")]);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_attempt_is_told_of_grpc_only_where_the_answer_is_one_message() {
    let mock = Mock::new([]);
    let attempts = AttemptTimeoutLayer::new(millis(200)).expect("above zero");
    let service = ServiceBuilder::new()
        .layer(deadline(millis(1000)))
        .layer(attempts.header(DeadlineHeader::grpc()))
        .service(mock.clone());
    let policy = CallPolicy::new;
    for policy in [policy(), policy().unary(true), policy().no_deadline()] {
        let call = service.clone().oneshot(grpc(policy));
        call.await.expect("an answer");
    }
    let expected = [Some("1000000u"), Some("200000u"), None];
    assert_eq!(all_told(&mock.seen(), "grpc-timeout"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_timeout_that_the_caller_set_is_the_deadline_and_shrinks_with_it() {
    let slow = |status| Act::status(status).after(millis(300));
    let mock = Mock::new([slow(503), slow(503), slow(200)]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(500)))
        .layer(retry(millis(50)))
        .layer(AttemptTimeoutLayer::default().header(DeadlineHeader::grpc()))
        .service(mock.clone());
    let mut request = grpc(CallPolicy::new());
    let two_seconds = http::HeaderValue::from_static("2S");
    request.headers_mut().insert("grpc-timeout", two_seconds);
    service
        .oneshot(request)
        .await
        .expect("longer than the layer's");
    let expected = [Some("2000000u"), Some("1650000u"), Some("1300000u")];
    assert_eq!(all_told(&mock.seen(), "grpc-timeout"), expected);
}

/// The server's own end of what it was told, a little early by our clock.
fn echoes() -> [Act; 4] {
    let head = |status| Act::status(status).after(millis(199));
    [
        head(504),
        head(200).header("grpc-status", "4"),
        head(200).header("grpc-status", "1"),
        Act::fail(io::ErrorKind::ConnectionReset).after(millis(199)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_first_to_end_the_attempt_it_was_told_of_ends_it_as_we_do() {
    for echo in echoes() {
        let mock = Mock::new([echo.clone(), echo.clone()]);
        let error = error_of(attempts(millis(200)).layer(mock), get()).await;
        assert_eq!(error.kind(), ErrorKind::AttemptTimeout);
        assert!(error.may_have_happened());

        // Which is retried.
        let mock = Mock::new([echo.clone(), Act::ok()]);
        let service = ServiceBuilder::new()
            .layer(retry(millis(1)))
            .layer(attempts(millis(200)))
            .service(mock.clone());
        let reply = service.oneshot(get()).await.expect("the second attempt");
        assert_eq!((reply.status().as_u16(), mock.calls()), (200, 2));

        let service = ServiceBuilder::new()
            .layer(deadline(millis(200)))
            .layer(AttemptTimeoutLayer::default().header(header()))
            .service(Mock::new([echo]));
        let error = error_of(service, get()).await;
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_good_time_and_one_of_a_server_that_knew_nothing_are_answers() {
    let gave_up = |at| Act::status(504).after(millis(at));
    let layer = attempts(millis(200));
    let reply = layer.layer(Mock::new([gave_up(190)])).oneshot(get()).await;
    assert_eq!(reply.expect("an answer").status(), 504);
    let untold = AttemptTimeoutLayer::new(millis(200)).expect("above zero");
    let reply = untold.layer(Mock::new([gave_up(199)])).oneshot(get()).await;
    assert_eq!(reply.expect("an answer").status(), 504);
    let fine = Act::status(503).after(millis(199));
    let reply = layer.layer(Mock::new([fine])).oneshot(get()).await;
    assert_eq!(reply.expect("an answer").status(), 503);
    let refused = Act::fail(io::ErrorKind::ConnectionRefused).after(millis(199));
    let error = error_of(layer.layer(Mock::new([refused])), get()).await;
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

#[tokio::test(start_paused = true)]
async fn no_time_left_sends_nothing() {
    let start = Instant::now();
    let mock = Mock::new([]);
    let service = ServiceBuilder::new()
        .layer(deadline(millis(1000)))
        .layer(attempts(millis(500)))
        .service(mock.clone());
    let over = InheritedDeadline::new(Deadline::from_now(Duration::ZERO));
    let call = over.scope(service.oneshot(get())).await;
    let error = call.map(drop).expect_err("over");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(!error.may_have_happened());
    assert_eq!((mock.calls(), start.elapsed()), (0, Duration::ZERO));
}
