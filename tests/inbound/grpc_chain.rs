//! A chain of gRPC servers.

use super::*;

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
