use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::{body::BodyLimit, config::Limits, policy};
use crate::{
    call::{Call, Deadline, DeadlineHeader, Disposition, Joined, Opened, gave_up},
    clock::{self, LazyTimer},
    dispatch::{Dispatch, Held, failed},
    error::{BoxError, Error, ErrorKind},
    guarded::Guarded,
};

pin_project! {
    /// A call under a deadline.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct DeadlineFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        dispatch: Dispatch<S, R>,
        joined: Option<Joined>,
        limits: Limits,
        timer: LazyTimer,
    }
}

impl<S, R> DeadlineFuture<S, R>
where
    S: Service<R>,
{
    #[inline(always)]
    pub(crate) fn new(dispatch: Dispatch<S, R>, joined: Joined, limits: Limits) -> Self {
        Self {
            dispatch,
            joined: Some(joined),
            limits,
            timer: LazyTimer::default(),
        }
    }

    /// For a call whose inner service is not ready.
    #[cold]
    #[inline(never)]
    pub(crate) fn parked(held: &mut Held<S>, request: R, joined: Joined, limits: Limits) -> Self
    where
        S: Clone,
    {
        Self::new(held.parked(request), joined, limits)
    }

    /// For a call that is over before it began.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(error: Error, limits: Limits) -> Self {
        let dispatch = Dispatch::Failed { error };
        Self {
            dispatch,
            joined: None,
            limits,
            timer: LazyTimer::default(),
        }
    }
}

impl<S, R, RB> Future for DeadlineFuture<S, R>
where
    S: Service<R, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
{
    type Output = Result<Response<Guarded<RB, BodyLimit>>, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        let mut this = self.project();
        let call = this.joined.as_ref().map(|joined| &joined.call);
        match this
            .dispatch
            .as_mut()
            .poll_running(call.map(|call| &**call), cx)
        {
            Poll::Ready(Ok(future)) => {
                let answer = future.poll(cx);
                let mut limit = None;
                if let Poll::Ready(Ok(response)) = &answer {
                    let timer = std::mem::take(this.timer);
                    limit = call.and_then(|call| BodyLimit::new(call, this.limits, timer));
                    Guarded::settle(response, &mut limit);
                }
                match answer {
                    Poll::Ready(Ok(response)) => {
                        return Poll::Ready(Ok(Guarded::of(response, limit)));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(error))),
                    Poll::Pending => {}
                }
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        let Some(call) = call else {
            return Poll::Pending;
        };
        if this.limits.covered && !this.dispatch.is_waiting() {
            return Poll::Pending;
        }
        ready!(this.timer.poll_until(call.deadline(), cx));
        // First what runs below: it tells the call how far it got.
        this.dispatch.set(Dispatch::Gone);
        Poll::Ready(Err(expired(call, ErrorKind::DeadlineExceeded)))
    }
}

/// Tells the story so far, and settles what was cut off, for the case that somebody above tries once more.
pub(crate) fn expired(call: &Call, kind: ErrorKind) -> Error {
    let report = call.report(clock::now());
    call.settle(call.running_disposition());
    Error::new(kind).with_report(report)
}

/// What an attempt keeps to.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// The call it belongs to, if anybody opened one.
    pub(crate) call: Option<Arc<Call>>,
    pub(crate) _opened: Option<Opened>,
    /// A retry above tells the call's story; without it the error has to.
    pub(crate) retried: bool,
    /// Taken at the first wait where nobody read the clock before.
    pub(crate) started: Option<Instant>,
    pub(crate) limit: Option<Duration>,
    pub(crate) told: Option<Told>,
}

/// What the other side knows of the end of an attempt.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) header: DeadlineHeader,
    pub(crate) until: Deadline,
}

impl Terms {
    /// Says how much time is left now, if the other side is to know.
    pub(crate) fn tell<B>(&self, request: &mut Request<B>) {
        let Some(Told { header, until }) = &self.told else {
            return;
        };
        match until.remaining(clock::recent()) {
            Some(left) => header.write(request.headers_mut(), left),
            None => header.clear(request.headers_mut()),
        }
    }

    /// An error of the service below, or the end of the attempt that it only echoes.
    #[cold]
    #[inline(never)]
    fn failed(&self, error: impl Into<BoxError>) -> Error {
        let error = Error::from_inner(error);
        self.echoed(|| error.may_have_happened()).unwrap_or(error)
    }

