//! The layers put together by hand around an existing reqwest client, over real sockets.
#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Backoff, Body, BoxError, Breaker, CallPolicy, CircuitBreakerLayer,
    DeadlineLayer, Error, ErrorKind, IdempotencyKeyLayer, Report, Retry, RetryLayer,
    reqwest::HttpService,
};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use support::{
    nowhere::Refusing,
    reply::Reply,
    server::{Seen, Server},
    tls::client,
};
use tower::{Service, ServiceBuilder, ServiceExt};

const LIMIT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

fn stack(
    client: reqwest::ClientBuilder,
) -> impl Service<
    Request<Body>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError>>,
    Error = Error,
> + Clone {
    let retry = Retry::default()
        .backoff(Backoff::default().initial(Duration::from_millis(10)))
        .without_budget();
    ServiceBuilder::new()
        .layer(DeadlineLayer::new(LONG).unwrap())
        .layer(IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(retry.build().unwrap()))
        .layer(CircuitBreakerLayer::new(Breaker::count(50, LONG).unwrap()))
        .layer(AttemptTimeoutLayer::new(LIMIT).unwrap())
        .service(HttpService::new(client.build().unwrap()))
}

fn request(method: Method, url: &str, body: &'static str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(url)
        .body(Body::from(body))
        .unwrap()
}

fn keys(seen: &[Seen]) -> Vec<Option<&[u8]>> {
    seen.iter()
        .map(|seen| {
            seen.headers
                .get("idempotency-key")
                .map(|key| key.as_bytes())
        })
        .collect()
}

#[tokio::test]
async fn a_lost_post_is_repeated_whole_and_under_one_key() {
    for lost in [
        Reply::reset(),
        Reply::close(),
        Reply::status(503),
        Reply::hang(),
    ] {
        let server = Server::start([lost]);
        let response = stack(client())
            .oneshot(request(Method::POST, &server.url(), "charge"))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response
                .extensions()
                .get::<Report>()
                .unwrap()
                .attempts()
                .len(),
            2
        );
        let seen = server.seen();
        assert!(seen.iter().all(|seen| seen.body == "charge"), "{seen:?}");
        let keys = keys(&seen);
        assert!(
            keys.len() == 2 && keys[0].is_some() && keys[0] == keys[1],
            "{keys:?}"
        );
    }
}

// RTY-02, oven-sh/bun#28708
#[tokio::test]
async fn a_lost_post_without_a_key_is_an_error_that_says_it_may_have_happened() {
    let server = Server::start([Reply::ok(""), Reply::close()]);
    let mut stack = stack(client());
    for expected in [true, false] {
        let mut post = request(Method::POST, &server.url(), "charge");
        post.extensions_mut()
            .insert(CallPolicy::new().no_idempotency_key());
        let answer = stack.ready().await.unwrap().call(post).await;
        assert_eq!(answer.is_ok(), expected);
        match answer {
            Ok(response) => drop(response.into_body().collect().await.map(drop)),
            Err(error) => assert!(error.may_have_happened(), "{error}"),
        }
    }
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].connection), (2, seen[1].connection));
}

// RTY-03, JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn what_was_not_processed_is_repeated_without_a_key() {
    let server = Server::start([Reply::refuse_stream()]);
    let mut post = request(Method::POST, &server.url(), "charge");
    post.extensions_mut()
        .insert(CallPolicy::new().no_idempotency_key());
    let response = stack(client().http2_prior_knowledge())
        .oneshot(post)
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), server.seen().len()), (200, 2));
    assert_eq!(keys(&server.seen()), [None, None]);
}

// RTY-07, openai/openai-go#495
#[tokio::test]
async fn a_failed_response_gives_its_connection_back_before_the_next_attempt() {
    let server = Server::settings().connections(1).start();
    server.script([Reply::status(503).body("a long excuse").stall()]);
    let response = stack(client())
        .oneshot(request(Method::GET, &server.url(), ""))
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), server.connections()), (200, 2));
    // Held on to, it would have made attempt 2 wait for a connection until its limit.
    let report = response.extensions().get::<Report>().unwrap();
    assert_eq!(report.attempts().len(), 2, "{report}");
}

// RTY-08, nodejs/undici#3356
#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_never_a_second_body() {
    let server = Server::start([Reply::ok("H").cut()]);
    server.otherwise(Reply::ok("Hello World"));
    let response = stack(client())
        .oneshot(request(Method::GET, &server.url(), ""))
        .await
        .unwrap();
    let mut body = std::pin::pin!(response.into_body());
    let first = body
        .frame()
        .await
        .unwrap()
        .ok()
        .and_then(|frame| frame.into_data().ok());
    assert_eq!(first.as_deref(), Some(&b"H"[..]));
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_an_error_that_nothing_was_sent_for() {
    let refusing = Refusing::new();
    let url = format!("http://{}/charges?token=hidden", refusing.address());
    let error = stack(client())
        .oneshot(request(Method::POST, &url, "hidden"))
        .await
        .err()
        .unwrap();
    assert!(!error.may_have_happened());
    assert_eq!(
        (error.kind(), error.report().attempts().len()),
        (ErrorKind::Upstream, 3)
    );
    assert!(
        !format!("{error} {error:?}").contains("hidden"),
        "{error:?}"
    );
}
