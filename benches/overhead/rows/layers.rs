//! Our layers alone and together.

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{AttemptTimeoutLayer, Body, DeadlineLayer, Retry, RetryLayer};
use tower::{Layer, ServiceBuilder};

use super::{TIMEOUT, layered};
use crate::harness::{
    Batch, Case,
    Limit::{Allocations, Instructions, InstructionsOver, Over},
    Upstream, calls, post,
};

const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    let attempt_timeout = layered(
        "attempt timeout",
        |upstream| calls(timeout_layer().layer(upstream.client()), post(), unchanged),
        [Over(20.0), InstructionsOver(110.0), Allocations(0.0)],
        [Over(125.0)],
    );
    let deadline = layered("deadline", deadline, [], []);
    let retry = layered(
        "retry + budget",
        |upstream| calls(retry_layer(3).layer(upstream.client()), post(), Body::from),
        [Over(115.0), Instructions(1950.0), Allocations(1.0)],
        [],
    );
    let once = layered(
        "retry + budget, max_attempts 1",
        |upstream| calls(retry_layer(1).layer(upstream.client()), post(), Body::from),
        [Over(40.0)],
        [],
    );
    let retry_timeout = layered("retry + budget + timeout", retry_timeout, [Over(126.0)], []);
    [attempt_timeout, deadline, retry, once, retry_timeout]
        .into_iter()
        .flatten()
        .collect()
}

fn unchanged(body: Bytes) -> Bytes {
    body
}

fn timeout_layer() -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(TIMEOUT).expect("a limit above zero")
}

fn retry_layer(max_attempts: u32) -> RetryLayer {
    let policy = Retry::default().max_attempts(max_attempts).build();
    RetryLayer::new(policy.expect("the defaults are in range"))
}

fn deadline(upstream: Upstream) -> Batch {
    let layer = DeadlineLayer::new(DEADLINE).expect("a limit above zero");
    calls(layer.layer(upstream.client()), post(), Body::from)
}

fn retry_timeout(upstream: Upstream) -> Batch {
    let service = ServiceBuilder::new()
        .layer(retry_layer(3))
        .layer(timeout_layer())
        .service(upstream.client());
    calls(service, post(), Body::from)
}
