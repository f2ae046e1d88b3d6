use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    body::{self, Received},
    methods::Methods,
    status,
};
use crate::{
    balance::EndpointStatus,
    breaker::Breaker,
    call::{Body, CallPolicy, DeadlineHeader, InheritedDeadline},
    client::view::View,
    discover::Origin,
    dispatch::polled_after_end,
    error::{BoxError, Error, ErrorKind},
    retry::Budget,
};

/// The answer of a call, behind one type.
type Answer = Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, Error>> + Send>>;

/// The whole stack behind one type.
trait Calls: Send + Sync {
    fn shared(&self) -> &Shared;
    fn call(&self, request: Request<tonic::body::Body>) -> Answer;
}

/// The stack, of which each call takes a clone.
struct Stacked<S> {
    service: S,
    shared: Shared,
}

/// A gRPC channel that keeps calls on an even keel: the ready-made stack of all layers over one tonic connection per
/// endpoint. Generated clients take it where they take tonic's own channel.
///
/// A clone is cheap and shares everything. It is always ready: an open breaker, a missing endpoint, a call beyond the
/// limits is the answer of a call. What it answers with is in the [module](crate::tonic).
#[derive(Clone)]
pub struct Channel {
    /// One for all clones: one more costs a reference count.
    stack: Arc<dyn Calls>,
}

pub(super) struct Shared {
    pub(super) origin: Origin,
    pub(super) methods: Methods,
    /// The application looks at requests on their way: they have to be as it made them.
    pub(super) seen: bool,
    pub(super) view: View,
}

impl Channel {
    /// Puts the edge on a composed stack.
    pub(super) fn over<S, B>(service: S, shared: Shared) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Error>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            stack: Arc::new(Stacked { service, shared }),
        }
    }

    fn shared(&self) -> &Shared {
        self.stack.shared()
    }

    /// The origin that all calls go to.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.shared().origin
    }

    /// The circuit breaker of the origin, to look at, to watch and to force.
    #[must_use]
    pub fn circuit_breaker(&self) -> &Breaker {
        &self.shared().view.breaker
    }

    /// The retry budget of the origin; `None` without one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.shared().view.budget.as_ref()
    }

    /// How each endpoint of the origin stands, those that are left out included with the reason; empty before the
    /// first call where they have to be found.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        (self.shared().view.endpoints)()
    }

    /// Adds what is said of the method to what the call says; that may be in its `grpc-timeout`, too.
    fn with_policy<B>(&self, mut request: Request<B>) -> Request<B> {
        if let Some(method) = self.shared().methods.of(request.uri().path()) {
            let own = request.extensions_mut().remove::<CallPolicy>();
            let own = own.unwrap_or_default();
            let timed = request
                .headers()
                .contains_key(DeadlineHeader::grpc().name());
            let policy = match timed {
                true => own.over(&method.clone().untimed()),
                false => own.over(method),
            };
            request.extensions_mut().insert(policy);
        }
        request
    }

    /// Leaves in the extensions what our layers read: a copy of them is kept for a retry.
    fn without_others<B>(&self, mut request: Request<B>) -> Request<B> {
        if !self.shared().seen {
            let mut given = mem::take(request.extensions_mut());
            let left = request.extensions_mut();
            given
                .remove::<CallPolicy>()
                .map(|policy| left.insert(policy));
            let inherited = given.remove::<InheritedDeadline>();
            inherited.map(|inherited| left.insert(inherited));
        }
        request
    }
}

impl<S, B> Calls for Stacked<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn call(&self, request: Request<tonic::body::Body>) -> Answer {
        Box::pin(Calling::Beginning {
            request: Some(request),
            service: self.service.clone(),
        })
    }
}

/// The outcome of the stack as generated clients understand it.
fn outcome<B>(answer: Result<Response<B>, Error>) -> Result<Response<tonic::body::Body>, Error>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut response = answer.map_err(status::told)?;
    status::sane(response.headers_mut());
    let foreign = status::stand_in(&mut response);
    if let Some(error) = status::answered(&response) {
        return Err(status::told(error));
    }
    Ok(response.map(|body| match foreign {
        true => tonic::body::Body::empty(),
        false => Received::boxed(body),
    }))
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<tonic::body::Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> ResponseFuture {
        ResponseFuture {
            answer: self
                .stack
                .call(self.without_others(self.with_policy(request))),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("origin", &self.shared().origin.to_string())
            .finish_non_exhaustive()
    }
}

/// The answer of a [`Channel`] on its way.
///
/// # Panics
/// If it is polled again after its end.
pub struct ResponseFuture {
    answer: Answer,
}

impl Future for ResponseFuture {
    type Output = Result<Response<tonic::body::Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx)
    }
}

pin_project! {
    #[project = CallingProj]
    enum Calling<S>
    where
        S: Service<Request<Body>>,
    {
        Beginning { request: Option<Request<tonic::body::Body>>, service: S },
        Running { #[pin] answer: S::Future },
    }
}

impl<S, B> Future for Calling<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<tonic::body::Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                CallingProj::Running { answer } => return answer.poll(cx).map(outcome),
                CallingProj::Beginning { request, service } => {
                    let ready = ready!(service.poll_ready(cx));
                    let Some(request) = request.take() else {
                        polled_after_end();
                    };
                    let (parts, body) = request.into_parts();
                    let begun = ready.and_then(|()| body::peeked(body, cx).map_err(unsendable));
                    let answer = match begun {
                        Ok(body) => service.call(Request::from_parts(parts, body)),
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    self.set(Self::Running { answer });
                }
            }
        }
    }
}

/// The message could not be encoded.
fn unsendable(status: tonic::Status) -> Error {
    Error::new(ErrorKind::InvalidCall).with_source(status)
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
