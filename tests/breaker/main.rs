//! The circuit breaker: its handle, and its layer over scripted services, under paused time.

mod around;
mod balanced;
mod bodies;
mod contract;
mod counting;
mod presets;
mod probes;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod watching;
mod windows;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evenkeel::{
    AttemptTimeoutLayer, Body, BoxError, Breaker, BreakerConfig, CallPolicy, CircuitBreakerLayer,
    DeadlineLayer, Disposition, Endpoint, Error, ErrorKind, Fixed, Random, Retry, RetryLayer,
    balance::{Balancer, Ejection, Pick},
    breaker::{Cause, CircuitBreakerService, CloseWhen, State, Trial},
    call::Stop,
    classify::{Class, Classifier, Evidence, Verdict},
};
use futures::{FutureExt, StreamExt, future::join_all};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{advance, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use support::mock::{Act, Mock, Readiness, Script, Step, millis};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<Response<evenkeel::Guarded<Script, Trial>>, Error>;

fn built(config: BreakerConfig) -> Breaker {
    config.build().expect("settings in range")
}

fn on_first_failure() -> BreakerConfig {
    Breaker::builder().consecutive_failures(1)
}

/// A breaker of these settings before a service that does this.
fn before(config: BreakerConfig, mock: &Mock) -> (Breaker, CircuitBreakerService<Mock>) {
    let breaker = built(config);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(mock.clone());
    (breaker, service)
}

fn get() -> Request<String> {
    Request::new(String::new())
}

/// One call with its body read to the end.
async fn call(service: &CircuitBreakerService<Mock>) -> Result<u16, ErrorKind> {
    let response = service.clone().oneshot(get()).await;
    let response = response.map_err(|error| error.kind())?;
    let status = response.status().as_u16();
    let _ = response.into_body().collect().await;
    Ok(status)
}

/// Our layers are always ready.
async fn be_ready(
    service: &mut CircuitBreakerService<Mock>,
) -> Result<&mut CircuitBreakerService<Mock>, Error> {
    ServiceExt::<Request<String>>::ready(service).await
}

/// One call polled once.
fn begin(
    service: &CircuitBreakerService<Mock>,
) -> tokio_test::task::Spawn<impl Future<Output = Answer>> {
    let mut call = tokio_test::task::spawn(service.clone().oneshot(get()));
    assert!(call.poll().is_pending());
    call
}

fn is_open(result: &Result<u16, ErrorKind>) -> bool {
    matches!(result, Err(ErrorKind::CircuitOpen { .. }))
}

fn reset() -> Act {
    Act::fail(io::ErrorKind::ConnectionReset)
}

/// Runs on the breaker alone: fails so many times.
fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.try_acquire().expect("closed").failure();
    }
}

fn succeed(breaker: &Breaker) {
    breaker.try_acquire().expect("let through").success();
}

async fn answer(
    service: &CircuitBreakerService<Mock>,
) -> Response<evenkeel::Guarded<Script, Trial>> {
    service.clone().oneshot(get()).await.expect("a head")
}

/// A good head and a body of these steps.
fn body(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::ok().body(steps)
}
