//! The server's side of a deadline: chains of tonic and axum servers over real sockets, and the layer alone.

mod alone;
#[path = "../support/echo.rs"]
mod echo;
mod grpc_chain;
mod http_chain;
#[path = "../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    future::Future,
    net::{SocketAddr, TcpListener as StdListener},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router, routing};
use bytes::Bytes;
use evenkeel::{
    CallPolicy, Channel, Client, DeadlineHeader, Endpoint, InboundLayer, InheritedDeadline,
};
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    task::AbortHandle,
    time::{Instant, sleep},
};
use tonic::{Code, Status, Streaming, transport::server::TcpIncoming};
use tower::{Layer, Service, ServiceExt, service_fn};

use echo::{
    Message,
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};
use support::{
    mock::millis,
    server::{LOOPBACK, RUNTIME},
};

const HEADER: &str = "x-timeout-ms";

fn header() -> DeadlineHeader {
    DeadlineHeader::millis(HEADER).expect("a header name")
}

/// What a task inherits, as the time that is left.
fn left() -> Option<Duration> {
    let deadline = InheritedDeadline::current().deadline();
    deadline.remaining(Instant::now().into_std())
}

fn listener() -> (SocketAddr, TcpListener) {
    let listener = StdListener::bind((LOOPBACK, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("an open socket");
    let address = listener.local_addr().expect("it is bound");
    let _inside = RUNTIME.enter();
    (
        address,
        TcpListener::from_std(listener).expect("nonblocking"),
    )
}

/// A server that runs until this is dropped.
struct Running {
    address: SocketAddr,
    task: AbortHandle,
}

impl Running {
    fn new(address: SocketAddr, serving: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = RUNTIME.spawn(serving).abort_handle();
        Self { address, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(router: Router) -> Running {
    let (address, listener) = listener();
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let io = TokioIo::new(stream);
                // How the connection ends is the client's affair.
                drop(builder.serve_connection(io, service).await);
            });
        }
    };
    Running::new(address, serving)
}

fn client(address: SocketAddr) -> Client {
    Client::builder("http://shop.internal")
        .endpoints([Endpoint::new(address)])
        .deadline(Duration::from_secs(60))
        .deadline_header(HEADER)
        .build_reqwest(|_| support::tls::client())
        .expect("valid")
}
