use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::{body::InboundBody, future::InboundFuture, policy};
use crate::{
    call::{DeadlineHeader, InheritedDeadline},
    clock,
};

/// Serves incoming calls under their deadline: see [`InboundLayer`](crate::InboundLayer).
#[derive(Clone, Debug)]
pub struct InboundService<S> {
    inner: S,
    header: Option<DeadlineHeader>,
}

impl<S> InboundService<S> {
    pub(crate) const fn new(inner: S, header: Option<DeadlineHeader>) -> Self {
        Self { inner, header }
    }
}

impl<S, B, RB> Service<Request<B>> for InboundService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
{
    type Response = Response<InboundBody<RB>>;
    type Error = S::Error;
    type Future = InboundFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match policy::deadline(request.headers(), self.header.as_ref(), clock::now()) {
            Ok(deadline) => {
                // Another such layer further out may know of less.
                let outer = InheritedDeadline::current().deadline();
                let inherited = InheritedDeadline::new(deadline.earliest(outer));
                request.extensions_mut().insert(inherited);
                let _entered = inherited.enter();
                InboundFuture::handling(self.inner.call(request), inherited)
            }
            Err(refusal) => {
                // Gives up what readiness may have reserved: the next request may be long in coming.
                self.inner = self.inner.clone();
                InboundFuture::refused(refusal.answer())
            }
        }
    }
}
