//! gRPC over what servers' frames say: streams refused, connections that go away, statuses in every place.

#[path = "../support/echo.rs"]
mod echo;
mod processed;
mod server;
mod statuses;
#[path = "../support/mod.rs"]
mod support;

use std::{
    error::Error as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use evenkeel::{
    Backoff, BreakerConfig, Budget, CallPolicy, Channel, ClientBuilder, Disposition, Ejection,
    Endpoint, Error, Jitter, Report, Retry, breaker::State,
};
use futures::{StreamExt, future::join, stream};
use h2::Reason;
use http::{HeaderMap, Request as HttpRequest};
use tokio::net::TcpStream;
use tonic::{Code, Request, Status, transport};

use echo::{Message, echo_client::EchoClient};
use support::{
    raw_h2::{Act, CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, RawServer},
    reply::Reply,
    server::Server,
};

const ORIGIN: &str = "http://echo.internal";
const SERVICE: &str = "evenkeel.test.v1.Echo";

/// Every method is one that may be repeated, or none is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Methods {
    Plain,
    Idempotent,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A channel to one server whose breaker and ejection are out of the way.
fn builder(server: SocketAddr, methods: Methods) -> ClientBuilder<evenkeel::Balanced> {
    let idempotent = CallPolicy::new().idempotent(methods == Methods::Idempotent);
    Channel::builder(ORIGIN)
        .endpoints([Endpoint::new(server)])
        .deadline(Duration::from_secs(5))
        .no_circuit_breaker()
        .ejection(Ejection::off())
        .method(SERVICE, idempotent)
}

fn client(server: SocketAddr, methods: Methods) -> EchoClient<Channel> {
    EchoClient::new(builder(server, methods).build_tonic(Ok).expect("valid"))
}

fn message() -> Message {
    Message {
        text: "hello".to_owned(),
        count: 1,
    }
}

/// The error of ours behind a status.
fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}

/// What a client without any of ours sees of one exchange.
#[derive(Debug)]
struct Plain {
    data: usize,
    trailers: Option<HeaderMap>,
}
