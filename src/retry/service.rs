use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    body::{Calling, Shared, Tally},
    future::ResponseFuture,
    policy::{Attempts, Ending, How, Next, Replayable, RetryPolicy},
};
use crate::{
    call::{self, Call, CallPolicy, Deadline, Joined, Outcome},
    classify::{Classifier, Credit, Evidence, Verdict},
    clock::{self, LazyTimer},
    dispatch::{Dispatch, Held, polled_after_end},
    error::{BoxError, Error, ErrorKind},
    guarded::Guarded,
    replay::Replay,
};

/// Retries calls of the inner service: see [`RetryLayer`](crate::RetryLayer).
///
/// Always ready; the first attempt uses the instance that was polled ready, later ones a clone of the
/// pristine service, polled ready inside the future.
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    held: Held<S>,
    shared: Arc<Shared<S>>,
}

impl<S: Clone> RetryService<S> {
    pub(crate) fn new(inner: S, policy: RetryPolicy, covered: bool) -> Self {
        let shared = Shared {
            policy,
            pristine: inner.clone(),
            covered,
        };
        Self {
            held: Held::new(inner),
            shared: Arc::new(shared),
        }
    }
}

impl<S, B, RB> Service<Request<B>> for RetryService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: Replay + 'static,
{
    type Response = Response<Guarded<RB, Tally>>;
    type Error = Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.held.poll(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        let joined = match call::join(&mut request, clock::read) {
            Ok(joined) => joined,
            Err(error) => {
                self.held.release();
                return ResponseFuture::refused(error);
            }
        };
        if !joined.call.claim_retry() {
            return ResponseFuture::passed_through(&mut self.held, request, joined);
        }
        let now = clock::recent();
        if joined.call.is_over(now) {
            self.held.release();
            let error = Error::new(ErrorKind::DeadlineExceeded);
            return ResponseFuture::refused(error.with_report(joined.call.report(now)));
        }
        let mut calling = Calling::new(&request, joined, Arc::clone(&self.shared), now);
        if let Some(limit) = calling.to_record() {
            request = calling.record(request, limit);
        }
        calling.stamp(&mut request, now);
        match self.held.ready(Some(calling.call())) {
            Some(inner) => ResponseFuture::new(Dispatch::running(inner.call(request)), calling),
            None => ResponseFuture::parked(&mut self.held, request, calling),
        }
    }
}

/// How [`run`] judges outcomes before [`Run::classify`] says otherwise.
pub type Judge<T, E> = fn(&Result<T, E>) -> Verdict;

/// Runs any operation by a policy, such as a database call: attempts, backoff and budget as for a service.
///
/// `operation` makes one attempt and is told its number, from 1. Every `Err` is retried, since whoever runs an
/// operation so says that repeating it does no harm; [`Run::classify`] knows better. Not retried are rejections
/// of this crate, boxed or not: an open [`Breaker`](crate::Breaker) and a [`Deadline`] that had passed before the
/// attempt began. The last outcome is returned as it is.
///
/// ```
/// # tokio_test::block_on(async {
/// use evenkeel::{Retry, retry};
///
/// let policy = Retry::default().max_attempts(3).build().unwrap();
/// let answer = retry::run(&policy, |attempt| async move {
///     if attempt < 2 { Err("connection reset") } else { Ok(42) }
/// });
/// assert_eq!(answer.await, Ok(42));
/// # });
/// ```
pub fn run<F, A, T, E>(policy: &RetryPolicy, operation: F) -> Run<F, A, Judge<T, E>>
where
    F: FnMut(u32) -> A,
    A: Future<Output = Result<T, E>>,
    E: 'static,
{
    Run {
        policy: policy.clone(),
        operation,
        classify: every_error,
        deadline: Deadline::NEVER,
        state: RunState::Idle,
        attempts: None,
        timer: LazyTimer::default(),
    }
}

fn every_error<T, E: 'static>(outcome: &Result<T, E>) -> Verdict {
    match outcome.as_ref().map_err(ours) {
        Ok(_) => Verdict::SUCCESS,
        Err(Some(error)) if !cut_short(error) => Classifier::default().error(error),
        Err(_) => Evidence::Unknown.verdict(),
    }
}

