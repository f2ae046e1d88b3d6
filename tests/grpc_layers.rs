//! gRPC through the layers by hand: the status in the head, in the trailers, or missing; pushback.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Breaker, CallPolicy, CircuitBreakerLayer, Jitter, Report, Retry, RetryLayer,
    breaker::State, call::Stop, classify::Classifier,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let entry = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    pairs.iter().map(entry).collect()
}

/// One message, then these trailers.
fn message(trailers: Option<HeaderMap>) -> Response<Body> {
    let data = Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let body = match trailers {
        Some(trailers) => data
            .with_trailers(async move { Some(Ok(trailers)) })
            .boxed_unsync(),
        None => data.boxed_unsync(),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).unwrap()
}

/// A head that is all there is.
fn trailers_only(pairs: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.headers_mut() = map(pairs);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// Calls a breaker over this answer until it has been read to its end, so many times.
async fn state_after(times: usize, answer: fn() -> Response<Body>) -> State {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let service = layer.layer(service_fn(move |_: Request<Full<Bytes>>| async move {
        Ok::<_, Infallible>(answer())
    }));
    for _ in 0..times {
        let reply = service
            .clone()
            .oneshot(Request::new(Full::default()))
            .await
            .unwrap();
        let _ = reply.into_body().collect().await;
    }
    breaker.state()
}

// CLS-01, linkerd/linkerd2#7701, linkerd/linkerd2-proxy#2410
#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_after_a_body_trips_the_breaker() {
    let unavailable = || message(Some(map(&[("grpc-status", "14")])));
    assert_eq!(state_after(3, unavailable).await, State::Open);
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "0")])))).await,
        State::Closed
    );
    assert_eq!(
        state_after(9, || message(Some(map(&[("grpc-status", "5")])))).await,
        State::Closed
    );
}

// CLS-02, linkerd/linkerd#1567, line/armeria#4496
#[tokio::test(start_paused = true)]
async fn a_trailers_only_status_is_judged_and_an_ok_one_is_a_success() {
    assert_eq!(
        state_after(3, || trailers_only(&[("grpc-status", "14")])).await,
        State::Open
    );
    assert_eq!(
        state_after(9, || trailers_only(&[("grpc-status", "0")])).await,
        State::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_status_is_no_success() {
    assert_eq!(state_after(3, || message(None)).await, State::Open);
    assert_eq!(
        state_after(3, || message(Some(map(&[("other", "x")])))).await,
        State::Open
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_no_success() {
    let page = || Response::new(Full::from("<html>").boxed_unsync());
    assert_eq!(state_after(3, page).await, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_after_a_good_head_is_a_success() {
    let breaker = Breaker::count(3, Duration::from_secs(10)).unwrap();
    let layer = CircuitBreakerLayer::new(breaker.clone()).classifier(Classifier::grpc());
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(message(Some(map(&[("grpc-status", "14")]))))
    }));
    for _ in 0..9 {
        drop(
            service
                .clone()
                .oneshot(Request::new(Full::default()))
                .await
                .unwrap(),
        );
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// How often a call went out, how long it took, and why it ended, when every answer asks for this pushback.
async fn pushed_back(pushback: Option<&'static str>) -> (usize, Duration, Option<Stop>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let policy = Retry::default()
        .classifier(Classifier::grpc())
        .backoff(
            Backoff::default()
                .initial(Duration::from_millis(100))
                .jitter(Jitter::None),
        )
        .without_budget()
        .build()
        .unwrap();
    let mut service = RetryLayer::new(policy).layer(service_fn(move |_: Request<Full<Bytes>>| {
        counted.fetch_add(1, Relaxed);
        let mut pairs = vec![("grpc-status", "14")];
        pairs.extend(pushback.map(|value| ("grpc-retry-pushback-ms", value)));
        let answer = trailers_only(&pairs);
        async move { Ok::<_, Infallible>(answer) }
    }));
    let mut request = Request::post("/shop.Cart/List")
        .body(Full::default())
        .unwrap();
    request
        .extensions_mut()
        .insert(CallPolicy::new().idempotent(true));
    let start = Instant::now();
    let reply = service.ready().await.unwrap().call(request).await.unwrap();
    let stop = reply.extensions().get::<Report>().and_then(Report::stop);
    (sent.load(Relaxed), start.elapsed(), stop)
}

// BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
#[tokio::test(start_paused = true)]
async fn pushback_is_exact_zero_is_at_once_and_negative_or_malformed_stops() {
    let used_up = Some(Stop::AttemptsExhausted { max_attempts: 3 });
    let ms = Duration::from_millis;
    assert_eq!(pushed_back(Some("250")).await, (3, ms(500), used_up));
    assert_eq!(pushed_back(Some("0")).await, (3, ms(0), used_up));
    assert_eq!(pushed_back(None).await, (3, ms(300), used_up));
    for stop in ["-1", "abc", "+5", "", "1.5", "99999999999"] {
        assert_eq!(
            pushed_back(Some(stop)).await,
            (1, ms(0), Some(Stop::ServerForbids)),
            "{stop}"
        );
    }
    let (sent, _, stop) = pushed_back(Some("30001")).await;
    assert_eq!(sent, 1);
    assert!(
        matches!(stop, Some(Stop::PushbackTooLong { .. })),
        "{stop:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_is_held_against_the_endpoint() {
    let fixed = evenkeel::Fixed::new(["10.0.0.1:80", "10.0.0.2:80"]);
    let bad: std::net::SocketAddr = "10.0.0.1:80".parse().unwrap();
    let balancer = evenkeel::Balancer::builder(fixed)
        .classifier(Classifier::grpc())
        .random(evenkeel::Random::seeded(1))
        .build(move |endpoint| {
            let status = if endpoint.address() == bad { "14" } else { "0" };
            Ok(service_fn(move |_: Request<Full<Bytes>>| async move {
                Ok::<_, Infallible>(message(Some(map(&[("grpc-status", status)]))))
            }))
        })
        .unwrap();
    for _ in 0..20 {
        let reply = balancer
            .clone()
            .oneshot(Request::new(Full::default()))
            .await
            .unwrap();
        let _ = reply.into_body().collect().await;
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
