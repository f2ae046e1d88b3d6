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
use crate::dispatch::Dispatch;
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
        let answer = match this.joined {
            Some(joined) => ready!(this.dispatch.poll_for(&joined.call, cx)),
            None => ready!(this.dispatch.poll(cx)),
        };
        Poll::Ready(match answer {
            Ok(response) => {
                let settles = |trial: &mut Trial| !trial.answered(&response);
                if this.trial.as_mut().is_some_and(settles) {
                    *this.trial = None;
                }
                Ok(response.map(|body| Guarded::maybe(body, this.trial.take())))
            }
            Err(error) => Err(match this.trial.take() {
                Some(trial) => {
                    let opened = |joined: &Joined| joined.opened.is_some();
                    trial.failed(error, this.joined.as_ref().is_some_and(opened))
                }
                None => error,
            }),
        })
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
