//! The server's side of a deadline: chains of tonic and axum servers over real sockets, and the layer alone.

#[path = "support/echo.rs"]
mod echo;
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
use echo::{
    Message,
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};
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
use support::{
    mock::millis,
    server::{LOOPBACK, RUNTIME},
};
use tokio::{
    net::TcpListener,
    task::AbortHandle,
    time::{Instant, sleep},
};
use tonic::{Code, Status, Streaming, transport::server::TcpIncoming};
use tower::{Layer, Service, ServiceExt, service_fn};

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

// ===== gRPC =====

/// Works for a while, then asks the next server, if there is one.
#[derive(Clone, Default)]
struct Relay {
    work: Duration,
    next: Option<EchoClient<Channel>>,
    /// What each call inherited.
    left: Arc<Mutex<Vec<Option<Duration>>>>,
}

impl Relay {
    fn new(work: Duration, next: Option<SocketAddr>) -> Self {
        let next = next.map(|address| EchoClient::new(channel(address)));
        let left = Arc::default();
        Self { work, next, left }
    }

    async fn relay(&self, message: Message) -> Result<Message, Status> {
        self.left.lock().expect("no panic").push(left());
        sleep(self.work).await;
        match self.next.clone() {
            Some(mut next) => Ok(next.unary(message).await?.into_inner()),
            None => Ok(message),
        }
    }

    fn inherited(&self) -> Vec<Option<Duration>> {
        self.left.lock().expect("no panic").clone()
    }

