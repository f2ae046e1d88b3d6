//! What is measured: tower's own layers, and ours in each combination that has a target.

pub(crate) mod layers;
pub(crate) mod tower;

use std::time::Duration;

use crate::harness::{Batch, Case, Limit, Upstream, calls, post};

/// The limit of an attempt in every row that has one.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(800);

const CALLS: &str = "a call: request copied, service ready, called, response body drained";

/// The service at the bottom alone.
pub(crate) fn raw() -> Vec<Case> {
    let case = |upstream: Upstream| {
        let make = move || calls(upstream.client(), post(), |body| body);
        Case::new(CALLS, named("raw", upstream), make)
    };
    Upstream::BOTH.map(case).into()
}

/// The same layers around a service that is ready and around one that is pending once.
pub(crate) fn layered<const R: usize, const Y: usize>(
    name: &str,
    make: fn(Upstream) -> Batch,
    ready: [Limit; R],
    pending: [Limit; Y],
) -> [Case; 2] {
    let case = |upstream: Upstream| {
        Case::new(CALLS, named(name, upstream), move || make(upstream)).over(named("raw", upstream))
    };
    [
        case(Upstream::Ready).within(ready),
        case(Upstream::Yield).within(pending),
    ]
}

fn named(name: &str, upstream: Upstream) -> String {
    format!("{name} / {}", upstream.name())
}
