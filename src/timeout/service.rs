use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    body::BodyLimit,
    config::Limits,
    future::{AttemptFuture, DeadlineFuture, Terms, Told},
    policy,
};
use crate::{
    call::{self, Call, Deadline, DeadlineHeader, Disposition, Joined},
    clock::{self, LazyTimer},
    dispatch::{Dispatch, Held, polled_after_end},
    error::{BoxError, Error, ErrorKind},
    guarded::Guarded,
};

/// Gives calls of the inner service a deadline: see [`DeadlineLayer`](crate::DeadlineLayer).
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    held: Held<S>,
    deadline: Duration,
    slow_time: Option<Duration>,
    limits: Limits,
}

impl<S> DeadlineService<S> {
    pub(crate) fn new(inner: S, deadline: Duration, limits: Limits) -> Self {
        Self {
            held: Held::new(inner),
            deadline,
            slow_time: policy::slow_time(deadline),
            limits,
        }
    }

    /// Opens or joins the call and tells it its deadline.
    ///
    /// # Errors
    /// If the call's policy is out of range or no time is left; nothing was sent.
    fn admit<B: 'static>(&self, request: &mut Request<B>) -> Result<Joined, Error> {
        let joined = call::join(request, clock::read)?;
        let call = &joined.call;
        let given = call.policy().deadline_given();
        let own = self.deadline;
        let lasting = policy::lasting(own, self.limits.preset);
        call.shorten(given.unwrap_or(own), given.unwrap_or(lasting));
        if let Some(slow_time) = self.slow_time {
            call.set_slow_time(slow_time);
        }
        let now = clock::recent();
        if call.is_over(now) {
            return Err(Error::new(ErrorKind::DeadlineExceeded).with_report(call.report(now)));
        }
        Ok(joined)
    }
}

impl<S, B, RB> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
    RB: Body,
{
    type Response = Response<Guarded<RB, BodyLimit>>;
    type Error = Error;
    type Future = DeadlineFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.held.poll(cx);
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        match self.admit(&mut request) {
            Ok(joined) => {
                let limits = self.limits;
                match self.held.ready(Some(&joined.call)) {
                    Some(inner) => {
                        let dispatch = Dispatch::running(inner.call(request));
                        DeadlineFuture::new(dispatch, joined, limits)
                    }
                    None => DeadlineFuture::parked(&mut self.held, request, joined, limits),
                }
            }
            Err(error) => {
                self.held.release();
                DeadlineFuture::refused(error, self.limits)
            }
        }
    }
}

/// Limits attempts of the inner service: see [`AttemptTimeoutLayer`](crate::AttemptTimeoutLayer).
#[derive(Clone, Debug)]
pub struct AttemptTimeoutService<S> {
    held: Held<S>,
    limit: Option<Duration>,
    header: Option<DeadlineHeader>,
}

impl<S> AttemptTimeoutService<S> {
    pub(crate) const fn new(
        inner: S,
        limit: Option<Duration>,
        header: Option<DeadlineHeader>,
    ) -> Self {
        Self {
            held: Held::new(inner),
            limit,
            header,
        }
    }

    /// What this attempt keeps to; without a call or a policy it is its own affair.
    ///
    /// # Errors
    /// If the call's policy is out of range or no time is left; nothing was sent.
    fn admit<B: 'static>(&self, request: &mut Request<B>) -> Result<Terms, Error> {
        let mut terms = self.terms(request)?;
        if let Some(header) = &self.header {
            let started = *terms.started.get_or_insert_with(clock::recent);
            terms.told = Some(told(&terms, started, header));
            terms.tell(request);
        }
        Ok(terms)
    }

    fn terms<B: 'static>(&self, request: &mut Request<B>) -> Result<Terms, Error> {
        let Some(joined) = call::join_if_any(request, clock::read)? else {
            return Ok(Terms {
                limit: self.limit,
                ..Terms::default()
            });
        };
        let attempt = call::stamp_of(request);
        let started = attempt.map_or_else(clock::recent, |attempt| attempt.started);
        let given = joined.call.policy().attempt_timeout_given();
        let decided = attempt.and_then(|attempt| attempt.limit);
        let terms = Terms {
            call: Some(joined.call),
            _opened: joined.opened,
            retried: attempt.is_some(),
            started: Some(started),
            limit: policy::attempt_limit(given, self.limit, decided),
            told: None,
        };
        match terms.over(started, clock::recent()) {
            Some(kind) => Err(terms.unsent(kind)),
            None => Ok(terms),
        }
    }
}

