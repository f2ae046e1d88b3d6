//! Readiness, done once for every layer.
//!
//! Our layers always answer `Ready(Ok)`: their `poll_ready` polls the instance they hold with the caller's
//! waker and remembers what it said. `call` uses that very instance if it was ready; else it moves it into
//! the future, leaves a clone behind, and drives its readiness there, where the deadline covers it. A
//! readiness error comes out of the next `call`, since some callers lose one that `poll_ready` returns.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    call::Call,
    error::{BoxError, Error},
};

/// The inner service of a layer and what its readiness was when last asked.
#[derive(Debug)]
pub(crate) struct Held<S> {
    inner: S,
    said: Readiness,
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

    /// The held instance if it was ready, to be called at once; else the request is to be [parked](Self::parked). Tells
    /// the call, if there is one, whether the request waits here or was handed on.
    ///
    /// The layer itself calls, and builds its future where that is returned to: requests and futures are the largest
    /// things there are, and each function that they are handed to moves them once more.
    #[inline(always)]
    pub(crate) fn ready(&mut self, call: Option<&Call>) -> Option<&mut S> {
        if !matches!(self.said, Readiness::Ready) {
            if let Some(call) = call {
                call.holding();
            }
            return None;
        }
        self.said = Readiness::Unknown;
        // Told before the inner service is called: a layer in there that waits says so itself.
        if let Some(call) = call {
            call.handed_on();
        }
        Some(&mut self.inner)
    }

    /// The request waits beside the held instance, of which a clone is left behind; or fails as that did.
    #[cold]
    #[inline(never)]
    pub(crate) fn parked<R>(&mut self, request: R) -> Dispatch<S, R>
    where
        S: Service<R> + Clone,
    {
        if let Readiness::Failed(error) = mem::take(&mut self.said) {
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
    #[inline(always)]
    pub(crate) const fn running(future: S::Future) -> Self {
        Self::Running { future }
    }

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
    const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }
}

impl<S, R> Dispatch<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    /// The service's own future, once there is one; keeps the call, if there is one, told whether the request waits here
    /// or was handed on.
    ///
    /// The layer polls it itself and looks at its answer where that came, since each place that an answer passes
    /// through is one more copy of it.
    #[inline(always)]
    pub(crate) fn poll_running(
        mut self: Pin<&mut Self>,
        call: Option<&Call>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Pin<&mut S::Future>, Error>> {
        if !self.is_running() {
            ready!(self.as_mut().poll_start(call, cx))?;
        }
        match self.project() {
            DispatchProj::Running { future } => Poll::Ready(Ok(future)),
            _ => polled_after_end(),
        }
    }

    #[cold]
    #[inline(never)]
    fn poll_start(
        mut self: Pin<&mut Self>,
        call: Option<&Call>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if !self.is_waiting() {
            return Poll::Ready(Err(self.failed()));
        }
        let Some(call) = call else {
            return self.poll_begin(cx);
        };
        call.handed_on();
        let begun = self.as_mut().poll_begin(cx);
        if self.is_waiting() {
            call.holding();
        }
        begun
    }

    /// Calls the service once it is ready.
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
    fn failed(self: Pin<&mut Self>) -> Error {
        match self.project_replace(Self::Gone) {
            DispatchOwned::Failed { error } => error,
            _ => polled_after_end(),
        }
    }
}

/// For a future that is polled once more after it was ready, as no executor does: to be pending would be to hang.
#[cold]
pub(crate) fn polled_after_end() -> ! {
    panic!("a call was polled after its end")
}

/// An error of the service below.
#[cold]
#[inline(never)]
pub(crate) fn failed(error: impl Into<BoxError>) -> Error {
    Error::from_inner(error)
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