    fn serve(self) -> Running {
        let (address, listener) = listener();
        let serving = tonic::transport::Server::builder()
            .layer(InboundLayer::new())
            .add_service(EchoServer::new(self))
            .serve_with_incoming(TcpIncoming::from(listener));
        Running::new(address, serving.map(|served| served.expect("serves")))
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Relay {
    type RepeatStream = Replies;
    type ChatStream = Replies;

    async fn unary(
        &self,
        request: tonic::Request<Message>,
    ) -> Result<tonic::Response<Message>, Status> {
        let carried = request.extensions().get::<InheritedDeadline>();
        assert_eq!(carried, Some(&InheritedDeadline::current()));
        let reply = self.relay(request.into_inner()).await?;
        Ok(tonic::Response::new(reply))
    }

    async fn collect(
        &self,
        _: tonic::Request<Streaming<Message>>,
    ) -> Result<tonic::Response<Message>, Status> {
        // A task of its own inherits nothing, unless it is handed on.
        let alone = tokio::spawn(async { left() }).await.expect("no panic");
        let handed_on = InheritedDeadline::current().scope(async { left() });
        let handed_on = tokio::spawn(handed_on).await.expect("no panic");
        self.left
            .lock()
            .expect("no panic")
            .extend([alone, handed_on]);
        Ok(tonic::Response::new(Message::default()))
    }

    /// Asks the next server for each message, while the answer streams.
    async fn repeat(
        &self,
        request: tonic::Request<Message>,
    ) -> Result<tonic::Response<Replies>, Status> {
        let (relay, message) = (self.clone(), request.into_inner());
        let messages = stream::repeat(message.clone()).take(message.count as usize);
        let replies = messages.then(move |message| {
            let relay = relay.clone();
            async move { relay.relay(message).await }
        });
        Ok(tonic::Response::new(Box::pin(replies)))
    }

    async fn chat(
        &self,
        request: tonic::Request<Streaming<Message>>,
    ) -> Result<tonic::Response<Replies>, Status> {
        Ok(tonic::Response::new(Box::pin(request.into_inner())))
    }
}

fn channel(address: SocketAddr) -> Channel {
    Channel::builder("http://echo.internal")
        .endpoints([Endpoint::new(address)])
        .deadline(Duration::from_secs(60))
        .build_tonic(Ok)
        .expect("valid")
}

/// A call that may take this long.
fn within(length: Duration, count: u32) -> tonic::Request<Message> {
    let text = "x".to_owned();
    let mut request = tonic::Request::new(Message { text, count });
    let policy = CallPolicy::new().deadline(length);
    request.extensions_mut().insert(policy);
    request
}

#[tokio::test]
async fn each_server_of_a_chain_has_what_the_one_before_it_left() {
    let last = Relay::new(Duration::ZERO, None);
    let c = last.clone().serve();
    let middle = Relay::new(millis(200), Some(c.address));
    let b = middle.clone().serve();
    let mut a = EchoClient::new(channel(b.address));
    a.unary(within(millis(5000), 1)).await.expect("in time");
    let at_b = middle.inherited()[0].expect("a deadline");
    let at_c = last.inherited()[0].expect("a deadline");
    assert!(at_b <= millis(5000), "{at_b:?}");
    assert!(at_c + millis(200) <= at_b, "{at_c:?} after {at_b:?}");
    assert!(at_c > millis(3000), "{at_c:?}");
}

#[tokio::test]
async fn a_call_of_a_server_ends_with_the_call_that_it_serves() {
    let hanging = Relay::new(Duration::from_secs(60), None);
    let c = hanging.clone().serve();
    // Its own client would wait for a minute, and nothing cuts the handler off.
    let next = EchoClient::new(channel(c.address));
    let call = service_fn(move |_: Request<Empty<Bytes>>| {
        let mut next = next.clone();
        async move {
            let started = Instant::now();
            let status = next.unary(Message::default()).await.expect_err("too slow");
            let took = started.elapsed();
            assert!(took < millis(5000), "{took:?}");
            Ok::<_, Infallible>(Response::new(Full::from(status.code().description())))
        }
    });
    let mut request = Request::new(Empty::new());
    let headers = request.headers_mut();
    headers.insert(HEADER, http::HeaderValue::from_static("300"));
    let server = InboundLayer::new().header(header()).layer(call);
    let reply = server.oneshot(request).await.expect("infallible");
    let said = reply.collect().await.expect("a body").to_bytes();
    assert_eq!(said, Code::DeadlineExceeded.description());
    let at_c = hanging.inherited()[0].expect("told");
    assert!(at_c <= millis(300), "{at_c:?}");
}

#[tokio::test]
async fn calls_that_a_server_makes_while_it_streams_inherit_too() {
    let last = Relay::new(Duration::ZERO, None);
    let c = last.clone().serve();
    let b = Relay::new(millis(50), Some(c.address)).serve();
    let mut a = EchoClient::new(channel(b.address));
    let replies = a.repeat(within(millis(5000), 3)).await.expect("a head");
    let replies: Vec<_> = replies.into_inner().collect().await;
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let left = last.inherited();
    assert_eq!(left.len(), 3);
    for pair in left.windows(2) {
        let [before, after] = [pair[0], pair[1]].map(|left| left.expect("told"));
        assert!(after + millis(50) <= before, "{after:?} after {before:?}");
    }
}

#[tokio::test]
async fn a_task_of_its_own_inherits_what_it_is_handed_and_nothing_else() {
    let relay = Relay::default();
    let server = relay.clone().serve();
    let mut echo = EchoClient::new(channel(server.address));
    let mut request = tonic::Request::new(stream::iter([Message::default()]));
    let policy = CallPolicy::new().deadline(millis(5000));
    request.extensions_mut().insert(policy);
    echo.collect(request).await.expect("an answer");
    let [alone, handed_on] = relay.inherited()[..] else {
        panic!("two tasks")
    };
    assert_eq!(alone, None);
    assert!(handed_on.is_some_and(|left| left <= millis(5000)));
}

#[tokio::test]
async fn a_client_without_deadline_leaves_its_servers_without() {
    let relay = Relay::default();
    let server = relay.clone().serve();
    let mut echo = EchoClient::new(channel(server.address));
    echo.unary(within(Duration::MAX, 1))
        .await
        .expect("an answer");
    assert_eq!(relay.inherited(), [None]);
}

#[tokio::test]
async fn a_grpc_call_that_is_over_or_malformed_does_not_reach_the_handler() {
    let relay = Relay::default();
    let server = relay.clone().serve();
    let client = support::tls::client().http2_prior_knowledge();
    let client = client.build().expect("a client");
    for (timeout, code, message) in [
        ("0m", "4", "no time was left"),
        ("1s", "13", "grpc-timeout"),
        ("123456789S", "13", "8 digits"),
    ] {
        let method = "evenkeel.test.v1.Echo/Unary";
        let request = client.post(format!("http://{}/{method}", server.address));
        let request = request.header("content-type", "application/grpc");
        let request = request
            .header("grpc-timeout", timeout)
            .header("te", "trailers");
        let reply = request.send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(reply.headers()["grpc-status"], code, "{timeout}");
        let said = reply.headers()["grpc-message"].to_str().expect("text");
        assert!(said.contains(message), "{said}");
        assert!(reply.bytes().await.expect("a body").is_empty());
    }
    assert!(relay.inherited().is_empty());
}

// ===== HTTP =====

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

fn left_in(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("milliseconds"))
}

/// Answers with the time that was left, in milliseconds.
async fn tell(Extension(inherited): Extension<InheritedDeadline>, headers: HeaderMap) -> String {
    assert_eq!(inherited, InheritedDeadline::current());
    assert!(headers.contains_key(HEADER));
    left().map_or_else(|| "none".to_owned(), |left| left.as_millis().to_string())
}

#[tokio::test]
async fn a_chain_of_http_servers_hands_on_what_is_left_in_a_header_of_choice() {
    let layer = || InboundLayer::new().header(header());
    let c = serve(Router::new().route("/", routing::get(tell)).layer(layer()));
    let next = client(c.address);
    let relay = move || async move {
        let at_b = left().expect("a deadline");
        sleep(millis(200)).await;
        let reply = next.get("/").send().await.expect("an answer");
        let at_c = reply.text().await.expect("text");
        format!("{} {at_c}", at_b.as_millis())
    };
    let b = serve(Router::new().route("/", routing::get(relay)).layer(layer()));
    let call = client(b.address).get("/");
    let call = call.policy(CallPolicy::new().deadline(millis(5000)));
    let reply = call.send().await.expect("an answer");
    let told = reply.text().await.expect("text");
    let (at_b, at_c) = told.split_once(' ').expect("two numbers");
    let (at_b, at_c) = (left_in(at_b), left_in(at_c));
    assert!(at_b <= millis(5000), "{at_b:?}");
    assert!(at_c + millis(199) <= at_b, "{at_c:?} after {at_b:?}");
}

#[tokio::test]
async fn an_http_call_that_is_over_or_malformed_does_not_reach_the_handler() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let count = move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() };
    let router = Router::new().route("/", routing::get(count));
    let server = serve(router.layer(InboundLayer::new().header(header())));
    let client = support::tls::client().build().expect("a client");
    for (left, status, text) in [
        ("0", 504, "no time was left"),
        (
            "1s",
            400,
            "x-timeout-ms is not one whole number of milliseconds",
        ),
        ("", 400, "x-timeout-ms"),
        ("250", 200, "0"),
    ] {
        let request = client.get(format!("http://{}/", server.address));
        let reply = request
            .header(HEADER, left)
            .send()
            .await
            .expect("an answer");
        assert_eq!(reply.status().as_u16(), status, "{left:?}");
        let said = reply.text().await.expect("text");
        assert!(said.contains(text), "{said}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

// ===== the layer alone =====

fn asking(name: &'static str, value: &'static str) -> Request<Empty<Bytes>> {
    let request = Request::get("/").header(name, value);
    request.body(Empty::new()).expect("a request")
}

/// Answers with what is left in its head's extensions, when it was called and when it was polled, and in its body.
fn telling() -> impl Service<
    Request<Empty<Bytes>>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = Infallible>>,
    Error = Infallible,
> + Clone {
    service_fn(|_: Request<Empty<Bytes>>| {
        let called = left();
        async move {
            let told = stream::once(async {
                let text = format!("{:?}", left().is_some());
                Ok(http_body::Frame::data(Bytes::from(text)))
            });
            let mut response = Response::new(StreamBody::new(told));
            response.extensions_mut().insert([called, left()]);
            Ok(response)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_handler_inherits_when_it_is_called_when_it_is_polled_and_in_its_body() {
    let layer = InboundLayer::new().header(header());
    let request = asking(HEADER, "500");
    let reply = layer
        .layer(telling())
        .oneshot(request)
        .await
        .expect("infallible");
    let half = Some(millis(500));
    assert_eq!(reply.extensions().get(), Some(&[half, half]));
    assert_eq!(left(), None, "not left behind");
    let body = Box::pin(reply.into_body())
        .collect()
        .await
        .expect("infallible");
    assert_eq!(body.to_bytes(), "true");
}

#[tokio::test(start_paused = true)]
async fn the_header_of_choice_is_none_unless_set_and_grpcs_means_nothing_elsewhere() {
    for (layer, request) in [
        (InboundLayer::new(), asking(HEADER, "500")),
        (InboundLayer::new(), asking(HEADER, "soon")),
        (
            InboundLayer::new().header(header()),
            asking("grpc-timeout", "1x"),
        ),
    ] {
        let reply = layer
            .layer(telling())
            .oneshot(request)
            .await
            .expect("infallible");
        assert_eq!(reply.extensions().get(), Some(&[None::<Duration>; 2]));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_the_sooner_deadline_holds() {
    for (outer, inner) in [("x-outer", HEADER), (HEADER, "x-outer")] {
        let layer = |name| {
            let header = DeadlineHeader::millis(name).expect("a header name");
            InboundLayer::new().header(header)
        };
        let mut request = asking("x-outer", "700");
        let less = http::HeaderValue::from_static("500");
        request.headers_mut().insert(HEADER, less);
        let service = layer(outer).layer(layer(inner).layer(telling()));
        let reply = service.oneshot(request).await.expect("infallible");
        let half = Some(millis(500));
        assert_eq!(reply.extensions().get(), Some(&[half, half]));
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_the_handler_spends_is_not_left_for_its_calls() {
    let late = service_fn(|_: Request<Empty<Bytes>>| async {
        sleep(millis(600)).await;
        let deadline = InheritedDeadline::current().deadline();
        let error = deadline.run(async { "sent" }).await.expect_err("over");
        Ok::<_, Infallible>(Response::new(Full::from(error.to_string())))
    });
    let layer = InboundLayer::new().header(header());
    let reply = layer.layer(late).oneshot(asking(HEADER, "500")).await;
    let said = reply.expect("infallible").collect().await.expect("a body");
    assert_eq!(said.to_bytes(), "deadline exceeded; it was not sent");
}

#[tokio::test]
async fn a_body_keeps_its_length_and_its_end() {
    let answer = |body: &'static str| {
        let body = Full::<Bytes>::from(body);
        service_fn(move |_: Request<Empty<Bytes>>| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(body)) }
        })
    };
    for (body, over) in [("hello", false), ("", true)] {
        let service = InboundLayer::new().layer(answer(body));
        let reply = service.oneshot(asking("x", "y")).await.expect("infallible");
        let size = http_body::Body::size_hint(reply.body()).exact();
        assert_eq!(size, Some(body.len() as u64));
        assert_eq!(http_body::Body::is_end_stream(reply.body()), over);
    }
}