    /// The end of the attempt, if an answer that says `over` only echoes it.
    fn echoed(&self, over: impl FnOnce() -> bool) -> Option<Error> {
        let (told, started) = self.told.as_ref().zip(self.started)?;
        if !over() {
            return None;
        }
        let bound = self.bound(started);
        policy::is_echo(bound, told.until, clock::recent()).then(|| self.expired(bound.kind, false))
    }

    pub(crate) fn bound(&self, started: Instant) -> policy::Bound {
        let deadline = self
            .call
            .as_ref()
            .map_or(Deadline::NEVER, |call| call.deadline());
        policy::attempt_bound(started, self.limit, deadline)
    }

    /// As what an attempt ends that has no time left at `now`.
    pub(crate) fn over(&self, started: Instant, now: Instant) -> Option<ErrorKind> {
        // Mostly it starts right now: then a limit of its own, which is above zero, is ahead.
        if now == started && !self.call.as_ref().is_some_and(|call| call.is_over(now)) {
            return None;
        }
        let bound = self.bound(started);
        bound.at.has_passed(now).then_some(bound.kind)
    }

    /// The end of an attempt that was not begun.
    pub(crate) fn unsent(&self, kind: ErrorKind) -> Error {
        if let Some(call) = &self.call {
            call.holding();
        }
        self.expired(kind, true)
    }

    fn expired(&self, kind: ErrorKind, waiting: bool) -> Error {
        match &self.call {
            Some(call) if !self.retried => expired(call, kind),
            Some(call) => Error::new(kind).with_disposition(call.running_disposition()),
            None if waiting => Error::new(kind),
            None => Error::new(kind).with_disposition(Disposition::Unknown),
        }
    }
}

pin_project! {
    /// An attempt under its limit.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct AttemptFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        dispatch: Dispatch<S, R>,
        terms: Terms,
        timer: LazyTimer,
    }
}

impl<S, R> AttemptFuture<S, R>
where
    S: Service<R>,
{
    #[inline(always)]
    pub(crate) fn new(dispatch: Dispatch<S, R>, terms: Terms) -> Self {
        Self {
            dispatch,
            terms,
            timer: LazyTimer::default(),
        }
    }

    /// For an attempt whose inner service is not ready.
    #[cold]
    #[inline(never)]
    pub(crate) fn parked(held: &mut Held<S>, request: R, terms: Terms) -> Self
    where
        S: Clone,
    {
        Self::new(held.parked(request), terms)
    }

    /// For an attempt that is over before it began.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(error: Error) -> Self {
        Self::new(Dispatch::Failed { error }, Terms::default())
    }
}

impl<S, B, RB> Future for AttemptFuture<S, Request<B>>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<RB>, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        let mut this = self.project();
        if let Some(request) = this.dispatch.as_mut().held() {
            this.terms.tell(request);
        }
        let call = this.terms.call.as_deref();
        match this.dispatch.as_mut().poll_running(call, cx) {
            Poll::Ready(Ok(future)) => match future.poll(cx) {
                Poll::Ready(answer) => {
                    if let Ok(head) = &answer
                        && let Some(error) =
                            this.terms.echoed(|| gave_up(head.status(), head.headers()))
                    {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Ready(match answer {
                        Ok(response) => Ok(response),
                        Err(error) => Err(this.terms.failed(error)),
                    });
                }
                Poll::Pending => {}
            },
            Poll::Ready(Err(error)) => return Poll::Ready(Err(this.terms.failed(error))),
            Poll::Pending => {}
        }
        let started = *this.terms.started.get_or_insert_with(clock::recent);
        let bound = this.terms.bound(started);
        ready!(this.timer.poll_until(bound.at, cx));
        let waiting = this.dispatch.is_waiting();
        // First what runs below: it tells the call how far it got.
        this.dispatch.set(Dispatch::Gone);
        Poll::Ready(Err(this.terms.expired(bound.kind, waiting)))
    }
}

impl<S, R> fmt::Debug for DeadlineFuture<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture")
            .field("dispatch", &self.dispatch)
            .finish_non_exhaustive()
    }
}

impl<S, R> fmt::Debug for AttemptFuture<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptFuture")
            .field("dispatch", &self.dispatch)
            .finish_non_exhaustive()
    }
}
