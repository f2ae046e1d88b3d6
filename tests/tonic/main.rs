//! gRPC over real sockets: a generated client through the whole stack.

mod by_hand;
mod connections;
#[path = "../support/echo.rs"]
mod echo;
mod generated;
#[path = "../support/grpc.rs"]
mod grpc;
mod origins;
mod policies;
mod refusals;
mod runtimes;
mod servers;
mod statuses;
#[path = "../support/mod.rs"]
mod support;
mod time;

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel::{
    Budget, CallPolicy, Channel, ClientBuilder, DeadlineLayer, Disposition, Ejection, Endpoint,
    Error, ErrorKind, IdempotencyKeys, Retry, RetryLayer, classify::Classifier,
};
use futures::{StreamExt, stream};
use tokio::{runtime, sync::mpsc, time::sleep};
use tonic::{
    Code, GrpcMethod, Request, Status,
    transport::{Certificate, ClientTlsConfig},
};
use tower::{Service, ServiceBuilder};

use echo::{Message, echo_client::EchoClient};
use grpc::{Act, EchoServer};
use support::{
    nowhere::{BlackHole, Refusing, Silent},
    reply::Reply,
    server::Server,
    tls::Authority,
};

const ORIGIN: &str = "http://echo.internal";
const UNARY: &str = "evenkeel.test.v1.Echo/Unary";
const REPEAT: &str = "evenkeel.test.v1.Echo/Repeat";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn builder<const N: usize>(endpoints: [SocketAddr; N]) -> ClientBuilder<evenkeel::Balanced> {
    Channel::builder(ORIGIN)
        .endpoints(endpoints.map(Endpoint::new))
        .deadline(Duration::from_secs(5))
}

fn client<const N: usize>(endpoints: [SocketAddr; N]) -> EchoClient<Channel> {
    EchoClient::new(builder(endpoints).build_tonic(Ok).expect("valid"))
}

fn message(text: &str) -> Message {
    Message {
        text: text.to_owned(),
        count: 3,
    }
}

/// The error of ours behind a status.
fn ours(status: &Status) -> &Error {
    let source = status.source().expect("a source");
    source.downcast_ref().expect("an error of ours")
}
