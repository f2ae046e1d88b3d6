//! Retry over scripted services in paused time.

mod around;
mod bodies;
mod operations;
#[path = "../support/mod.rs"]
mod support;
mod time;
mod told;
mod when;
mod whether;

use std::{
    io::ErrorKind as Io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, Body, Budget, CallPolicy, Deadline, DeadlineLayer, Error,
    ErrorKind, IdempotencyKeyLayer, IdempotencyKeys, Jitter, Random, Replay, Report, Retry,
    RetryLayer, RetryPolicy,
    call::{Outcome, Stop},
    classify::{Classifier, Retryable, Verdict},
    retry::{self, RetryService},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use support::script::{Act, Script, answering, millis, statuses};

/// 100 ms, doubling, no jitter, no budget: times that a test can name.
fn plain() -> Retry {
    let backoff = Backoff::default()
        .initial(Duration::from_millis(100))
        .jitter(Jitter::None);
    Retry::default().backoff(backoff).without_budget()
}

fn retried(script: &Script, settings: Retry) -> RetryService<Script> {
    RetryLayer::new(settings.build().expect("valid")).layer(script.clone())
}

fn request(method: Method, body: impl Into<Body>) -> Request<Body> {
    let builder = Request::builder().method(method).uri("/charges?n=1");
    builder
        .header("x-user", "one")
        .body(body.into())
        .expect("a request")
}

fn with_policy<B>(mut request: Request<B>, policy: CallPolicy) -> Request<B> {
    request.extensions_mut().insert(policy);
    request
}

/// A chunked stream of unknown length, with trailers.
fn chunks(parts: &[&'static str]) -> Body {
    Body::stream(StreamBody::new(frames(parts)))
}

fn frames(
    parts: &[&'static str],
) -> impl futures::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + use<> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().expect("a value"));
    let data: Vec<_> = parts
        .iter()
        .map(|part| Frame::data(Bytes::from_static(part.as_bytes())))
        .collect();
    stream::iter(data.into_iter().chain([Frame::trailers(trailers)]).map(Ok))
}

fn stop<B>(response: &Response<B>) -> Option<Stop> {
    response.extensions().get::<Report>().and_then(Report::stop)
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}
