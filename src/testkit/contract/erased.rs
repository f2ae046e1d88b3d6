use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tower::Service;

use crate::{call::Body, error::BoxError, testkit::scripted::Scripted};

pub(super) type AnyBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError>>>;
pub(super) type AnyFuture = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, BoxError>>>>;
/// Makes the service under test around a scripted one.
pub(super) type Make = Box<dyn Fn(Scripted) -> Subject + Send + Sync>;
pub(super) type Counters<S> = Vec<(String, Box<dyn Fn(&S) -> usize + Send + Sync>)>;

/// A service under test, whatever its type.
pub(super) struct Subject(Box<dyn Erase>);

trait Erase {
    fn clone_boxed(&self) -> Box<dyn Erase>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn call(&mut self, request: Request<Body>) -> AnyFuture;
    fn counts(&self) -> Vec<(String, usize)>;
}

/// A service and what counts its permits.
struct Known<S> {
    service: S,
    counters: Arc<Counters<S>>,
}

impl Subject {
    pub(super) fn new<S, RB>(service: S, counters: Arc<Counters<S>>) -> Self
    where
        S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: 'static>
            + Clone
            + 'static,
        RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        Self(Box::new(Known { service, counters }))
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    pub(super) fn call(&mut self, request: Request<Body>) -> AnyFuture {
        self.0.call(request)
    }

    /// The layer's own counters that are not at zero.
    pub(super) fn held(&self) -> Option<String> {
        let counts = self.0.counts().into_iter();
        let held = counts.filter(|(_, count)| *count > 0);
        let mut words = held.map(|(name, count)| format!("{name} is {count}"));
        words.next()
    }
}

impl Clone for Subject {
    fn clone(&self) -> Self {
        Self(self.0.clone_boxed())
    }
}

impl<S, RB> Erase for Known<S>
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    fn clone_boxed(&self) -> Box<dyn Erase> {
        let counters = Arc::clone(&self.counters);
        let service = self.service.clone();
        Box::new(Self { service, counters })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> AnyFuture {
        Box::pin(Erased(Box::pin(self.service.call(request))))
    }

    fn counts(&self) -> Vec<(String, usize)> {
        let counters = self.counters.iter();
        counters
            .map(|(name, count)| (name.clone(), count(&self.service)))
            .collect()
    }
}

/// Polls what it holds as often as it is polled: a combinator would panic in its place after the end.
struct Erased<F>(Pin<Box<F>>);

impl<F, RB, E> Future for Erased<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
    RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    type Output = Result<Response<AnyBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let boxed = |body: RB| -> AnyBody { Box::pin(body.map_err(Into::into)) };
        let answer = std::task::ready!(self.0.as_mut().poll(cx));
        Poll::Ready(match answer {
            Ok(response) => Ok(response.map(boxed)),
            Err(error) => Err(error.into()),
        })
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject")
    }
}