/// An error of ours, boxed or not.
fn ours<E: 'static>(error: &E) -> Option<&Error> {
    let any: &dyn Any = error;
    any.downcast_ref()
        .or_else(|| any.downcast_ref::<BoxError>()?.downcast_ref())
}

/// A deadline ended an operation that had begun: it may have been the attempt's own.
fn cut_short(error: &Error) -> bool {
    error.kind() == ErrorKind::DeadlineExceeded && error.may_have_happened()
}

pin_project! {
    /// An operation and its attempts: made by [`run`].
    ///
    /// # Panics
    /// If it is polled again after its end.
    #[must_use = "nothing runs before it is awaited"]
    pub struct Run<F, A, C> {
        policy: RetryPolicy,
        operation: F,
        classify: C,
        deadline: Deadline,
        #[pin]
        state: RunState<A>,
        attempts: Option<Attempts>,
        timer: LazyTimer,
    }
}

pin_project! {
    #[project = RunStateProj]
    enum RunState<A> {
        Idle,
        Done,
        Attempt { #[pin] attempt: A },
        BackingOff { until: Deadline },
    }
}

impl<F, A, C> Run<F, A, C> {
    /// How outcomes are judged: an `Ok` may be a failure, and an `Err` final.
    pub fn classify<T, E, D>(self, classify: D) -> Run<F, A, D>
    where
        A: Future<Output = Result<T, E>>,
        D: Fn(&Result<T, E>) -> Verdict,
    {
        Run {
            policy: self.policy,
            operation: self.operation,
            classify,
            deadline: self.deadline,
            state: self.state,
            attempts: self.attempts,
            timer: self.timer,
        }
    }

    /// No attempt but the first begins that could not end by then; the default is never. A running attempt is not cut off:
    /// [`Deadline::run`] does that.
    pub const fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }
}

impl<F, A, C, T, E> Future for Run<F, A, C>
where
    F: FnMut(u32) -> A,
    A: Future<Output = Result<T, E>>,
    C: Fn(&Result<T, E>) -> Verdict,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                RunStateProj::Idle => {}
                RunStateProj::Done => polled_after_end(),
                RunStateProj::BackingOff { until } => ready!(this.timer.poll_until(*until, cx)),
                RunStateProj::Attempt { attempt } => {
                    let outcome = ready!(attempt.poll(cx));
                    let (now, verdict) = (clock::now(), (this.classify)(&outcome));
                    let unit = this.policy.settings().random.unit();
                    let next = this.attempts.as_mut().map_or(Next::Final, |attempts| {
                        let ending = ending(&outcome, verdict);
                        attempts.ended(this.policy, &ending, now, unit)
                    });
                    let until = match next {
                        Next::Final => {
                            this.state.set(RunState::Done);
                            return Poll::Ready(outcome);
                        }
                        Next::Again => Deadline::at(now),
                        Next::AgainAfter(wait) => Deadline::after(now, wait),
                    };
                    this.state.set(RunState::BackingOff { until });
                    continue;
                }
            }
            let now = clock::now();
            let first = || operation_attempts(this.policy, *this.deadline, now);
            let attempts = this.attempts.get_or_insert_with(first);
            let begun = attempts.begin(this.policy, Replayable::Yes, now);
            let attempt = (this.operation)(begun.number);
            attempts.call().handed_on();
            this.state.set(RunState::Attempt { attempt });
        }
    }
}

/// A call of its own for an operation that is no request.
fn operation_attempts(
    policy: &RetryPolicy,
    deadline: Deadline,
    now: std::time::Instant,
) -> Attempts {
    let call = Arc::new(Call::new(CallPolicy::new().idempotent(true), now));
    call.set_deadline(deadline);
    let joined = Joined { call, opened: None };
    Attempts::of(policy, joined, &Method::GET, &HeaderMap::new(), now)
}

fn ending<T, E>(outcome: &Result<T, E>, verdict: Verdict) -> Ending {
    let name = if outcome.is_ok() {
        "bad answer"
    } else {
        "failed"
    };
    Ending {
        how: How::Error(ErrorKind::Upstream, Outcome::Failed(name)),
        verdict,
        credit: Credit::of(&verdict, verdict.class.is_success()),
        replayable: Replayable::Yes,
    }
}

impl<F, A, C> fmt::Debug for Run<F, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("policy", &self.policy)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
