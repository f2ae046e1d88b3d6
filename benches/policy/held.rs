//! What a balancer holds for each endpoint.

use evenkeel::balance::Pick;

use crate::harness::{Figure, Upstream, balanced, held_bytes};

const SIZE: u32 = 10_000;

pub(crate) fn figures() -> Vec<Figure> {
    let before = held_bytes();
    let balancer = balanced(SIZE, Pick::least_cost(), || Upstream::Ready.client());
    let bytes = (held_bytes() - before) as f64 / f64::from(SIZE);
    drop(balancer);
    vec![Figure {
        name: "balancer, heap held for each of 10000 endpoints, address and name included",
        unit: "B",
        value: bytes,
        target: 512.0,
    }]
}
