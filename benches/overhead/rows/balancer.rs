//! What the balancer adds to a call that a deadline layer has opened.

use std::net::{Ipv4Addr, SocketAddr};

use evenkeel::{
    Body, DeadlineLayer, Fixed,
    balance::{Balancer, Pick},
};
use tower::Layer;

use super::layers::DEADLINE;
use crate::harness::{
    Batch, Case,
    Limit::{self, Allocations, Over},
    Request, Upstream, calls,
};

const PART: &str = "the balancer: pick and call, an empty request, below a deadline";
const ALONE: &str = "deadline, empty request";

pub(crate) fn cases() -> Vec<Case> {
    let alone = Case::new(PART, ALONE, || {
        let service = deadline().layer(Upstream::Ready.client());
        calls(service, Request::default(), Body::from)
    });
    let by_size = [2, 10, 100, 1000, 10_000]
        .map(|size| case("least cost of 5", Pick::least_cost, size, 135.0));
    let others = [
        case("p2c in flight", Pick::p2c_in_flight, 10, 35.0),
        case("p2c peak EWMA", Pick::p2c_peak_ewma, 10, 95.0),
    ];
    [alone].into_iter().chain(by_size).chain(others).collect()
}

fn case(name: &str, pick: fn() -> Pick, size: u32, nanos: f64) -> Case {
    let limits: [Limit; 2] = [Over(nanos), Allocations(0.0)];
    Case::new(PART, format!("balancer, {name}, N = {size}"), move || {
        balanced(pick(), size)
    })
    .over(ALONE)
    .within(limits)
}

fn balanced(pick: Pick, size: u32) -> Batch {
    let service = deadline().layer(over(size, pick, || Upstream::Ready.client()));
    calls(service, Request::default(), Body::from)
}

/// A balancer over so many endpoints, each with a service of its own.
pub(crate) fn over<S>(
    size: u32,
    pick: Pick,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Balancer<S>
where
    S: Clone + Send + Sync + 'static,
{
    let address = |host| SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + host), 8080));
    Balancer::builder(Fixed::new((0..size).map(address)))
        .pick(pick)
        .build(move |_| Ok(make()))
        .expect("addresses and defaults are in range")
}

fn deadline() -> DeadlineLayer {
    DeadlineLayer::new(DEADLINE).expect("a limit above zero")
}
