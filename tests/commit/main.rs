//! The commit point of gRPC calls: what comes right after a good head.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

mod first_frame;
mod judged;
mod retries;
mod streams;
#[path = "../support/mod.rs"]
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
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use support::mock::{Act, Mock, Readiness, Script, Step, grpc, millis};

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
