//! The commit point of gRPC calls: what comes right after a good head.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

mod support;

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, Balancer, Breaker, BreakerConfig, Budget, CallPolicy,
    CircuitBreakerLayer, CommitLayer, DeadlineLayer, Error, ErrorKind, Fixed, Jitter, Report,
    Retry, RetryLayer, Stack,
    breaker::State,
    call::{Outcome, Stop},
    classify::{Classifier, Evidence},
    commit::Begun,
};
use futures::{SinkExt, channel::mpsc, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use support::mock::{Act, Mock, Readiness, Script, Step, grpc, millis};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// The limit of each attempt.
const ATTEMPT: Duration = millis(500);

fn good() -> Step {
    Step::trailers([("grpc-status", "0")])
}

fn unavailable() -> Step {
    Step::trailers([("grpc-status", "14"), ("grpc-message", "draining")])
}

fn not_found() -> Step {
    Step::trailers([("grpc-status", "5")])
}

fn message() -> Step {
    Step::data("\0\0\0\0\u{1}x")
}

fn broken() -> Step {
    Step::fail(io::ErrorKind::ConnectionReset)
}

/// One message and a good end.
fn answer() -> Act {
    grpc([message(), good()])
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Unary,
    Streaming,
}

const BOTH: [Method; 2] = [Method::Unary, Method::Streaming];

fn policy(method: Method) -> CallPolicy {
    CallPolicy::new().unary(method == Method::Unary)
}

fn request(policy: CallPolicy) -> Request<Full<Bytes>> {
    let mut request = Request::post("/shop.Cart/List")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    request.extensions_mut().insert(policy);
    request
}

fn idempotent(method: Method) -> Request<Full<Bytes>> {
    request(policy(method).idempotent(true))
}

/// The layer alone.
async fn opened(act: Act, request: Request<Full<Bytes>>) -> Result<Response<Begun<Script>>, Error> {
    CommitLayer::new()
        .layer(Mock::new([act]))
        .oneshot(request)
        .await
}

fn retry() -> Retry {
    Retry::default()
        .classifier(Classifier::grpc())
        .backoff(Backoff::default().initial(millis(10)).jitter(Jitter::None))
        .without_budget()
}

/// Everything that judges attempts, over the mock.
async fn call(
    mock: &Mock,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error = evenkeel::BoxError> + use<>>, Error> {
    let breaker = Breaker::count(50, Duration::from_secs(10)).unwrap();
    Stack::new()
        .deadline(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .retry(RetryLayer::new(retry().build().unwrap()))
        .circuit_breaker(CircuitBreakerLayer::new(breaker).classifier(Classifier::grpc()))
        .attempt_timeout(AttemptTimeoutLayer::new(ATTEMPT).unwrap())
        .commit(CommitLayer::new())
        .service(mock.clone())
        .oneshot(request)
        .await
}

fn outcomes<B>(response: &Response<B>) -> Vec<Outcome> {
    let report = response.extensions().get::<Report>();
    let attempts = report.map(Report::attempts).unwrap_or_default();
    attempts.iter().map(|attempt| attempt.outcome()).collect()
}

/// The data and the trailers of a body.
async fn read<B: Body<Data = Bytes>>(response: Response<B>) -> (Bytes, Option<HeaderMap>)
where
    B::Error: std::fmt::Debug,
{
    let read = response.into_body().collect().await.unwrap();
    let trailers = read.trailers().cloned();
    (read.to_bytes(), trailers)
}

fn status(trailers: Option<&HeaderMap>) -> Option<&str> {
    trailers?.get("grpc-status")?.to_str().ok()
}

// ===== what becomes of the first frame =====

#[tokio::test(start_paused = true)]
async fn a_failure_right_after_the_head_is_one_of_the_head() {
    for method in BOTH {
        let act = grpc([unavailable()]).header("x-tenant", "blue");
        let response = opened(act, request(policy(method))).await.unwrap();
        let head = response.headers();
        assert_eq!(head["grpc-status"], "14");
        assert_eq!(head["grpc-message"], "draining");
        assert_eq!(head["x-tenant"], "blue");
        assert!(response.body().is_end_stream());
        assert_eq!(response.body().size_hint().exact(), Some(0));
        assert_eq!(read(response).await, (Bytes::new(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_end_and_one_without_a_status_are_handed_out_as_they_came() {
    let other = || Step::trailers([("x", "y")]);
    for method in BOTH {
        for (end, expected) in [
            (Some(good()), Some("0")),
            (Some(other()), None),
            (None, None),
        ] {
            let ends = end.is_some();
            let act = grpc(end);
            let response = opened(act, request(policy(method))).await.unwrap();
            assert!(!response.headers().contains_key("grpc-status"));
            let (data, trailers) = read(response).await;
            assert_eq!(trailers.is_some(), ends);
            assert_eq!((data.len(), status(trailers.as_ref())), (0, expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_looked_at_is_the_first_of_the_body() {
    for method in BOTH {
        let act = grpc([message(), Step::data("more"), unavailable()]);
        let response = opened(act, request(policy(method))).await.unwrap();
        assert!(!response.headers().contains_key("grpc-status"));
        assert!(!response.body().is_end_stream());
        assert!(response.body().size_hint().lower() >= 6);
        let (data, trailers) = read(response).await;
        assert_eq!(data, &b"\0\0\0\0\x01xmore"[..]);
        assert_eq!(status(trailers.as_ref()), Some("14"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_message_does_not_look_like_the_end_before_it_is_read() {
    let known = || Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header("content-type", "application/grpc");
        ready(Ok::<_, Infallible>(response.body(known()).unwrap()))
    });
    let service = CommitLayer::new().layer(service);
    let response = service.oneshot(request(policy(Method::Unary))).await;
    let mut body = response.unwrap().into_body();
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(6));
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_frame_is_no_message() {
    for method in BOTH {
        let empty = vec![Step::data(""); 3];
        let failing = grpc(empty.into_iter().chain([unavailable()]));
        let mock = Mock::new([failing, answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!((mock.calls(), read(response).await.0.len()), (2, 6));
    }
    let flood = grpc(vec![Step::data(""); 100_000]);
    let response = opened(flood, request(policy(Method::Unary))).await.unwrap();
    assert!(
        !response.body().is_end_stream(),
        "not all of it is looked at"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_grpc_or_has_a_status_is_not_looked_at() {
    let poisoned = || Act::ok().body([broken()]);
    let http = Request::post("/").body(Full::default()).unwrap();
    let looks_grpc = grpc([broken()]);
    assert!(
        opened(looks_grpc, http).await.is_ok(),
        "the request is HTTP's"
    );
    for act in [
        poisoned(),
        poisoned().header("content-type", "text/html"),
        grpc([broken()]).header("grpc-status", "0"),
        grpc([broken()]).header("grpc-status", "14"),
        Act::status(503)
            .header("content-type", "application/grpc")
            .body([broken()]),
    ] {
        for method in BOTH {
            let response = opened(act.clone(), request(policy(method))).await;
            let body = response.expect("not looked at").into_body();
            assert!(body.collect().await.is_err(), "as it came");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_that_no_head_can_hold_are_no_panic_and_stay_trailers() {
    let numbered = |prefix: &str, count: usize| -> HeaderMap {
        let name = |number| HeaderName::try_from(format!("{prefix}-{number}")).unwrap();
        (0..count)
            .map(|number| (name(number), HeaderValue::from(number)))
            .collect()
    };
    let (head, mut end) = (numbered("head", 20_000), numbered("end", 20_000));
    end.insert("grpc-status", HeaderValue::from_static("14"));
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let frames = stream::iter([Ok::<_, Infallible>(Frame::<Bytes>::trailers(end.clone()))]);
        let mut response = Response::new(StreamBody::new(frames));
        *response.headers_mut() = head.clone();
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
        ready(Ok::<_, Infallible>(response))
    });
    let service = CommitLayer::new().layer(service);
    let response = service.oneshot(request(policy(Method::Unary))).await;
    let (_, trailers) = read(response.unwrap()).await;
    assert_eq!(status(trailers.as_ref()), Some("14"));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service_and_its_error_was_not_sent() {
    let failing = Mock::new([]).readiness(Readiness::Fail(io::ErrorKind::ConnectionReset));
    let mut service = CommitLayer::new().layer(failing);
    let error = poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx)).await;
    assert!(!error.unwrap_err().may_have_happened());
    let waiting = Mock::new([]).readiness(Readiness::Never);
    let mut service = CommitLayer::new().layer(waiting);
    let polled = poll_fn(|cx| {
        Poll::Ready(Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx).is_pending())
    });
    assert!(polled.await);
}

// ===== retries =====

// CLS-01 with no message, linkerd/linkerd2#7701
#[tokio::test(start_paused = true)]
async fn a_failure_in_trailers_without_a_message_is_sent_again_if_that_does_no_harm() {
    for method in BOTH {
        let mock = Mock::new([grpc([unavailable()]), grpc([unavailable()]), answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        let named = ["UNAVAILABLE", "UNAVAILABLE", "OK"].map(Outcome::Grpc);
        assert_eq!(outcomes(&response), named);
        assert_eq!((mock.calls(), read(response).await.0.len()), (3, 6));

        let mock = Mock::new([grpc([unavailable()])]);
        let response = call(&mock, request(policy(method))).await.unwrap();
        assert_eq!(outcomes(&response), [Outcome::Grpc("UNAVAILABLE")]);
        assert_eq!(
            (mock.calls(), &response.headers()["grpc-status"]),
            (1, &HeaderValue::from(14))
        );

        let mock = Mock::new([grpc([not_found()])]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!(
            (mock.calls(), &response.headers()["grpc-status"]),
            (1, &HeaderValue::from(5))
        );
    }
}

// RTY-09, grpc/grpc-java#7308, grpc/proposal#12
#[tokio::test(start_paused = true)]
async fn after_a_message_nothing_is_sent_again() {
    for method in BOTH {
        for (end, breaks) in [(unavailable(), false), (broken(), true)] {
            let mock = Mock::new([grpc([message(), end])]);
            let response = call(&mock, idempotent(method)).await.unwrap();
            let mut body = Box::pin(response.into_body());
            assert!(body.frame().await.unwrap().unwrap().is_data());
            let last = body.frame().await.unwrap();
            assert_eq!(last.is_err(), breaks);
            assert_eq!(mock.calls(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_unary_method_waits_for_what_comes_later() {
    let late = || grpc([Step::pause(millis(100)), unavailable()]);
    let mock = Mock::new([late(), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!((mock.calls(), start.elapsed()), (2, millis(110)));
    assert_eq!(read(response).await.0.len(), 6);

    let mock = Mock::new([late(), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "the head is not held back");
    let (_, trailers) = read(response).await;
    assert_eq!(status(trailers.as_ref()), Some("14"));
    assert_eq!((mock.calls(), start.elapsed()), (1, millis(100)));
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_that_hangs_after_its_head_ends_with_its_attempt_and_is_sent_again() {
    let mock = Mock::new([grpc([Step::stall()]), answer()]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!(start.elapsed(), ATTEMPT + millis(10));
    assert_eq!(
        outcomes(&response),
        [Outcome::Failed("attempt timed out"), Outcome::Grpc("OK")]
    );
    assert_eq!(mock.bodies(), 1, "the stream that hung is gone");

    let mock = Mock::new([grpc([Step::stall()])]);
    let error = call(&mock, request(policy(Method::Unary)))
        .await
        .err()
        .unwrap();
    assert_eq!((error.kind(), mock.calls()), (ErrorKind::AttemptTimeout, 1));
    assert!(error.may_have_happened());
    assert_eq!(mock.bodies(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_wait_too_and_a_caller_that_goes_away_ends_the_stream() {
    let mock = Mock::new([grpc([Step::stall()]), grpc([Step::stall()])]);
    let hurried = policy(Method::Unary).deadline(millis(200));
    let error = call(&mock, request(hurried)).await.err().unwrap();
    assert_eq!(
        (error.kind(), mock.bodies()),
        (ErrorKind::DeadlineExceeded, 0)
    );
    let mut given_up = tokio_test::task::spawn(call(&mock, request(policy(Method::Unary))));
    assert!(given_up.poll().is_pending());
    assert_eq!((mock.calls(), mock.bodies()), (2, 1));
    drop(given_up);
    assert_eq!(mock.bodies(), 0);
}

// RTY-03, after the head: JuliaWeb/HTTP.jl#1294
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_before_its_first_message_is_a_failed_attempt() {
    for method in BOTH {
        let mock = Mock::new([grpc([broken()]), answer()]);
        let response = call(&mock, idempotent(method)).await.unwrap();
        assert_eq!((mock.calls(), outcomes(&response).len()), (2, 2));

        let mock = Mock::new([grpc([broken()])]);
        let error = call(&mock, request(policy(method))).await.err().unwrap();
        assert_eq!((error.kind(), mock.calls()), (ErrorKind::Upstream, 1));
        assert!(error.may_have_happened());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_had_begun_to_answer_cannot_claim_that_it_did_nothing() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let refused = || Err::<Frame<Bytes>, _>(io::Error::from(io::ErrorKind::ConnectionRefused));
    let classifier = Classifier::grpc().evidence(|_| Some(Evidence::Refused));
    let patient = retry().classifier(classifier).build().unwrap();
    let service = RetryLayer::new(patient).layer(CommitLayer::new().layer(service_fn(
        move |_: Request<Full<Bytes>>| {
            counted.fetch_add(1, SeqCst);
            let response = Response::builder().header("content-type", "application/grpc");
            let body = StreamBody::new(stream::iter([refused()]));
            ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        },
    )));
    let error = service
        .oneshot(request(policy(Method::Unary)))
        .await
        .err()
        .unwrap();
    assert_eq!(sent.load(SeqCst), 1);
    assert!(error.may_have_happened());
    assert_eq!(error.report().stop(), Some(Stop::NotIdempotent));
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test(start_paused = true)]
async fn pushback_in_the_trailers_is_kept_to() {
    const ASKED: &str = "grpc-retry-pushback-ms";
    let busy = |step| grpc([step]);
    let wait = Step::trailers([("grpc-status", "14"), (ASKED, "250")]);
    let exhausted = Step::trailers([("grpc-status", "8"), (ASKED, "0")]);
    let silent = Step::trailers([("grpc-status", "8")]);
    let never = Step::trailers([("grpc-status", "14"), (ASKED, "-1")]);
    for (step, calls, took) in [
        (wait, 2, millis(250)),
        (exhausted, 2, Duration::ZERO),
        (silent, 1, Duration::ZERO),
        (never, 1, Duration::ZERO),
    ] {
        let mock = Mock::new([busy(step), answer()]);
        let start = Instant::now();
        let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
        assert_eq!((mock.calls(), start.elapsed()), (calls, took));
        assert_eq!(response.headers().contains_key("grpc-status"), calls == 1);
    }
}

// gRFC A6
#[tokio::test(start_paused = true)]
async fn throttling_counts_what_came_after_the_head_once() {
    let budget = Budget::grpc_throttling(10, 0.5).unwrap().starting_with(8);
    let policy = retry().budget(budget.clone()).build().unwrap();
    let mock = Mock::new([grpc([unavailable()]), answer()]);
    let service = RetryLayer::new(policy).layer(CommitLayer::new().layer(mock));
    let response = service.oneshot(idempotent(Method::Unary)).await.unwrap();
    let tokens = || budget.balance(std::time::Instant::now());
    assert!((tokens() - 7.0).abs() < 1e-9, "{}", tokens());
    read(response).await;
    assert!((tokens() - 7.5).abs() < 1e-9, "{}", tokens());
}

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// The data of a request, and its trailers.
type Read = (Bytes, Option<HeaderMap>);

/// A service that reads whole request streams and fails the first of them in its trailers.
#[derive(Clone, Default)]
struct Collecting {
    seen: Arc<Mutex<Vec<Read>>>,
    /// It answers before it has read.
    early: bool,
}

impl Collecting {
    async fn answer(self, request: Request<AnyBody>) -> Result<Response<AnyBody>, Infallible> {
        if self.early {
            self.seen.lock().unwrap().push((Bytes::new(), None));
        } else {
            let read = request.into_body().collect().await?;
            let trailers = read.trailers().cloned();
            self.seen.lock().unwrap().push((read.to_bytes(), trailers));
        }
        let first = self.seen.lock().unwrap().len() == 1;
        let code = HeaderValue::from(if first { 14 } else { 0 });
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), code)]);
        let message = (!first).then(|| Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x01x"))));
        let frames = message.into_iter().chain([Ok(Frame::trailers(trailers))]);
        let response = Response::builder().header("content-type", "application/grpc");
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        Ok(response.body(body).unwrap())
    }
}

async fn collected(early: bool) -> (Response<impl Body<Data = Bytes>>, Collecting) {
    let collecting = Collecting {
        early,
        ..Collecting::default()
    };
    let server = collecting.clone();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry().build().unwrap()))
        .layer(CommitLayer::new())
        .service(service_fn(move |request| server.clone().answer(request)));
    let sum = HeaderMap::from_iter([(
        HeaderName::from_static("x-sum"),
        HeaderValue::from_static("3"),
    )]);
    let parts = ["one", "two"].map(|part| Ok(Frame::data(Bytes::from(part))));
    let frames = stream::iter(parts.into_iter().chain([Ok(Frame::trailers(sum))]));
    let (parts, _) = idempotent(Method::Streaming).into_parts();
    let body = StreamBody::new(frames).boxed_unsync();
    let request = Request::from_parts(parts, body);
    (service.oneshot(request).await.unwrap(), collecting)
}

#[tokio::test(start_paused = true)]
async fn a_recorded_request_stream_is_sent_again_with_its_trailers() {
    let (response, server) = collected(false).await;
    assert_eq!(
        outcomes(&response),
        ["UNAVAILABLE", "OK"].map(Outcome::Grpc)
    );
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (data, trailers) in &*seen {
        assert_eq!(data, "onetwo");
        assert_eq!(trailers.as_ref().unwrap()["x-sum"], "3");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_request_stream_ended_is_final() {
    let (response, server) = collected(true).await;
    let stop = response.extensions().get::<Report>().and_then(Report::stop);
    assert_eq!(stop, Some(Stop::EarlyAnswer));
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

// ===== streams =====

#[tokio::test(start_paused = true)]
async fn a_bidirectional_call_gets_its_head_before_it_sends_anything() {
    let service = service_fn(|request: Request<UnsyncBoxBody<Bytes, Infallible>>| {
        // Each message comes back.
        let response = Response::builder().header("content-type", "application/grpc");
        ready(Ok::<_, Infallible>(
            response.body(request.into_body()).unwrap(),
        ))
    });
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let service = Stack::new()
        .deadline(DeadlineLayer::new(Duration::from_secs(3)).unwrap())
        .retry(RetryLayer::new(retry().build().unwrap()))
        .circuit_breaker(CircuitBreakerLayer::new(breaker).classifier(Classifier::grpc()))
        .attempt_timeout(AttemptTimeoutLayer::new(ATTEMPT).unwrap())
        .commit(CommitLayer::new())
        .service(service);
    let (mut questions, queue) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(4);
    let (parts, _) = idempotent(Method::Streaming).into_parts();
    let request = Request::from_parts(parts, StreamBody::new(queue).boxed_unsync());
    let mut call = tokio_test::task::spawn(service.oneshot(request));
    let Poll::Ready(Ok(response)) = call.poll() else {
        panic!("the head is held back");
    };
    let mut body = response.into_body();
    for text in ["one", "two", "three"] {
        let mut answer = tokio_test::task::spawn(body.frame());
        assert!(answer.poll().is_pending());
        questions
            .send(Ok(Frame::data(Bytes::from(text))))
            .await
            .unwrap();
        assert!(answer.is_woken(), "the wakeup was lost");
        let frame = answer.await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_silent_when_it_was_looked_at_wakes_its_reader() {
    let mock = Mock::new([grpc([Step::pause(millis(50)), message(), good()])]);
    let response = call(&mock, idempotent(Method::Streaming)).await.unwrap();
    // Read by another task than the one that got the head.
    let reading = tokio::spawn(async move {
        let mut body: Pin<Box<_>> = Box::pin(response.into_body());
        body.frame().await.unwrap().unwrap().is_data()
    });
    assert!(reading.await.unwrap());
}

// ===== breaker and balancer =====

#[tokio::test(start_paused = true)]
async fn the_breaker_counts_each_attempt_once() {
    let cases = [
        (grpc([unavailable()]), State::Open),
        (grpc([broken()]), State::Open),
        (grpc([message(), unavailable()]), State::Open),
        (grpc([]), State::Open),
        (grpc([not_found()]), State::Closed),
        (grpc([good()]), State::Closed),
        (answer(), State::Closed),
    ];
    for (number, (act, state)) in cases.into_iter().enumerate() {
        for method in BOTH {
            let breaker = BreakerConfig::new()
                .consecutive_failures(3)
                .build()
                .unwrap();
            let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
            let mock = Mock::new(vec![act.clone(); 3]);
            let service = layer.layer(CommitLayer::new().layer(mock));
            for made in 0..3 {
                assert_eq!(
                    breaker.state(),
                    State::Closed,
                    "{number}, after {made} calls"
                );
                let call = service.clone().oneshot(request(policy(method)));
                if let Ok(response) = call.await {
                    let _ = response.into_body().collect().await;
                }
            }
            assert_eq!(breaker.state(), state, "{number} {method:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_balancer_holds_a_failure_against_its_endpoint_and_nothing_stays_in_flight() {
    let bad: std::net::SocketAddr = "10.0.0.1:80".parse().unwrap();
    for failure in [unavailable(), broken()] {
        let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]))
            .classifier(Classifier::grpc())
            .random(evenkeel::Random::seeded(1))
            .build(move |endpoint| {
                let act = match endpoint.address() == bad {
                    true => grpc([failure.clone()]),
                    false => answer(),
                };
                Ok(CommitLayer::new().layer(Mock::new(vec![act; 100])))
            })
            .unwrap();
        let service = RetryLayer::new(retry().build().unwrap()).layer(balancer.clone());
        for _ in 0..20 {
            let call = service.clone().oneshot(idempotent(Method::Unary));
            let response = call.await.expect("answered elsewhere");
            assert_eq!(
                response
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .len(),
                6
            );
        }
        for endpoint in balancer.endpoints() {
            assert_eq!(endpoint.in_flight, 0);
            assert_eq!(
                endpoint.penalty > 1.0,
                endpoint.address == bad,
                "{endpoint:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_message_is_part_of_a_unary_attempt() {
    let slow = grpc([Step::pause(ATTEMPT - millis(1)), message(), good()]);
    let mock = Mock::new([slow]);
    let start = Instant::now();
    let response = call(&mock, idempotent(Method::Unary)).await.unwrap();
    assert_eq!((mock.calls(), start.elapsed()), (1, ATTEMPT - millis(1)));
    assert_eq!(read(response).await.0.len(), 6);
}
