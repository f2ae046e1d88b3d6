use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    call::Joined,
    clock,
    dispatch::{Dispatch, Held, failed},
    error::{BoxError, Error},
};

pin_project! {
    /// A call with its key.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct KeyFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        dispatch: Dispatch<S, R>,
        joined: Option<Joined>,
    }
}

impl<S, R> KeyFuture<S, R>
where
    S: Service<R>,
{
    #[inline(always)]
    pub(crate) fn new(dispatch: Dispatch<S, R>, joined: Joined) -> Self {
        Self {
            dispatch,
            joined: Some(joined),
        }
    }

    /// For a call whose inner service is not ready.
    #[cold]
    #[inline(never)]
    pub(crate) fn parked(held: &mut Held<S>, request: R, joined: Joined) -> Self
    where
        S: Clone,
    {
        Self::new(held.parked(request), joined)
    }

    /// For a call that cannot be sent.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(error: Error) -> Self {
        Self {
            dispatch: Dispatch::Failed { error },
            joined: None,
        }
    }
}

impl<S, R> Future for KeyFuture<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        let this = self.project();
        let call = this.joined.as_ref().map(|joined| &*joined.call);
        match ready!(this.dispatch.poll_running(call, cx)) {
            Ok(future) => match ready!(future.poll(cx)) {
                Ok(response) => Poll::Ready(Ok(response)),
                Err(error) => Poll::Ready(Err(failed(error))),
            },
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S, R> fmt::Debug for KeyFuture<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFuture")
            .field("dispatch", &self.dispatch)
            .finish_non_exhaustive()
    }
}
