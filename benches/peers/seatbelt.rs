//! seatbelt: its own service trait, and the same layers as tower services.

use std::io;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use layered::{Execute, Service, Stack};
use seatbelt::{RecoveryInfo, ResilienceContext, breaker::Breaker, retry::Retry, timeout::Timeout};
use tick::Clock;
use tower::ServiceBuilder;

use crate::{
    harness::{Batch, Case, Request, Upstream, calls, post, upstream::calls_by},
    rows::{TIMEOUT, layered},
};

type Answer = io::Result<Response<Full<Bytes>>>;

pub(crate) fn cases() -> Vec<Case> {
    [
        layered("seatbelt retry + breaker + timeout", plain, [], []),
        layered(
            "seatbelt retry + breaker + timeout, as tower",
            as_tower,
            [],
            [],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn judge(answer: &Answer) -> RecoveryInfo {
    match answer {
        Ok(response) if !response.status().is_server_error() => RecoveryInfo::never(),
        _ => RecoveryInfo::retry(),
    }
}

macro_rules! layers {
    () => {{
        let context: ResilienceContext<Request, Answer> =
            ResilienceContext::new(Clock::new_tokio());
        let retry = Retry::layer("retry", &context)
            .clone_input()
            .recovery_with(|answer: &Answer, _| judge(answer));
        let breaker = Breaker::layer("breaker", &context)
            .recovery_with(|answer: &Answer, _| judge(answer))
            .rejected_input_error(|_, _| io::Error::other("the circuit is open"));
        let timeout = Timeout::layer("timeout", &context)
            .timeout(TIMEOUT)
            .timeout_error(|_| io::ErrorKind::TimedOut.into());
        (retry, breaker, timeout)
    }};
}

fn plain(upstream: Upstream) -> Batch {
    let (retry, breaker, timeout) = layers!();
    let client = upstream.client();
    let bottom =
        Execute::new(move |request: Request| tower::Service::call(&mut client.clone(), request));
    let service = (retry, breaker, timeout, bottom).into_service();
    calls_by(
        post(),
        |body| body,
        async move |request| service.execute(request).await.expect("the call succeeds"),
    )
}

fn as_tower(upstream: Upstream) -> Batch {
    let (retry, breaker, timeout) = layers!();
    let service = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker)
        .layer(timeout)
        .service(upstream.client());
    calls(service, post(), |body| body)
}
