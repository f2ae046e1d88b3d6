use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::body::Trial;
use crate::call::Joined;
use crate::clock;
use crate::dispatch::{Dispatch, Held, failed};
use crate::error::{BoxError, Error};
use crate::guarded::Guarded;

pin_project! {
    /// A call that the circuit let through, or refused.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct ResponseFuture<S, R>
    where
        S: Service<R>,
    {
        // NOTE: dropped before the trial, so that what runs below has told the call how far it got.
        #[pin]
        dispatch: Dispatch<S, R>,
        // `None`: refused, or answered.
        trial: Option<Trial>,
        joined: Option<Joined>,
    }
}

impl<S, R> ResponseFuture<S, R>
where
    S: Service<R>,
{
    #[inline(always)]
    pub(crate) const fn new(
        dispatch: Dispatch<S, R>,
        trial: Trial,
        joined: Option<Joined>,
    ) -> Self {
        Self {
            dispatch,
            trial: Some(trial),
            joined,
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn parked(
        held: &mut Held<S>,
        request: R,
        trial: Trial,
        joined: Option<Joined>,
    ) -> Self
    where
        S: Clone,
    {
        Self::new(held.parked(request), trial, joined)
    }

    #[cold]
    #[inline(never)]
    pub(crate) const fn refused(error: Error) -> Self {
        Self {
            dispatch: Dispatch::Failed { error },
            trial: None,
            joined: None,
        }
    }
}

impl<S, R, RB> Future for ResponseFuture<S, R>
where
    S: Service<R, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
{
    type Output = Result<Response<Guarded<RB, Trial>>, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        let this = self.project();
        let call = this.joined.as_ref().map(|joined| &*joined.call);
        let error = match ready!(this.dispatch.poll_running(call, cx)) {
            Ok(future) => {
                let answer = ready!(future.poll(cx));
                if let Ok(response) = &answer {
                    let settles = |trial: &mut Trial| !trial.answered(response);
                    if this.trial.as_mut().is_some_and(settles) {
                        *this.trial = None;
                    }
                    Guarded::settle(response, this.trial);
                }
                match answer {
                    Ok(response) => {
                        return Poll::Ready(Ok(Guarded::of(response, this.trial.take())));
                    }
                    Err(error) => failed(error),
                }
            }
            Err(error) => error,
        };
        Poll::Ready(Err(judged(error, this.trial.take(), this.joined.as_ref())))
    }
}

/// Tells the circuit, if it let the call through.
#[cold]
fn judged(error: Error, trial: Option<Trial>, joined: Option<&Joined>) -> Error {
    let opened = |joined: &Joined| joined.opened.is_some();
    match trial {
        Some(trial) => trial.failed(error, joined.is_some_and(opened)),
        None => error,
    }
}

impl<S, R> fmt::Debug for ResponseFuture<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("dispatch", &self.dispatch)
            .field("trial", &self.trial)
            .finish_non_exhaustive()
    }
}
