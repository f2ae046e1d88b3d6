//! An echo service that each call tells what to do, by its metadata.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
    time::sleep,
};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    echo::{
        Message,
        echo_server::{Echo, EchoServer},
    },
    support::server::LOOPBACK,
};

/// How many calls a server has begun, and has under way.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<(AtomicUsize, AtomicUsize)>);

impl Counts {
    pub(crate) fn begun(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    /// Waits until no call runs any more.
    pub(crate) async fn rest(&self) {
        let limit = Instant::now() + Duration::from_secs(5);
        while self.running() > 0 {
            assert!(Instant::now() < limit, "the server was not told");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn begin(&self) -> Running {
        self.0.0.fetch_add(1, SeqCst);
        self.0.1.fetch_add(1, SeqCst);
        Running(self.clone())
    }
}

struct Running(Counts);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.1.fetch_sub(1, SeqCst);
    }
}

/// A server on a runtime of its own, which can drain, or be gone at once. It stops when dropped.
pub(crate) struct Told {
    address: SocketAddr,
    pub(crate) counts: Counts,
    drain: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Told {
    pub(crate) fn start() -> Self {
        Self::with((LOOPBACK, 0).into(), Server::builder())
    }

    pub(crate) fn with(address: SocketAddr, mut server: Server) -> Self {
        let listener = StdListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Counts::default();
        let service = EchoServer::new(Obedient(counts.clone()));
        let (drain, mut told) = watch::channel(false);
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
            let drained = async move { drop(told.wait_for(|told| *told).await) };
            let router = server.add_service(service);
            router.serve_with_incoming_shutdown(incoming, drained).await
        });
        let runtime = Some(runtime);
        Self {
            address,
            counts,
            drain,
            runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, and ends those that it has.
    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Breaks everything off, and frees the port.
    pub(crate) fn kill(mut self) -> SocketAddr {
        if let Some(runtime) = self.runtime.take() {
            // Waits for its tasks, which a runtime may not do within another.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
        }
        self.address
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Obedient(Counts);

fn number(metadata: &MetadataMap, name: &str) -> Option<u64> {
    metadata.get(name)?.to_str().ok()?.parse().ok()
}

async fn delay(metadata: &MetadataMap) {
    match number(metadata, "x-delay") {
        Some(delay) => sleep(Duration::from_millis(delay)).await,
        None if metadata.contains_key("x-ignore") => std::future::pending().await,
        None => {}
    }
}

/// What was sent in metadata that starts with `x-back`, sent back.
fn answer<T>(metadata: &MetadataMap, body: T) -> Response<T> {
    let mut response = Response::new(body);
    let back = metadata.clone().into_headers();
    let headers: http::HeaderMap = back
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-back"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    *response.metadata_mut() = MetadataMap::from_headers(headers);
    response
}

type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Obedient {
    type RepeatStream = Answers;
    type ChatStream = Answers;

    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let _running = self.0.begin();
        delay(request.metadata()).await;
        let metadata = request.metadata().clone();
        Ok(answer(&metadata, request.into_inner()))
    }

    async fn collect(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Message>, Status> {
        let _running = self.0.begin();
        delay(request.metadata()).await;
        let metadata = request.metadata().clone();
        let mut all = Message::default();
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            all.text.push_str(&message.text);
            all.count += 1;
        }
        Ok(answer(&metadata, all))
    }

    async fn repeat(&self, request: Request<Message>) -> Result<Response<Answers>, Status> {
        let running = self.0.begin();
        let metadata = request.metadata().clone();
        delay(&metadata).await;
        let every = Duration::from_millis(number(&metadata, "x-every").unwrap_or_default());
        let message = request.into_inner();
        let messages = stream::iter(0..message.count).then(move |_| {
            let (message, _) = (message.clone(), &running);
            async move {
                sleep(every).await;
                Ok(message)
            }
        });
        Ok(answer(&metadata, Box::pin(messages)))
    }

    async fn chat(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Answers>, Status> {
        let running = self.0.begin();
        let metadata = request.metadata().clone();
        delay(&metadata).await;
        let messages = request.into_inner().inspect(move |_| {
            let _ = &running;
        });
        Ok(answer(&metadata, Box::pin(messages)))
    }
}
