//! tower-resilience: one crate for each layer.

use std::{io, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tower::{Layer, ServiceBuilder};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use crate::{
    harness::{Batch, Case, Request, Upstream, calls, post},
    rows::{TIMEOUT, layered},
};

type Answer = Response<Full<Bytes>>;

pub(crate) fn cases() -> Vec<Case> {
    [
        layered("tower-resilience timeout", timeout, [], []),
        layered("tower-resilience retry", retry, [], []),
        layered("tower-resilience breaker", breaker, [], []),
        layered(
            "tower-resilience retry + breaker + timeout",
            together,
            [],
            [],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn unchanged(body: Bytes) -> Bytes {
    body
}

fn timeout(upstream: Upstream) -> Batch {
    let layer = TimeLimiterLayer::builder()
        .timeout_duration(TIMEOUT)
        .build();
    calls(layer.layer(upstream.client()), post(), unchanged)
}

fn retry_layer<E>() -> RetryLayer<Request, Answer, E> {
    RetryLayer::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(50))
        .retry_on_response(|answer: &Answer| answer.status().is_server_error())
        .build()
}

fn retry(upstream: Upstream) -> Batch {
    let layer = retry_layer::<io::Error>();
    calls(layer.layer(upstream.client()), post(), unchanged)
}

fn breaker(upstream: Upstream) -> Batch {
    let layer = CircuitBreakerLayer::builder()
        .build()
        .expect("the defaults are in range");
    calls(layer.layer(upstream.client()), post(), unchanged)
}

fn together(upstream: Upstream) -> Batch {
    let breaker = CircuitBreakerLayer::builder()
        .build()
        .expect("the defaults are in range");
    let timeout = TimeLimiterLayer::builder()
        .timeout_duration(TIMEOUT)
        .build();
    let service = ServiceBuilder::new()
        .layer(retry_layer())
        .layer(breaker)
        .layer(timeout)
        .service(upstream.client());
    calls(service, post(), unchanged)
}
