//! The connection to one endpoint.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::runtime::{Handle, Id};
use tonic::transport::{self, Endpoint};
use tower::Service;

use super::{
    body::{Incoming, Wanted, outgoing},
    connector::Connector,
    evidence::{is_timeout, witness},
    line::{Line, Waiting},
};
use crate::{
    call::{Body, Disposition},
    classify::Evidence,
    client::DEFAULT_CONNECT_TIMEOUT,
    error::{Error, ErrorKind},
};

/// The connection to one endpoint, opened by the first call in the runtime of that call: tonic's channels live on the
/// runtime that they were made in, so each runtime gets its own.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// The one that was polled ready.
    held: Option<Wired>,
}

struct Shared {
    settings: Endpoint,
    address: SocketAddr,
    channels: ArcSwap<Vec<(Id, Wired)>>,
}

/// A channel of tonic's, and what is heard on it.
#[derive(Clone)]
struct Wired {
    channel: transport::Channel,
    line: Arc<Line>,
}

/// A call was made outside a runtime.
#[derive(Debug, thiserror::Error)]
#[error("a gRPC channel has to be used within a tokio runtime")]
struct NoRuntime;

impl Connection {
    pub(super) fn new(settings: Endpoint, address: SocketAddr) -> Self {
        let shared = Shared {
            settings,
            address,
            channels: ArcSwap::default(),
        };
        Self {
            shared: Arc::new(shared),
            held: None,
        }
    }
}

impl Shared {
    /// The channel of this runtime.
    ///
    /// # Errors
    /// Outside a runtime.
    fn channel(&self) -> Result<Wired, NoRuntime> {
        let runtime = Handle::try_current().or(Err(NoRuntime))?.id();
        if let Some(wired) = self.of(runtime) {
            return Ok(wired);
        }
        let opened = self.open();
        self.channels.rcu(|channels| {
            // Those of runtimes that have ended go with this.
            let mut channels = usable(channels);
            if !channels.iter().any(|(id, _)| *id == runtime) {
                channels.push((runtime, opened.clone()));
            }
            channels
        });
        Ok(self.of(runtime).unwrap_or(opened))
    }

    fn of(&self, runtime: Id) -> Option<Wired> {
        let channels = self.channels.load();
        let mut ours = channels.iter().filter(|(id, _)| *id == runtime);
        let alive = ours.find(|(_, wired)| !wired.line.is_dead());
        alive.map(|(_, wired)| wired.clone())
    }

    /// Forgets the channels whose runtime has ended, whatever its successor is called.
    fn forget_gone(&self) {
        self.channels.rcu(|channels| usable(channels));
    }

    fn open(&self) -> Wired {
        let line = Arc::<Line>::default();
        let connector = Connector::new(&self.settings, self.address, Arc::clone(&line));
        let channel = self.settings.connect_with_connector_lazy(connector);
        Wired { channel, line }
    }

    /// How long a call has to have waited before its end says something about the endpoint.
    fn patience(&self) -> Duration {
        self.settings
            .get_connect_timeout()
            .unwrap_or(DEFAULT_CONNECT_TIMEOUT)
    }
}

/// Those that calls can still be made on.
fn usable(channels: &[(Id, Wired)]) -> Vec<(Id, Wired)> {
    let usable = channels
        .iter()
        .filter(|(_, wired)| !wired.line.is_dead() && !is_gone(&wired.channel));
    usable.cloned().collect()
}

/// Whether the runtime that drives the channel has ended.
fn is_gone(channel: &transport::Channel) -> bool {
    let ready = channel
        .clone()
        .poll_ready(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Err(_)))
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = Attempt;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(held) = &mut self.held {
            match ready!(held.channel.poll_ready(cx)) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(_gone) => self.shared.forget_gone(),
            }
        }
        let unsent = |none| Error::new(ErrorKind::InvalidCall).with_source(none);
        let wired = self.held.insert(self.shared.channel().map_err(unsent)?);
        wired.channel.poll_ready(cx).map_err(witness)
    }

    fn call(&mut self, request: Request<Body>) -> Attempt {
        let (parts, body) = request.into_parts();
        let (body, wanted) = outgoing(body);
        let request = Request::from_parts(parts, body);
        let mut held = self.held.take();
        Attempt {
            answer: held.as_mut().map(|wired| wired.channel.call(request)),
            waiting: held.map(|wired| Waiting::on(wired.line, self.shared.patience())),
            wanted,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.shared.address)
    }
}

pin_project! {
    /// The answer of an endpoint on its way.
    pub(super) struct Attempt {
        #[pin]
        answer: Option<transport::channel::ResponseFuture>,
        waiting: Option<Waiting>,
        wanted: Option<Wanted>,
    }
}

/// tonic has a timer of its own and calls it a cancellation. It is that of `Endpoint::timeout`, or of the
/// `grpc-timeout` header: then it goes off at the end of the attempt, and the layer above knows what that means.
fn failed(error: transport::Error) -> Error {
    if is_timeout(&error) {
        return Error::new(ErrorKind::AttemptTimeout).with_disposition(Disposition::Unknown);
    }
    witness(error)
}

impl Future for Attempt {
    type Output = Result<Response<Incoming>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(answer) = this.answer.as_mut().as_pin_mut() else {
            // Called without having been ready.
            let error = Error::new(ErrorKind::InvalidCall);
            return Poll::Ready(Err(error.with_source(NoRuntime)));
        };
        let answer = ready!(answer.poll(cx));
        if let Some(waiting) = this.waiting
            && !answer.as_ref().is_err_and(|error| is_timeout(error))
        {
            waiting.answered();
        }
        Poll::Ready(match answer {
            Ok(response) => Ok(response.map(|body| Incoming::new(body, this.wanted.take()))),
            Err(error) => match this.wanted.as_mut().and_then(Wanted::failure) {
                Some(own) => Err(Error::witnessed(own, Evidence::BrokenUpload)),
                None => Err(failed(error)),
            },
        })
    }
}
