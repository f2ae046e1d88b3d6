//! The balancer over endpoints that a test scripts, under paused time.

mod contract;
mod ejection;
mod in_flight;
mod life;
mod picks;
mod services;
mod set;
#[path = "../support/mod.rs"]
mod support;
mod weights;

use std::{
    error::Error as _,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Balancer, Body, Breaker, CallPolicy, CircuitBreakerLayer, DeadlineLayer, Disposition, Ejection,
    Endpoint, Error, ErrorKind, Fixed, Pick, Random, Retry, RetryLayer, SlowStart,
    balance::{EndpointState, EndpointStatus},
};
use futures::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use support::{
    fleet::{Fleet, Manner, Member, Ready, Sets, address, endpoints},
    mock::{Act, Mock, Readiness, Step},
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

const PICKS: [Pick; 7] = [
    Pick::least_cost(),
    Pick::p2c_peak_ewma(),
    Pick::p2c_in_flight(),
    Pick::choices(3),
    Pick::least_in_flight(),
    Pick::round_robin(),
    Pick::random(),
];

fn get() -> Request<Body> {
    Request::get("http://service/")
        .body(Body::empty())
        .expect("a request")
}

fn post() -> Request<Body> {
    Request::post("http://service/")
        .body(Body::empty())
        .expect("a request")
}

fn fixed<const N: usize>(ports: [u16; N]) -> Fixed {
    Fixed::new(endpoints(ports))
}

/// Lets tasks of the runtime run until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// One call to its end: the port that answered.
async fn port<S, RB>(service: &S) -> Result<u16, Error>
where
    S: Service<Request<Body>, Response = Response<RB>, Error = Error> + Clone,
    RB: http_body::Body<Data = Bytes>,
    RB::Error: std::fmt::Debug,
{
    let response = service.clone().oneshot(get()).await?;
    let body = response.into_body().collect().await.expect("a whole body");
    Ok(String::from_utf8_lossy(&body.to_bytes())
        .parse()
        .unwrap_or(0))
}

/// So many calls, some of them at once; their results do not matter.
async fn many<S, RB>(service: &S, calls: usize, at_once: usize)
where
    S: Service<Request<Body>, Response = Response<RB>, Error = Error> + Clone,
    RB: http_body::Body<Data = Bytes>,
    RB::Error: std::fmt::Debug,
{
    let calls = stream::iter(0..calls).map(|_| port(service).map(drop));
    calls.buffer_unordered(at_once).collect::<Vec<_>>().await;
}

fn status(balancer: &Balancer<Member>, port: u16) -> EndpointStatus {
    let mut all = balancer.endpoints().into_iter();
    all.find(|status| status.address == address(port))
        .expect("a known endpoint")
}

fn ejected(balancer: &Balancer<Member>) -> usize {
    let out = |status: &EndpointStatus| {
        matches!(
            status.state,
            EndpointState::Ejected { .. } | EndpointState::Probing
        )
    };
    balancer
        .endpoints()
        .iter()
        .filter(|status| out(status))
        .count()
}

fn failing(fleet: &Fleet, ports: impl IntoIterator<Item = u16>) {
    ports
        .into_iter()
        .for_each(|port| fleet.set(port, Manner::Answer(503), MS(1)));
}
