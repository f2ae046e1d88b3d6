//! Retry over scripted services in paused time.

mod support;

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
use support::script::{Act, Script};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

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

// ===== whether =====

// RTY-01, KittyCAD/kittycad.rs#1042, softonic/axios-retry#66, traefik/traefik#8990
#[tokio::test(start_paused = true)]
async fn an_unsafe_call_is_sent_once_even_if_its_body_can_be_copied() {
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        for status in [408, 429, 500, 502, 503, 504] {
            let script = Script::statuses([status, 200]);
            let answer = retried(&script, plain())
                .oneshot(request(method.clone(), "x"))
                .await;
            let answer = answer.expect("a response");
            assert_eq!(answer.status(), status);
            assert_eq!(stop(&answer), Some(Stop::NotIdempotent));
            assert_eq!(script.sent().len(), 1, "{method} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn safe_and_idempotent_methods_are_sent_again() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        for status in [408, 429, 500, 502, 503, 504, 425] {
            let script = Script::statuses([status, 200]);
            let method: Method = method.parse().expect("a method");
            let answer = retried(&script, plain())
                .oneshot(request(method.clone(), "x"))
                .await;
            assert_eq!(
                answer.expect("a response").status(),
                200,
                "{method} {status}"
            );
            assert_eq!(script.sent().len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_opt_in_or_a_key_makes_an_unsafe_call_retryable() {
    let keyed = || {
        let mut keyed = request(Method::POST, "x");
        keyed
            .headers_mut()
            .insert("idempotency-key", "k-1".parse().expect("a value"));
        keyed
    };
    let opted_in = with_policy(
        request(Method::POST, "x"),
        CallPolicy::new().idempotent(true),
    );
    for call in [keyed(), opted_in] {
        let script = Script::statuses([502, 200]);
        let answer = retried(&script, plain())
            .oneshot(call)
            .await
            .expect("a response");
        assert_eq!(answer.status(), 200);
        let sent = script.sent();
        assert_eq!(sent[0].headers, sent[1].headers);
    }
    let script = Script::statuses([502, 200]);
    let untrusting = plain().trust_caller_keys(false);
    let answer = retried(&script, untrusting)
        .oneshot(keyed())
        .await
        .expect("a response");
    assert_eq!(stop(&answer), Some(Stop::NotIdempotent));

    let script = Script::statuses([502, 200]);
    let other_name = plain().key_header("x-request-key".parse().expect("a name"));
    let mut named = request(Method::PATCH, "x");
    named
        .headers_mut()
        .insert("X-Request-Key", "k-1".parse().expect("a value"));
    let answer = retried(&script, other_name)
        .oneshot(named)
        .await
        .expect("a response");
    assert_eq!(answer.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_it_is_not_idempotent_is_sent_once() {
    let script = Script::statuses([503, 200]);
    let call = with_policy(
        request(Method::GET, ""),
        CallPolicy::new().idempotent(false),
    );
    let answer = retried(&script, plain())
        .oneshot(call)
        .await
        .expect("a response");
    assert_eq!(
        (answer.status().as_u16(), stop(&answer)),
        (503, Some(Stop::NotIdempotent))
    );
}

// RTY-02, oven-sh/bun#28708, nahi/httpclient#142
#[tokio::test(start_paused = true)]
async fn a_reset_connection_does_not_send_an_unsafe_call_again() {
    for kind in [
        Io::ConnectionReset,
        Io::ConnectionAborted,
        Io::BrokenPipe,
        Io::UnexpectedEof,
        Io::TimedOut,
        Io::Other,
    ] {
        let script = Script::new(move |_| Act::error(kind));
        let error = retried(&script, plain())
            .oneshot(request(Method::POST, "x"))
            .await;
        let error = error.expect_err("it failed");
        assert!(error.may_have_happened(), "{kind:?}");
        assert_eq!(error.report().stop(), Some(Stop::NotIdempotent));
        assert_eq!(script.sent().len(), 1);

        let script = Script::new(move |attempt| {
            if attempt == 1 {
                Act::error(kind)
            } else {
                Act::status(200)
            }
        });
        let answer = retried(&script, plain())
            .oneshot(request(Method::GET, ""))
            .await;
        assert_eq!(answer.expect("a response").status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_reached_a_server_is_sent_again_whatever_its_method() {
    for body in [|| Body::from("whole"), || chunks(&["wh", "ole"])] {
        let script = Script::new(|attempt| {
            if attempt < 3 {
                Act::refuse()
            } else {
                Act::status(201)
            }
        });
        let answer = retried(&script, plain())
            .oneshot(request(Method::POST, body()))
            .await;
        let answer = answer.expect("a response");
        assert_eq!(answer.status(), 201);
        assert_eq!(script.sent()[2].body, "whole");
        assert_eq!(
            answer
                .extensions()
                .get::<Report>()
                .expect("it was retried")
                .attempts()
                .len(),
            3
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_repetition_does_not_change_is_sent_once() {
    for status in [200, 204, 301, 400, 401, 404, 409, 422, 501, 505, 599] {
        let script = Script::statuses([status, 200]);
        let answer = retried(&script, plain())
            .oneshot(request(Method::PUT, "x"))
            .await;
        assert_eq!(answer.expect("a response").status(), status);
        assert_eq!(script.sent().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_early_is_repeated_once() {
    let script = Script::statuses([425, 425, 200]);
    let answer = retried(&script, plain())
        .oneshot(request(Method::GET, ""))
        .await
        .expect("a response");
    assert_eq!((answer.status().as_u16(), script.sent().len()), (425, 2));
}
