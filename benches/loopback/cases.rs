//! The same call through each client.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel::{Channel, Client};
use futures::{FutureExt, future::BoxFuture};
use tonic::transport::{self, Endpoint};

use super::{
    echo::{Message, echo_client::EchoClient},
    servers::Servers,
};

/// One call, its response read to the end.
pub(super) type Call = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// One row of the report.
pub(super) struct Case {
    pub(super) part: &'static str,
    pub(super) name: &'static str,
    pub(super) call: Arc<Call>,
    /// The row that it is compared with.
    pub(super) over: Option<&'static str>,
    /// At most so much of the client's time, compared with that row.
    pub(super) target: Option<f64>,
}

const HTTP: &str = "GET over HTTP/1.1, 23 B answered";
const GRPC: &str = "unary gRPC, 5 B each way";
const RAW_HTTP: &str = "reqwest";
const RAW_GRPC: &str = "tonic";
const BALANCED_GRPC: &str = "tonic balance_list, 2 endpoints";
const PATH: &str = "/v1/charges?dry=1";

/// All cases; within a runtime, in which their connections live.
pub(super) fn all(servers: &Servers) -> Vec<Case> {
    let [one, _] = servers.http;
    vec![
        Case::new(HTTP, RAW_HTTP, by_reqwest(plain(), one)),
        Case::new(HTTP, "reqwest with its timeout", by_reqwest(timed(), one)).over(RAW_HTTP),
        Case::new(HTTP, "reqwest, 2 clients in turn", in_turn(servers.http)).over(RAW_HTTP),
        Case::new(HTTP, "evenkeel, 2 endpoints", by_client(servers.http))
            .over(RAW_HTTP)
            .within(1.04),
        Case::new(HTTP, "evenkeel, wrapped", by_wrapped(one))
            .over(RAW_HTTP)
            .within(1.04),
        Case::new(GRPC, RAW_GRPC, by_tonic(servers.grpc[0])),
        Case::new(GRPC, "evenkeel, 1 endpoint", by_channel([servers.grpc[0]]))
            .over(RAW_GRPC)
            .within(1.03),
        Case::new(GRPC, BALANCED_GRPC, by_balance(servers.grpc)).over(RAW_GRPC),
        Case::new(GRPC, "evenkeel, 2 endpoints", by_channel(servers.grpc)).over(BALANCED_GRPC),
    ]
}

impl Case {
    fn new(
        part: &'static str,
        name: &'static str,
        call: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            part,
            name,
            call: Arc::new(call),
            over: None,
            target: None,
        }
    }

    fn over(mut self, name: &'static str) -> Self {
        self.over = Some(name);
        self
    }

    fn within(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }
}

fn plain() -> reqwest::Client {
    reqwest::Client::new()
}

fn timed() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3));
    client.build().expect("settings in range")
}

fn by_reqwest(
    client: reqwest::Client,
    server: SocketAddr,
) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let url = format!("http://{server}{PATH}");
    move || answered(client.get(&url).send()).boxed()
}

/// Two clients, one for each server: what two endpoints cost without a layer.
fn in_turn(servers: [SocketAddr; 2]) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let clients = servers.map(|server| by_reqwest(plain(), server));
    let turn = AtomicUsize::new(0);
    move || clients[turn.fetch_add(1, Relaxed) % clients.len()]()
}

fn by_client(servers: [SocketAddr; 2]) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let client = Client::builder("http://payments.internal")
        .endpoints(servers)
        .build_reqwest(|_| reqwest::Client::builder())
        .expect("settings in range");
    move || answered(client.get(PATH).send()).boxed()
}

fn by_wrapped(server: SocketAddr) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let client = Client::wrap_reqwest(plain()).build();
    let client = client.expect("settings in range");
    let url = format!("http://{server}{PATH}");
    move || answered(client.get(&url).send()).boxed()
}

async fn answered<E: fmt::Debug>(
    response: impl Future<Output = Result<reqwest::Response, E>> + Send,
) {
    let response = response.await.expect("an answer");
    let body = response.bytes().await.expect("a whole body");
    assert_eq!(body.len(), 23);
}

fn by_tonic(server: SocketAddr) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    by_echo(EchoClient::new(endpoint(server).connect_lazy()))
}

fn by_balance(servers: [SocketAddr; 2]) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let endpoints = servers.map(endpoint).into_iter();
    by_echo(EchoClient::new(transport::Channel::balance_list(endpoints)))
}

fn by_channel<const N: usize>(
    servers: [SocketAddr; N],
) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync {
    let channel = Channel::builder("http://echo.internal")
        .endpoints(servers)
        .build_tonic(Ok);
    by_echo(EchoClient::new(channel.expect("settings in range")))
}

fn endpoint(server: SocketAddr) -> Endpoint {
    let uri = format!("http://{server}");
    Endpoint::from_shared(uri).expect("an address is a URI")
}

fn by_echo<T>(client: EchoClient<T>) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    move || {
        let mut client = client.clone();
        let message = Message {
            text: "hello".to_owned(),
            count: 1,
        };
        async move {
            let reply = client.unary(message).await.expect("an answer");
            assert_eq!(reply.get_ref().count, 1);
        }
        .boxed()
    }
}
