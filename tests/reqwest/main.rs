//! The ready-made client over real sockets: HTTP/1.1, HTTP/2 and TLS, with servers that fail in every way.
#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used, reason = "a step that fails, fails its test")]

mod bodies;
mod discovery;
mod hanging;
mod lost;
mod names;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod time_left;
mod wrapped;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use evenkeel::{
    Backoff, Body, CallPolicy, Client, Disposition, Error, ErrorKind, IdempotencyKeys, Report,
    Retry,
    client::{Balanced, ClientBuilder},
    discover::{Endpoint, LookupHost, from_stream},
};
use futures::{StreamExt, channel::mpsc};
use http::Version;

use support::{
    nowhere::{BlackHole, Refusing, Silent},
    reply::Reply,
    server::{Seen, Server},
    tls::{Authority, client},
};

const ORIGIN: &str = "http://payments.internal";
const SHORT: Duration = Duration::from_millis(200);

/// Far above what any of these tests needs, so that only what they are about ends a call.
const LONG: Duration = Duration::from_secs(20);

/// Something else than the limit under test has ended the call.
const LATE: Duration = Duration::from_secs(10);

fn quick_retry() -> Retry {
    Retry::default()
        .backoff(Backoff::default().initial(Duration::from_millis(10)))
        .without_budget()
}

/// A client of `ORIGIN` over these addresses that only retries: no ejection or breaker gets in the way.
fn over(addresses: impl IntoIterator<Item = SocketAddr>) -> ClientBuilder<Balanced> {
    Client::builder(ORIGIN)
        .endpoints(addresses)
        .deadline(LONG)
        .retry(quick_retry())
        .no_circuit_breaker()
}

fn http1(builder: ClientBuilder<Balanced>) -> Client {
    builder
        .build_reqwest(|_| client())
        .expect("settings that work")
}

fn http2(builder: ClientBuilder<Balanced>) -> Client {
    builder
        .build_reqwest(|_| client().http2_prior_knowledge())
        .expect("settings that work")
}

fn report(response: &reqwest::Response) -> &Report {
    response
        .extensions()
        .get()
        .expect("every response has its report")
}

fn bodies(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter().map(|seen| &seen.body[..]).collect()
}

fn keys(seen: &[Seen]) -> Vec<Option<&str>> {
    seen.iter()
        .map(|seen| {
            seen.headers
                .get("idempotency-key")
                .map(|key| key.to_str().unwrap())
        })
        .collect()
}
