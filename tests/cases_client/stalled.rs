//! Bodies that fall silent: the deadline layer above ends them, the layers below have to hear whose fault it was.
//! CLS-04, resilience4j/resilience4j#2013

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{
    Breaker, CallPolicy, CircuitBreakerLayer, DeadlineLayer, ErrorKind,
    breaker::{Snapshot, State},
};
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::mock::{Act, Mock, Step, millis};

/// So many calls whose bodies send a byte and fall silent after it; what the breaker made of them.
async fn read(calls: usize, layer: DeadlineLayer, policy: CallPolicy) -> (ErrorKind, Breaker) {
    let stall = || Act::ok().body([Step::data("a"), Step::stall()]);
    let breaker = Breaker::count(3, Duration::from_secs(60)).unwrap();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(Mock::new((0..calls).map(|_| stall())));
    let mut kind = ErrorKind::Upstream;
    for _ in 0..calls {
        let mut request = Request::new(Full::new(Bytes::new()));
        request.extensions_mut().insert(policy.clone());
        let response = service.clone().oneshot(request).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        kind = error.downcast_ref::<evenkeel::Error>().unwrap().kind();
    }
    (kind, breaker)
}

fn deadline() -> DeadlineLayer {
    DeadlineLayer::new(millis(1_000)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bodies_that_stall_until_the_deadline_open_the_circuit() {
    let (kind, breaker) = read(3, deadline(), CallPolicy::new()).await;
    assert_eq!(kind, ErrorKind::DeadlineExceeded);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_stall_until_the_idle_limit_open_the_circuit() {
    let layer = deadline().body_idle(millis(100)).unwrap();
    let (kind, breaker) = read(3, layer, CallPolicy::new()).await;
    assert_eq!(kind, ErrorKind::BodyIdle);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_hurry_does_not_blame_the_server_for_its_body() {
    let hurried = CallPolicy::new().deadline(millis(20));
    let impatient = CallPolicy::new().body_idle(millis(20));
    for (policy, expected) in [
        (hurried, ErrorKind::DeadlineExceeded),
        (impatient, ErrorKind::BodyIdle),
    ] {
        let (kind, breaker) = read(9, deadline(), policy).await;
        assert_eq!(kind, expected);
        let Snapshot { state, opened, .. } = breaker.snapshot();
        assert_eq!((state, opened), (State::Closed, 0));
    }
}
