//! Readiness, done once for every layer.
//!
//! Our layers always answer `Ready(Ok)`: their `poll_ready` polls the instance they hold with the caller's
//! waker and remembers what it said. `call` uses that very instance if it was ready; else it moves it into
//! the future, leaves a clone behind, and drives its readiness there, where the deadline covers it. A
//! readiness error comes out of the next `call`, since some callers lose one that `poll_ready` returns.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    call::{Call, Joined},
    error::{BoxError, Error},
};

/// The inner service of a layer and what its readiness was when last asked.
#[derive(Debug)]
pub(crate) struct Held<S> {
    inner: S,
    said: Readiness,
}

/// What a layer knows of a request that may belong to a call.
pub(crate) trait OfCall {
    fn call(&self) -> Option<&Call>;
}

impl OfCall for Joined {
    fn call(&self) -> Option<&Call> {
        Some(&self.call)
    }
}

impl OfCall for Option<Joined> {
    fn call(&self) -> Option<&Call> {
        self.as_ref().map(|joined| &*joined.call)
    }
}

#[derive(Debug, Default)]
enum Readiness {
    /// Not asked since the last call.
    #[default]
    Unknown,
    Pending,
    Ready,
    Failed(Error),
}

impl<S: Clone> Clone for Held<S> {
    /// A clone has not been polled: nothing is remembered for it.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<S> Held<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self {
            inner,
            said: Readiness::Unknown,
        }
    }

    /// Asks the held instance for readiness and remembers a good or a bad answer for the next `call`.
    pub(crate) fn poll<R>(&mut self, cx: &mut Context<'_>)
    where
        S: Service<R>,
        S::Error: Into<BoxError>,
    {
        if matches!(self.said, Readiness::Unknown | Readiness::Pending) {
            self.said = match self.inner.poll_ready(cx) {
                Poll::Ready(Ok(())) => Readiness::Ready,
                Poll::Ready(Err(error)) => Readiness::Failed(not_sent(error)),
                Poll::Pending => Readiness::Pending,
            };
        }
    }

    /// Calls the held instance if it was ready, else moves it into the future and leaves a clone behind; tells the call,
    /// if there is one, whether the request waits here or was handed on.
    ///
    /// `future` is what the layer makes of it; handed in, so that each outcome is put into its place at once and not
    /// first into one that fits all of them: these are the largest things there are.
    #[inline(always)]
    pub(crate) fn call_for<R, C, F>(
        &mut self,
        request: R,
        context: C,
        future: impl FnOnce(Dispatch<S, R>, C) -> F,
    ) -> F
    where
        S: Service<R> + Clone,
        C: OfCall,
    {
        match mem::take(&mut self.said) {
            Readiness::Ready => {
                // Told before the inner service is called: a layer in there that waits says so itself.
                if let Some(call) = context.call() {
                    call.handed_on();
                }
                let running = self.inner.call(request);
                future(Dispatch::Running { future: running }, context)
            }
            said => {
                if let Some(call) = context.call() {
                    call.holding();
                }
                let dispatch = self.parked(said, request);
                future(dispatch, context)
            }
        }
    }

    #[cold]
    fn parked<R>(&mut self, said: Readiness, request: R) -> Dispatch<S, R>
    where
        S: Service<R> + Clone,
    {
        if let Readiness::Failed(error) = said {
            return Dispatch::Failed { error };
        }
        let clone = self.inner.clone();
        Dispatch::waiting(mem::replace(&mut self.inner, clone), request)
    }

    /// Gives up what readiness may have reserved, for a call that is refused before the inner service; one
    /// that was not asked is not touched.
    pub(crate) fn release(&mut self)
    where
        S: Clone,
    {
        if !matches!(self.said, Readiness::Unknown) {
            *self = self.clone();
        }
    }
}

pin_project! {
    /// A call on its way: first the service's readiness, then its answer.
    #[project = DispatchProj]
    #[project_replace = DispatchOwned]
    pub(crate) enum Dispatch<S, R>
    where
        S: Service<R>,
    {
        // Boxed, so that calls of a service that is ready do not carry the room for it.
        Waiting { parked: Box<Parked<S, R>> },
        Running { #[pin] future: S::Future },
        Failed { error: Error },
        Gone,
    }
}

/// A request beside the service that is not ready for it.
#[derive(Debug)]
pub(crate) struct Parked<S, R> {
    service: S,
    request: R,
}

impl<S, R> Dispatch<S, R>
where
    S: Service<R>,
{
    /// Waits for this service's readiness, then calls it.
    pub(crate) fn waiting(service: S, request: R) -> Self {
        Self::Waiting {
            parked: Box::new(Parked { service, request }),
        }
    }

    /// The request, as long as it waits for readiness.
    pub(crate) fn held(self: Pin<&mut Self>) -> Option<&mut R> {
        match self.project() {
            DispatchProj::Waiting { parked } => Some(&mut parked.request),
            _ => None,
        }
    }

    /// Whether the service has not been called yet.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }
}

impl<S, R> Dispatch<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    /// Polls, and keeps the call told whether the request waits here or was handed on.
    #[inline(always)]
    pub(crate) fn poll_for(
        mut self: Pin<&mut Self>,
        call: &Call,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, Error>> {
        if self.is_waiting() {
            call.handed_on();
            let begun = self.as_mut().poll_begin(cx);
            if self.is_waiting() {
                call.holding();
            }
            ready!(begun)?;
        }
        self.poll(cx)
    }

    /// Calls the service once it is ready.
    #[cold]
    fn poll_begin(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let DispatchProj::Waiting { parked } = self.as_mut().project() {
            ready!(parked.service.poll_ready(cx)).map_err(not_sent)?;
        }
        if let DispatchOwned::Waiting { parked } = self.as_mut().project_replace(Self::Gone) {
            let mut parked = *parked;
            self.set(Self::Running {
                future: parked.service.call(parked.request),
            });
        }
        Poll::Ready(Ok(()))
    }

    /// What is left where nothing runs.
    #[cold]
    fn failed(self: Pin<&mut Self>) -> Error {
        match self.project_replace(Self::Gone) {
            DispatchOwned::Failed { error } => error,
            _ => polled_after_end(),
        }
    }
}

impl<S, R> Future for Dispatch<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_waiting() {
            ready!(self.as_mut().poll_begin(cx))?;
        }
        match self.as_mut().project() {
            DispatchProj::Running { future } => future.poll(cx).map_err(Error::from_inner),
            _ => Poll::Ready(Err(self.failed())),
        }
    }
}

/// For a future that is polled once more after it was ready, as no executor does: to be pending would be to hang.
#[cold]
pub(crate) fn polled_after_end() -> ! {
    panic!("a call was polled after its end")
}

/// An error of readiness: nothing was sent.
fn not_sent(error: impl Into<BoxError>) -> Error {
    Error::from_inner(error).unsent()
}

impl<S, R> fmt::Debug for Dispatch<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_waiting() {
            "Dispatch::Waiting"
        } else {
            "Dispatch::Running"
        })
    }
}
