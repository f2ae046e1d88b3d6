//! A future of ours that has ended says so when it is polled again: silence would be a hang.
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod support;

use std::{
    future::{Future, pending},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use evenkeel::{
    AttemptTimeoutLayer, Backoff, Balancer, Body, Breaker, CallPolicy, CircuitBreakerLayer,
    Deadline, DeadlineLayer, Fixed, IdempotencyKeyLayer, InboundLayer, Retry, RetryLayer, retry,
};
use http::{Request, Response};
use tower::{Layer, Service, service_fn};

const LIMIT: Duration = Duration::from_millis(50);

type Answer = Result<Response<Body>, io::Error>;

/// Runs a future to its end, and then polls it once more.
async fn after_its_end<F: Future>(future: F) -> Result<Poll<()>, String> {
    let mut future = pin!(future);
    future.as_mut().await;
    let again = AssertUnwindSafe(|| {
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .map(drop)
    });
    catch_unwind(again).map_err(|panic| (*panic.downcast::<&str>().unwrap()).to_owned())
}

async fn assert_says_so(name: &str, future: impl Future) {
    let again = after_its_end(future).await;
    assert_eq!(
        again,
        Err("a call was polled after its end".to_owned()),
        "{name}"
    );
}

fn request() -> Request<Body> {
    Request::put("/").body(Body::from("x")).unwrap()
}

/// One that no layer of ours lets through.
fn refused() -> Request<Body> {
    let mut request = request();
    request
        .extensions_mut()
        .insert(CallPolicy::new().max_attempts(0));
    request
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_refused_say_so() {
    let never = service_fn(|_: Request<Body>| pending::<Answer>());
    let mut deadline = DeadlineLayer::new(LIMIT).unwrap().layer(never);
    assert_says_so("deadline", deadline.call(refused())).await;
    let mut attempt = AttemptTimeoutLayer::new(LIMIT).unwrap().layer(never);
    assert_says_so("attempt timeout", attempt.call(refused())).await;
    let mut key = IdempotencyKeyLayer::default().layer(never);
    assert_says_so("key", key.call(refused())).await;
    let mut retry = RetryLayer::new(Retry::default().build().unwrap()).layer(never);
    assert_says_so("retry", retry.call(refused())).await;
    let breaker = Breaker::count(1, LIMIT).unwrap();
    breaker.force_open();
    let mut breaker = CircuitBreakerLayer::new(breaker).layer(never);
    assert_says_so("breaker", breaker.call(request())).await;
    let balancer = Balancer::builder(Fixed::new(["10.0.0.1:80"]));
    let mut balancer = balancer.build(move |_| Ok(never)).unwrap();
    assert_says_so("balancer", balancer.call(refused())).await;
    let mut late = Request::put("/").header("content-type", "application/grpc");
    late = late.header("grpc-timeout", "0n");
    let mut inbound = InboundLayer::new().layer(never);
    let late = late.body(Body::empty()).unwrap();
    assert_says_so("inbound", inbound.call(late)).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_ran_out_of_time_say_so() {
    let never = service_fn(|_: Request<Body>| pending::<Answer>());
    let mut deadline = DeadlineLayer::new(LIMIT).unwrap().layer(never);
    assert_says_so("deadline", deadline.call(request())).await;
    let mut attempt = AttemptTimeoutLayer::new(LIMIT).unwrap().layer(never);
    assert_says_so("attempt timeout", attempt.call(request())).await;
    let deadline = Deadline::from_now(LIMIT);
    assert_says_so("Deadline::run", deadline.run(pending::<()>())).await;
    let answered = Deadline::from_now(LIMIT).run(async { 1 });
    assert_says_so("Deadline::run", answered).await;
    let late = Deadline::from_now(Duration::ZERO).run(async { 1 });
    assert_says_so("Deadline::run", late).await;
}

#[tokio::test(start_paused = true)]
async fn calls_whose_attempts_failed_say_so() {
    let fails =
        service_fn(|_: Request<Body>| async { Answer::Err(io::ErrorKind::ConnectionReset.into()) });
    let backoff = Backoff::default().initial(LIMIT);
    let policy = Retry::default().backoff(backoff).build().unwrap();
    let mut service = RetryLayer::new(policy.clone()).layer(fails);
    assert_says_so("retry", service.call(request())).await;
    let operation = |_| async { Err::<(), _>("no") };
    assert_says_so("retry::run", retry::run(&policy, operation)).await;
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_request_that_reqwest_cannot_send_says_so() {
    let client = support::tls::client().build().unwrap();
    let mut service = evenkeel::reqwest::HttpService::new(client);
    let nowhere = Request::get("/without/a/host").body(Body::empty()).unwrap();
    assert_says_so("HttpService", service.call(nowhere)).await;
}
