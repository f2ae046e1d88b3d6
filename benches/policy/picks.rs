//! What the balancer adds to a call that a deadline layer has opened.

use evenkeel::{Body, DeadlineLayer, balance::Pick};
use tower::Layer;

use crate::harness::{
    Batch, Case,
    Limit::{self, Allocations, Over},
    Request, Upstream, balanced, calls,
};

const PART: &str = "the balancer: pick and call, an empty request, below a deadline";
pub(crate) const ALONE: &str = "deadline, empty request";

pub(crate) fn cases() -> Vec<Case> {
    let alone = Case::new(PART, ALONE, || {
        let service = deadline().layer(Upstream::Ready.client());
        calls(service, Request::default(), Body::from)
    });
    let by_size = [2, 10, 100, 1000, 10_000, 100_000]
        .map(|size| case("least cost of 5", Pick::least_cost, size, 135.0));
    let others = [
        case("p2c in flight", Pick::p2c_in_flight, 10, 35.0),
        case("p2c peak EWMA", Pick::p2c_peak_ewma, 10, 95.0),
    ];
    [alone].into_iter().chain(by_size).chain(others).collect()
}

fn case(name: &str, pick: fn() -> Pick, size: u32, nanos: f64) -> Case {
    let limits: [Limit; 2] = [Over(nanos), Allocations(0.0)];
    let make = move || -> Batch {
        let balancer = balanced(size, pick(), || Upstream::Ready.client());
        calls(deadline().layer(balancer), Request::default(), Body::from)
    };
    Case::new(PART, format!("balancer, {name}, N = {size}"), make)
        .over(ALONE)
        .within(limits)
}

pub(crate) fn deadline() -> DeadlineLayer {
    DeadlineLayer::new(crate::harness::DEADLINE).expect("a limit above zero")
}
