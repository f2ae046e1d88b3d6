use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::{body::Begun, future::ResponseFuture, policy::Opening};
use crate::{
    call::{self, CallPolicy},
    error::{BoxError, Error},
};

/// Calls the inner service up to the commit point: see [`CommitLayer`](crate::CommitLayer).
///
/// Ready when the inner service is.
#[derive(Clone, Debug)]
pub struct CommitService<S> {
    inner: S,
}

impl<S> CommitService<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, RB> Service<Request<B>> for CommitService<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    B: 'static,
    RB: Body + Unpin,
    RB::Error: Into<BoxError>,
{
    type Response = Response<Begun<RB>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let unsent = |error| Error::from_inner(error).unsent();
        self.inner.poll_ready(cx).map_err(unsent)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = call::find(&request).cloned();
        let policy = match &call {
            Some(call) => Some(call.policy()),
            None => request.extensions().get(),
        };
        let unary = policy.is_some_and(CallPolicy::is_unary);
        let opening = Opening::of(request.headers(), unary);
        ResponseFuture::new(self.inner.call(request), opening, call)
    }
}
