//! A scripted service for tests under paused time.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

/// What the service does with one call: after `delay` a head, an error, or nothing.
#[derive(Clone)]
pub struct Act {
    delay: Duration,
    outcome: Outcome,
    body: Vec<Step>,
    headers: HeaderMap,
}

#[derive(Clone, Copy)]
enum Outcome {
    Status(StatusCode),
    Fail(io::ErrorKind),
    Hang,
}

/// One step of a response body.
#[derive(Clone, Copy)]
pub enum Step {
    Data(&'static str),
    Pause(Duration),
    Fail,
    /// Silent for ever.
    Stall,
    /// Data without end, ready at every poll.
    Flood,
    Trailers(&'static [(&'static str, &'static str)]),
}

impl Act {
    pub fn status(status: u16) -> Self {
        Self::new(Outcome::Status(
            StatusCode::from_u16(status).expect("a status"),
        ))
    }

    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn fail(kind: io::ErrorKind) -> Self {
        Self::new(Outcome::Fail(kind))
    }

    pub fn hang() -> Self {
        Self::new(Outcome::Hang)
    }

    /// A good head of gRPC's that leaves the status to the trailers.
    pub fn grpc(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::ok()
            .header("content-type", "application/grpc")
            .body(steps)
    }

    fn new(outcome: Outcome) -> Self {
        Self {
            delay: Duration::ZERO,
            outcome,
            body: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn body(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.body = steps.into_iter().collect();
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .insert(name, value.parse().expect("a header value"));
        self
    }
}

/// How an instance becomes ready; every clone starts anew.
#[derive(Clone, Copy, Debug)]
pub enum Readiness {
    Always,
    /// Pending for so many polls, waking at once.
    Polls(u32),
    After(Duration),
    Never,
    Fail(io::ErrorKind),
}

/// A call that reached the service.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    script: VecDeque<Act>,
    seen: Vec<Seen>,
    ready_polls: usize,
    instances: usize,
    reserved: usize,
    in_flight: usize,
    dropped: usize,
    bodies: usize,
}

/// The service. As a semaphore limiter does, it panics when called on an instance that was not ready.
pub struct Mock {
    state: Arc<Mutex<State>>,
    readiness: Readiness,
    polls: u32,
    timer: Option<Pin<Box<Sleep>>>,
    ready: bool,
}

impl Mock {
    /// Does this, call by call; what comes after the last is 200 at once.
    pub fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let state = State {
            script: script.into_iter().collect(),
            instances: 1,
            ..State::default()
        };
        Self::of(Arc::new(Mutex::new(state)), Readiness::Always)
    }

    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    fn of(state: Arc<Mutex<State>>, readiness: Readiness) -> Self {
        Self {
            state,
            readiness,
            polls: 0,
            timer: None,
            ready: false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    pub fn calls(&self) -> usize {
        self.state().seen.len()
    }

    pub fn ready_polls(&self) -> usize {
        self.state().ready_polls
    }

    /// Instances that were polled ready and neither called nor dropped.
    pub fn reserved(&self) -> usize {
        self.state().reserved
    }

    /// Calls whose future lives.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// Calls whose future was dropped before its answer.
    pub fn dropped(&self) -> usize {
        self.state().dropped
    }

    /// Response bodies that live.
    pub fn bodies(&self) -> usize {
        self.state().bodies
    }

    /// Instances of the service that live.
    pub fn instances(&self) -> usize {
        self.state().instances
    }
}

impl Clone for Mock {
    fn clone(&self) -> Self {
        self.state().instances += 1;
        Self::of(Arc::clone(&self.state), self.readiness)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let mut state = self.state();
        state.instances -= 1;
        state.reserved -= usize::from(self.ready);
    }
}

impl<B> Service<Request<B>> for Mock {
    type Response = Response<Script>;
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().ready_polls += 1;
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        match self.readiness {
            Readiness::Always => {}
            Readiness::Polls(pending) if self.polls < pending => {
                self.polls += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Readiness::Polls(_) => {}
            Readiness::After(delay) => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(delay)));
                std::task::ready!(timer.as_mut().poll(cx));
            }
            Readiness::Never => return Poll::Pending,
            Readiness::Fail(kind) => return Poll::Ready(Err(kind.into())),
        }
        self.ready = true;
        self.state().reserved += 1;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        assert!(
            self.ready,
            "called on an instance that was not polled ready"
        );
        (self.ready, self.polls, self.timer) = (false, 0, None);
        let mut state = self.state();
        state.reserved -= 1;
        state.in_flight += 1;
        state.seen.push(Seen {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            headers: request.headers().clone(),
            at: Instant::now(),
        });
        let act = state.script.pop_front().unwrap_or_else(Act::ok);
        let timer = (!act.delay.is_zero()).then(|| Box::pin(sleep(act.delay)));
        Answer {
            state: Arc::clone(&self.state),
            act,
            timer,
            done: false,
        }
    }
}

/// The answer of one call.
pub struct Answer {
    state: Arc<Mutex<State>>,
    act: Act,
    timer: Option<Pin<Box<Sleep>>>,
    done: bool,
}

impl Future for Answer {
    type Output = io::Result<Response<Script>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(timer) = self.timer.as_mut() {
            std::task::ready!(timer.as_mut().poll(cx));
        }
        let status = match self.act.outcome {
            Outcome::Hang => return Poll::Pending,
            Outcome::Fail(kind) => {
                self.done = true;
                return Poll::Ready(Err(kind.into()));
            }
            Outcome::Status(status) => status,
        };
        self.done = true;
        let body = Script::new(Arc::clone(&self.state), self.act.body.clone());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = self.act.headers.clone();
        Poll::Ready(Ok(response))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut state = self.state.lock().expect("no panic under the lock");
        state.in_flight -= 1;
        state.dropped += usize::from(!self.done);
    }
}

/// A response body that follows its steps.
pub struct Script {
    state: Arc<Mutex<State>>,
    steps: VecDeque<Step>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Script {
    fn new(state: Arc<Mutex<State>>, steps: Vec<Step>) -> Self {
        state.lock().expect("no panic under the lock").bodies += 1;
        Self {
            state,
            steps: steps.into(),
            timer: None,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.state.lock().expect("no panic under the lock").bodies -= 1;
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let frame = match self.steps.front() {
                None => return Poll::Ready(None),
                Some(Step::Stall) => return Poll::Pending,
                Some(Step::Flood) => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from("flood")))));
                }
                Some(Step::Pause(length)) => {
                    let length = *length;
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(length)));
                    std::task::ready!(timer.as_mut().poll(cx));
                    self.timer = None;
                    None
                }
                Some(Step::Data(data)) => {
                    Some(Ok(Frame::data(Bytes::from_static(data.as_bytes()))))
                }
                Some(Step::Fail) => Some(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Step::Trailers(pairs)) => {
                    let entry = |&(name, value): &(&'static str, &'static str)| {
                        (
                            HeaderName::from_static(name),
                            HeaderValue::from_static(value),
                        )
                    };
                    Some(Ok(Frame::trailers(pairs.iter().map(entry).collect())))
                }
            };
            self.steps.pop_front();
            if let Some(frame) = frame {
                return Poll::Ready(Some(frame));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Counts the polls of a future.
pub struct Counted<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F> Counted<F> {
    pub fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            polls: 0,
        }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.future.as_mut().poll(cx).map(|output| (output, polls))
    }
}

/// Shorthand for milliseconds.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
