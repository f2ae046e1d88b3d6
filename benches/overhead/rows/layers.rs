//! Our layers alone and together.

use bytes::Bytes;
use evenkeel::{
    AttemptTimeoutLayer, Body, BreakerConfig, CircuitBreakerLayer, DeadlineLayer,
    IdempotencyKeyLayer, Retry, RetryLayer, Stack, balance::Pick,
};
use tower::{Layer, ServiceBuilder};

use super::{TIMEOUT, layered};
use crate::harness::{
    Batch, Case, DEADLINE,
    Limit::{Allocations, Instructions, InstructionsOver, Over},
    Request, Upstream, balanced, calls, get, post,
};

pub(crate) fn cases() -> Vec<Case> {
    let alone = [
        layered(
            "attempt timeout",
            |upstream| calls(timeout_layer().layer(upstream.client()), post(), unchanged),
            [Over(20.0), InstructionsOver(110.0), Allocations(0.0)],
            [Over(125.0)],
        ),
        layered(
            "deadline",
            |upstream| {
                calls(
                    deadline_layer().layer(upstream.client()),
                    post(),
                    Body::from,
                )
            },
            [],
            [],
        ),
        layered(
            "breaker",
            |upstream| calls(breaker_layer().layer(upstream.client()), post(), Body::from),
            [],
            [],
        ),
        layered(
            "retry + budget",
            |upstream| calls(retry_layer(3).layer(upstream.client()), post(), Body::from),
            [Over(115.0), Instructions(1950.0), Allocations(1.0)],
            [],
        ),
        layered(
            "retry + budget, max_attempts 1",
            |upstream| calls(retry_layer(1).layer(upstream.client()), post(), Body::from),
            [Over(40.0)],
            [],
        ),
    ];
    alone.into_iter().chain(together()).flatten().collect()
}

fn together() -> [[Case; 2]; 4] {
    [
        layered("retry + budget + timeout", retry_timeout, [Over(126.0)], []),
        layered(
            "retry + budget + breaker + timeout",
            retry_breaker_timeout,
            [Over(180.0), Instructions(2500.0), Allocations(1.0)],
            [Over(300.0)],
        ),
        layered(
            "whole stack, GET",
            |upstream| whole(upstream, get()),
            [Over(370.0), Instructions(4200.0), Allocations(2.0)],
            [],
        ),
        layered(
            "whole stack, POST with key",
            |upstream| whole(upstream, post()),
            [Over(500.0), Instructions(5300.0), Allocations(4.0)],
            [],
        ),
    ]
}

fn unchanged(body: Bytes) -> Bytes {
    body
}

fn timeout_layer() -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(TIMEOUT).expect("a limit above zero")
}

fn deadline_layer() -> DeadlineLayer {
    DeadlineLayer::new(DEADLINE).expect("a limit above zero")
}

fn breaker_layer() -> CircuitBreakerLayer {
    let breaker = BreakerConfig::service_default().build();
    CircuitBreakerLayer::new(breaker.expect("the preset is in range"))
}

fn retry_layer(max_attempts: u32) -> RetryLayer {
    let policy = Retry::default().max_attempts(max_attempts).build();
    RetryLayer::new(policy.expect("the defaults are in range"))
}

fn retry_timeout(upstream: Upstream) -> Batch {
    let service = ServiceBuilder::new()
        .layer(retry_layer(3))
        .layer(timeout_layer())
        .service(upstream.client());
    calls(service, post(), Body::from)
}

fn retry_breaker_timeout(upstream: Upstream) -> Batch {
    let service = ServiceBuilder::new()
        .layer(retry_layer(3))
        .layer(breaker_layer())
        .layer(timeout_layer())
        .service(upstream.client());
    calls(service, post(), Body::from)
}

/// Deadline, key, retry with budget, breaker, balancer over ten endpoints with an attempt timeout each.
fn whole(upstream: Upstream, template: Request) -> Batch {
    let balancer = balanced(10, Pick::default(), move || {
        timeout_layer().layer(upstream.client())
    });
    let service = Stack::new()
        .deadline(deadline_layer())
        .idempotency_key(IdempotencyKeyLayer::default())
        .retry(retry_layer(3))
        .circuit_breaker(breaker_layer())
        .service(balancer);
    calls(service, template, Body::from)
}
