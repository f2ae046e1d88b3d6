//! A gRPC server that answers the echo service, or does what its script says.

#![allow(dead_code, unreachable_pub, reason = "each binary uses a part")]

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::echo::{
    Message,
    echo_server::{Echo, EchoServer as EchoService},
};
use super::support::server::{LOOPBACK, RUNTIME};

/// What the server does with one call before, or in place of, its answer.
#[derive(Clone)]
pub enum Act {
    Answer,
    AnswerAfter(Duration),
    Fail(Status),
    /// Sends its messages, then this.
    FailLate(Status),
}

/// A call as the server received it.
#[derive(Clone)]
pub struct Seen {
    pub method: &'static str,
    pub metadata: HeaderMap,
}

/// A running server, on a runtime of its own. It stops when dropped.
pub struct EchoServer {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
    running: AtomicUsize,
    streams: AtomicUsize,
}

impl EchoServer {
    /// Does this with its first calls, in order, and answers the others.
    pub fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let server = Self::at(LOOPBACK);
        server.script(script);
        server
    }

    pub fn at(ip: IpAddr) -> Self {
        let listener = StdListener::bind((ip, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("an open socket");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let service = EchoService::new(Scripted(Arc::clone(&state)));
        let inside = RUNTIME.enter();
        let incoming =
            TcpIncoming::from(TcpListener::from_std(listener).expect("it is nonblocking"));
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming);
        let task = RUNTIME.spawn(serving).abort_handle();
        drop(inside);
        Self {
            address,
            state,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn script(&self, script: impl IntoIterator<Item = Act>) {
        lock(&self.state.script).extend(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    pub fn calls(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// Calls that it has not answered yet.
    pub fn running(&self) -> usize {
        self.state.running.load(Ordering::SeqCst)
    }

    /// Response streams that live.
    pub fn streams(&self) -> usize {
        self.state.streams.load(Ordering::SeqCst)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scripted(Arc<State>);

/// What comes at the end of a response.
type End = Option<Status>;

impl Scripted {
    async fn next<T>(&self, method: &'static str, request: &Request<T>) -> Result<End, Status> {
        lock(&self.0.seen).push(Seen {
            method,
            metadata: request.metadata().clone().into_headers(),
        });
        let _running = Counted::new(&self.0, |state| &state.running);
        let act = lock(&self.0.script).pop_front().unwrap_or(Act::Answer);
        match act {
            Act::Answer => Ok(None),
            Act::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                Ok(None)
            }
            Act::Fail(status) => Err(status),
            Act::FailLate(status) => Ok(Some(status)),
        }
    }

    fn answer(
        &self,
        messages: impl Stream<Item = Result<Message, Status>> + Send + 'static,
        end: End,
    ) -> Response<Answers> {
        let open = Counted::new(&self.0, |state| &state.streams);
        let messages = messages.chain(stream::iter(end.map(Err)));
        Response::new(Box::pin(messages.inspect(move |_| {
            let _ = &open;
        })))
    }
}

/// Counts what lives.
struct Counted {
    state: Arc<State>,
    count: fn(&State) -> &AtomicUsize,
}

impl Counted {
    fn new(state: &Arc<State>, count: fn(&State) -> &AtomicUsize) -> Self {
        count(state).fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(state);
        Self { state, count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.state).fetch_sub(1, Ordering::SeqCst);
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Scripted {
    type RepeatStream = Answers;
    type ChatStream = Answers;

    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        match self.next("Unary", &request).await? {
            Some(status) => Err(status),
            None => Ok(Response::new(request.into_inner())),
        }
    }

    async fn collect(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Message>, Status> {
        if let Some(status) = self.next("Collect", &request).await? {
            return Err(status);
        }
        let mut all = Message::default();
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            all.text.push_str(&message.text);
            all.count += 1;
        }
        Ok(Response::new(all))
    }

    async fn repeat(&self, request: Request<Message>) -> Result<Response<Answers>, Status> {
        let end = self.next("Repeat", &request).await?;
        let message = request.into_inner();
        let times = message.count as usize;
        let messages = stream::iter(std::iter::repeat_n(Ok(message), times));
        Ok(self.answer(messages, end))
    }

    async fn chat(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Answers>, Status> {
        let end = self.next("Chat", &request).await?;
        Ok(self.answer(request.into_inner(), end))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under the lock")
}