/// What the other side is told of an attempt.
fn told(terms: &Terms, started: Instant, header: &DeadlineHeader) -> Told {
    let call = terms.call.as_deref();
    let lasting = call.map_or(Deadline::NEVER, Call::lasting_deadline);
    let unary = call.is_some_and(|call| call.policy().is_unary());
    let may_stream = header.is_grpc() && !unary;
    Told {
        header: header.clone(),
        until: policy::told(terms.bound(started), lasting, may_stream),
    }
}

impl<S, B, RB> Service<Request<B>> for AttemptTimeoutService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
{
    type Response = Response<RB>;
    type Error = Error;
    type Future = AttemptFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.held.poll(cx);
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        match self.admit(&mut request) {
            Ok(terms) => match self.held.ready(terms.call.as_deref()) {
                Some(inner) => AttemptFuture::new(Dispatch::running(inner.call(request)), terms),
                None => AttemptFuture::parked(&mut self.held, request, terms),
            },
            Err(error) => {
                self.held.release();
                AttemptFuture::refused(error)
            }
        }
    }
}

pin_project! {
    /// Any future under a deadline: see [`Deadline::run`].
    ///
    /// # Panics
    /// If it is polled again after its end.
    #[derive(Debug)]
    #[must_use = "nothing runs before it is awaited"]
    pub struct Run<F> {
        #[pin]
        future: Option<F>,
        deadline: Deadline,
        begun: bool,
        timer: LazyTimer,
    }
}

impl Deadline {
    /// The instant `length` from now, by the clock of the runtime.
    ///
    /// [`Duration::MAX`] means never.
    #[must_use]
    pub fn from_now(length: Duration) -> Self {
        Self::after(clock::now(), length)
    }

    /// Runs a future until this instant; for what is no service, such as a database call.
    ///
    /// The future is polled first, so that an answer which is ready when time runs out is not lost; on expiry
    /// it is dropped. If the deadline has passed before the first poll, the future is not polled at all and
    /// the error says that nothing was sent.
    ///
    /// # Errors
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded) once the deadline has passed.
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use std::time::Duration;
    /// use evenkeel::Deadline;
    ///
    /// let deadline = Deadline::from_now(Duration::from_millis(20));
    /// assert_eq!(deadline.run(async { 42 }).await.unwrap(), 42);
    /// let error = deadline.run(std::future::pending::<()>()).await.unwrap_err();
    /// assert!(error.is_timeout() && error.may_have_happened());
    /// # });
    /// ```
    pub fn run<F: IntoFuture>(self, future: F) -> Run<F::IntoFuture> {
        Run {
            future: Some(future.into_future()),
            deadline: self,
            begun: false,
            timer: LazyTimer::default(),
        }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if !*this.begun && this.deadline.has_passed(clock::now()) {
            *this.begun = true;
            this.future.set(None);
            return Poll::Ready(Err(Error::new(ErrorKind::DeadlineExceeded)));
        }
        *this.begun = true;
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            polled_after_end();
        };
        if let Poll::Ready(output) = future.poll(cx) {
            this.future.set(None);
            return Poll::Ready(Ok(output));
        }
        ready!(this.timer.poll_until(*this.deadline, cx));
        this.future.set(None);
        let error = Error::new(ErrorKind::DeadlineExceeded);
        Poll::Ready(Err(error.with_disposition(Disposition::Unknown)))
    }
}
