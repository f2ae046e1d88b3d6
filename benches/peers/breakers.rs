//! failsafe and recloser: breakers around a future, without a layer.

use std::{convert::Infallible, hint::black_box, time::Duration};

use failsafe::{CircuitBreaker, Config, backoff, failure_policy, futures};
use recloser::{AsyncRecloser, Recloser};
use tower::Service;

use crate::{
    harness::{Batch, Case, Upstream, on_two_threads, post, repeat, upstream::calls_by},
    rows::layered,
};

const DECISIONS: &str = "decisions of other breakers: a call of nothing";

pub(crate) fn calls() -> Vec<Case> {
    [
        layered("failsafe breaker", failsafe_call, [], []),
        layered("recloser breaker", recloser_call, [], []),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn decisions() -> Vec<Case> {
    let case = |name: &str, make: fn() -> Batch| Case::new(DECISIONS, name, make);
    vec![
        case("recloser closed", || {
            let breaker = Recloser::default();
            repeat(move || recloser_decision(&breaker))
        }),
        case("recloser closed, 2 threads", || {
            let breaker = Recloser::default();
            on_two_threads(move || recloser_decision(&breaker))
        })
        .shared(),
        case("failsafe (default) closed", || {
            let breaker = Config::new().build();
            repeat(move || failsafe_decision(&breaker))
        }),
        case("failsafe (default) closed, 2 threads", || {
            let breaker = Config::new().build();
            on_two_threads(move || failsafe_decision(&breaker))
        })
        .shared(),
        case("failsafe (consecutive) closed", || {
            let breaker = consecutive();
            repeat(move || failsafe_decision(&breaker))
        }),
        case("failsafe (consecutive) closed, 2 threads", || {
            let breaker = consecutive();
            on_two_threads(move || failsafe_decision(&breaker))
        })
        .shared(),
    ]
}

fn consecutive() -> impl CircuitBreaker + Send + Sync {
    let wait = backoff::constant(Duration::from_secs(30));
    Config::new()
        .failure_policy(failure_policy::consecutive_failures(5, wait))
        .build()
}

fn fine() -> Result<(), Infallible> {
    Ok(())
}

fn failsafe_decision(breaker: &impl CircuitBreaker) {
    let _ = black_box(CircuitBreaker::call(breaker, fine));
}

fn recloser_decision(breaker: &Recloser) {
    let _ = black_box(breaker.call(fine));
}

fn failsafe_call(upstream: Upstream) -> Batch {
    let breaker = Config::new().build();
    let mut client = upstream.client();
    calls_by(
        post(),
        |body| body,
        async move |request| {
            let call = futures::CircuitBreaker::call(&breaker, client.call(request));
            call.await.expect("the call succeeds")
        },
    )
}

fn recloser_call(upstream: Upstream) -> Batch {
    let breaker = AsyncRecloser::from(Recloser::default());
    let mut client = upstream.client();
    calls_by(
        post(),
        |body| body,
        async move |request| {
            let call = breaker.call(client.call(request));
            call.await.expect("the call succeeds")
        },
    )
}
