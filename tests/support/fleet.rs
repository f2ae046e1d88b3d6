//! Endpoints that behave as they are told until they are told otherwise.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{BoxError, Endpoint};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use http_body_util::Full;
use tokio::{sync::watch, time::sleep};
use tower::Service;

/// What an endpoint does with every call.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Answer(u16),
    Refuse,
    Reset,
    Hang,
}

/// Whether an endpoint's service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Yes,
    Never,
    Broken,
}

struct Node {
    manner: Manner,
    latency: Duration,
    ready: Ready,
    waiting: Vec<Waker>,
    calls: usize,
    in_flight: usize,
    most_in_flight: usize,
    instances: usize,
    made: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            manner: Manner::Answer(200),
            latency: Duration::ZERO,
            ready: Ready::Yes,
            waiting: Vec::new(),
            calls: 0,
            in_flight: 0,
            most_in_flight: 0,
            instances: 0,
            made: 0,
        }
    }
}

/// Endpoints by their port on 10.0.0.1.
#[derive(Clone, Default)]
pub struct Fleet(Arc<Mutex<HashMap<u16, Node>>>);

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

pub fn endpoints<const N: usize>(ports: [u16; N]) -> Vec<Endpoint> {
    ports.map(|port| Endpoint::new(address(port))).to_vec()
}

impl Fleet {
    fn nodes(&self) -> MutexGuard<'_, HashMap<u16, Node>> {
        self.0.lock().expect("no panic under the lock")
    }

    fn with<R>(&self, port: u16, change: impl FnOnce(&mut Node) -> R) -> R {
        change(self.nodes().entry(port).or_default())
    }

    pub fn set(&self, port: u16, manner: Manner, latency: Duration) {
        self.with(port, |node| (node.manner, node.latency) = (manner, latency));
    }

    pub fn set_ready(&self, port: u16, ready: Ready) {
        let waiting = self.with(port, |node| {
            node.ready = ready;
            std::mem::take(&mut node.waiting)
        });
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn calls(&self, port: u16) -> usize {
        self.with(port, |node| node.calls)
    }

    pub fn forget_calls(&self) {
        self.nodes().values_mut().for_each(|node| node.calls = 0);
    }

    pub fn in_flight(&self, port: u16) -> usize {
        self.with(port, |node| node.in_flight)
    }

    pub fn most_in_flight(&self, port: u16) -> usize {
        self.with(port, |node| node.most_in_flight)
    }

    /// Instances of its service that live.
    pub fn instances(&self, port: u16) -> usize {
        self.with(port, |node| node.instances)
    }

    /// How often its service was made anew.
    pub fn made(&self, port: u16) -> usize {
        self.with(port, |node| node.made)
    }

    /// Makes the service of an endpoint, as a balancer asks for it.
    pub fn make(&self) -> impl Fn(&Endpoint) -> Result<Member, BoxError> + Send + Sync + 'static {
        let fleet = self.clone();
        move |endpoint| {
            let port = endpoint.address().port();
            fleet.with(port, |node| {
                node.made += 1;
                node.instances += 1;
            });
            Ok(Member {
                fleet: fleet.clone(),
                port,
                ready: false,
            })
        }
    }
}

/// The service of one endpoint; answers with its port. As a limiter does, it panics when called before it was ready.
pub struct Member {
    fleet: Fleet,
    port: u16,
    ready: bool,
}

impl Clone for Member {
    fn clone(&self) -> Self {
        self.fleet.with(self.port, |node| node.instances += 1);
        Self {
            fleet: self.fleet.clone(),
            port: self.port,
            ready: false,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.fleet.with(self.port, |node| node.instances -= 1);
    }
}

struct Running(Fleet, u16);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.with(self.1, |node| node.in_flight -= 1);
    }
}

type Answer = Pin<Box<dyn Future<Output = io::Result<Response<Full<Bytes>>>> + Send>>;

impl<B> Service<Request<B>> for Member {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.fleet.with(self.port, |node| {
            if node.ready == Ready::Never {
                node.waiting.push(cx.waker().clone());
            }
            node.ready
        });
        match ready {
            Ready::Never => Poll::Pending,
            Ready::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Ready::Yes => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn call(&mut self, _request: Request<B>) -> Answer {
        assert!(self.ready, "called on an instance that was not ready");
        self.ready = false;
        let (manner, latency) = self.fleet.with(self.port, |node| {
            node.calls += 1;
            node.in_flight += 1;
            node.most_in_flight = node.most_in_flight.max(node.in_flight);
            (node.manner, node.latency)
        });
        let (running, port) = (Running(self.fleet.clone(), self.port), self.port);
        Box::pin(async move {
            let _running = running;
            if !latency.is_zero() {
                sleep(latency).await;
            }
            match manner {
                Manner::Answer(status) => Ok(Response::builder()
                    .status(status)
                    .body(Full::from(port.to_string()))
                    .expect("a status")),
                Manner::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
                Manner::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                Manner::Hang => std::future::pending().await,
            }
        })
    }
}

/// A source of sets that a test changes.
#[derive(Clone)]
pub struct Sets(watch::Sender<Option<Result<Vec<Endpoint>, String>>>);

impl Sets {
    /// Without an answer yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub fn of<const N: usize>(ports: [u16; N]) -> Self {
        let sets = Self::new();
        sets.answer(endpoints(ports));
        sets
    }

    pub fn answer(&self, set: Vec<Endpoint>) {
        self.0.send_replace(Some(Ok(set)));
    }

    pub fn fail(&self, why: &str) {
        self.0.send_replace(Some(Err(why.to_owned())));
    }

    /// How many watches follow it.
    pub fn watches(&self) -> usize {
        self.0.receiver_count()
    }
}

impl evenkeel::Discover for Sets {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        let changes = stream::unfold((self.0.subscribe(), true), |(mut sets, first)| async move {
            if !first {
                sets.changed().await.ok()?;
            }
            let now = sets.borrow_and_update().clone();
            Some((now, (sets, false)))
        });
        let known = changes.filter_map(|set| async move { set });
        known.map(|set| set.map_err(BoxError::from)).boxed()
    }
}
