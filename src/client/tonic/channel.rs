use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::{body, methods::Methods, status};
use crate::{
    balance::EndpointStatus,
    breaker::Breaker,
    call::{Body, CallPolicy, DeadlineHeader},
    client::view::View,
    discover::Origin,
    dispatch::polled_after_end,
    error::{BoxError, Error, ErrorKind},
    retry::Budget,
};

/// The whole stack behind one type.
type ChannelService = BoxCloneSyncService<Request<Body>, Response<tonic::body::Body>, Error>;

/// A gRPC channel that keeps calls on an even keel: the ready-made stack of all layers over one tonic connection per
/// endpoint. Generated clients take it where they take tonic's own channel.
///
/// A clone is cheap and shares everything. It is always ready: an open breaker, a missing endpoint, a call beyond the
/// limits is the answer of a call. What it answers with is in the [module](crate::tonic).
#[derive(Clone)]
pub struct Channel {
    /// One for all clones, of which each call takes one: a clone of the channel costs a reference count.
    service: Arc<ChannelService>,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) origin: Origin,
    pub(super) methods: Methods,
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
            service: Arc::new(BoxCloneSyncService::new(service.map_result(outcome))),
            shared: Arc::new(shared),
        }
    }

    /// The origin that all calls go to.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The circuit breaker of the origin, to look at, to watch and to force.
    #[must_use]
    pub fn circuit_breaker(&self) -> &Breaker {
        &self.shared.view.breaker
    }

    /// The retry budget of the origin; `None` without one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.shared.view.budget.as_ref()
    }

    /// How each endpoint of the origin stands, those that are left out included with the reason; empty before the
    /// first call where they have to be found.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        (self.shared.view.endpoints)()
    }

    /// Adds what is said of the method to what the call says; that may be in its `grpc-timeout`, too.
    fn with_policy<B>(&self, mut request: Request<B>) -> Request<B> {
        if let Some(method) = self.shared.methods.of(request.uri().path()) {
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
}

/// The outcome of the stack as generated clients understand it.
fn outcome<B>(answer: Result<Response<B>, Error>) -> Result<Response<tonic::body::Body>, Error>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut foreign = false;
    let response = answer.map(|mut response| {
        status::sane(response.headers_mut());
        foreign = status::stand_in(&mut response);
        response
    });
    let response = response.and_then(status::answered).map_err(status::told)?;
    Ok(response.map(|body| match foreign {
        true => tonic::body::Body::empty(),
        false => incoming(body),
    }))
}

fn incoming<B>(body: B) -> tonic::body::Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let body = body.map_err(|error| status::told_of_body(error.into()));
    tonic::body::Body::new(body.map_frame(|mut frame| {
        frame.trailers_mut().into_iter().for_each(status::sane);
        frame
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
            state: State::Beginning {
                request: Some(self.with_policy(request)),
                service: ChannelService::clone(&self.service),
            },
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("origin", &self.shared.origin.to_string())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`Channel`] on its way.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Beginning { request: Option<Request<tonic::body::Body>>, service: ChannelService },
        Running { #[pin] answer: <ChannelService as Service<Request<Body>>>::Future },
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<tonic::body::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { answer } => return answer.poll(cx),
                StateProj::Beginning { request, service } => {
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
                    state.set(State::Running { answer });
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
