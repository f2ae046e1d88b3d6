use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    body::{Calling, Tally},
    policy::{Ending, How, Next},
};
use crate::{
    call::{Call, Deadline, Joined},
    classify::Verdict,
    clock::{self, LazyTimer},
    dispatch::{Dispatch, Held, failed, polled_after_end},
    error::{BoxError, Error},
    guarded::Guarded,
    replay::Replay,
};

pin_project! {
    /// A call and its attempts.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, Request<B>>,
        // None for a call that another retry owns, that never began, or that is over.
        calling: Option<Calling<S, B>>,
        owned: Option<Arc<Call>>,
        timer: LazyTimer,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, R>
    where
        S: Service<R>,
    {
        // An attempt is on its way.
        Attempt { #[pin] dispatch: Dispatch<S, R> },
        // Nothing is held but the copy of the request and a token; `None` waits for nothing.
        BackingOff { until: Option<Deadline> },
    }
}

impl<S: Service<R>, R> State<S, R> {
    const GONE: Self = Self::Attempt {
        dispatch: Dispatch::Gone,
    };
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline(always)]
    fn of(
        dispatch: Dispatch<S, Request<B>>,
        calling: Option<Calling<S, B>>,
        owned: Option<Arc<Call>>,
    ) -> Self {
        Self {
            state: State::Attempt { dispatch },
            calling,
            owned,
            timer: LazyTimer::default(),
        }
    }

    #[inline(always)]
    pub(crate) fn new(dispatch: Dispatch<S, Request<B>>, calling: Calling<S, B>) -> Self {
        Self::of(dispatch, Some(calling), None)
    }

    /// For a call whose inner service is not ready.
    #[cold]
    #[inline(never)]
    pub(crate) fn parked(held: &mut Held<S>, request: Request<B>, calling: Calling<S, B>) -> Self
    where
        S: Clone,
    {
        Self::new(held.parked(request), calling)
    }

    /// For a call that a retry layer above owns.
    #[cold]
    #[inline(never)]
    pub(crate) fn passed_through(held: &mut Held<S>, request: Request<B>, joined: Joined) -> Self
    where
        S: Clone,
    {
        let dispatch = match held.ready(Some(&joined.call)) {
            Some(inner) => Dispatch::running(inner.call(request)),
            None => held.parked(request),
        };
        Self::of(dispatch, None, Some(joined.call))
    }

    /// For a call that is over before it began.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(error: Error) -> Self {
        Self::of(Dispatch::Failed { error }, None, None)
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Replay + 'static,
{
    type Output = Result<Response<Guarded<RB, Tally>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        let mut this = self.project();
        loop {
            let Some(calling) = this.calling.as_mut() else {
                return poll_through(this.state, this.owned.as_deref(), cx);
            };
            let step = match this.state.as_mut().project() {
                StateProj::Attempt { dispatch } => 'ended: {
                    let error = match dispatch.poll_running(Some(calling.call()), cx) {
                        Poll::Ready(Ok(future)) => match future.poll(cx) {
                            Poll::Ready(Ok(response)) => {
                                let verdict = calling.verdict(&response);
                                if calling.attempts.is_plain_success(&verdict) {
                                    let tally = calling.succeeded(&response, &verdict);
                                    *this.calling = None;
                                    return Poll::Ready(Ok(Guarded::of(response, tally)));
                                }
                                break 'ended calling.ended(Ok(response), &verdict);
                            }
                            Poll::Ready(Err(error)) => Some(failed(error)),
                            Poll::Pending => None,
                        },
                        Poll::Ready(Err(error)) => Some(error),
                        Poll::Pending => None,
                    };
                    if error.is_none() {
                        ready!(this.timer.poll_until(calling.own_limit(), cx));
                    }
                    // First what runs below: it tells the call how far it got, and it may hold the rest of a request
                    // body that is to be sent again.
                    this.state.set(State::GONE);
                    calling.failed(error)
                }
                StateProj::BackingOff { until } => {
                    if let Some(until) = *until {
                        ready!(this.timer.poll_until(until, cx));
                    }
                    match calling.again() {
                        Ok(dispatch) => {
                            this.state.set(State::Attempt { dispatch });
                            continue;
                        }
                        Err(error) => Step::Return(Err(error)),
                    }
                }
            };
            match step {
                Step::BackOff(until) => this.state.set(State::BackingOff { until }),
                Step::Return(answer) => {
                    // The call is over: the copy of the request goes now, not with the future.
                    *this.calling = None;
                    return Poll::Ready(answer);
                }
            }
        }
    }
}

/// Polls a call that is not retried here.
#[cold]
fn poll_through<S, B, RB>(
    state: Pin<&mut State<S, Request<B>>>,
    call: Option<&Call>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<Guarded<RB, Tally>>, Error>>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    let StateProj::Attempt { dispatch } = state.project() else {
        polled_after_end();
    };
    let answer = ready!(ready!(dispatch.poll_running(call, cx))?.poll(cx));
    Poll::Ready(answer.map(Guarded::unguarded).map_err(failed))
}

/// What follows an attempt.
enum Step<RB> {
    /// This answer is the call's.
    Return(Result<Response<Guarded<RB, Tally>>, Error>),
    BackOff(Option<Deadline>),
}

/// What follows the attempts of a call.
impl<S, B: Replay + 'static> Calling<S, B> {
    fn verdict<RB>(&self, response: &Response<RB>) -> Verdict {
        let classifier = &self.shared.policy.settings().classifier;
        classifier.head(response, clock::wall)
    }

    /// The first attempt did its work; what is left to the end of the body.
    fn succeeded<RB>(&self, response: &Response<RB>, verdict: &Verdict) -> Option<Tally> {
        let policy = &self.shared.policy;
        let credit = policy.credit(Some(response), verdict);
        self.attempts
            .succeeded(policy, verdict, credit, clock::recent);
        Tally::of(policy, response, verdict)
    }

    /// What follows an attempt that failed, or that is cut off where there is no error.
    #[cold]
    #[inline(never)]
    fn failed<RB>(&mut self, error: Option<Error>) -> Step<RB> {
        let Some(error) = error else {
            return Step::Return(Err(self.overdue(clock::now())));
        };
        let verdict = self.shared.policy.settings().classifier.error(&error);
        self.ended(Err(error), &verdict)
    }

    /// Adds this answer to the call's story, of which it may be the end. If it is not, it goes before the wait, and
    /// with it its connection.
    #[cold]
    #[inline(never)]
    fn ended<RB>(&mut self, answer: Result<Response<RB>, Error>, verdict: &Verdict) -> Step<RB> {
        let now = clock::recent();
        let (policy, replayable) = (&self.shared.policy, self.replayable(answer.is_ok()));
        let classifier = &policy.settings().classifier;
        let how = match &answer {
            Ok(response) => How::Answer(response.status(), classifier.answer(response)),
            Err(error) => How::Error(error.kind(), classifier.outcome(error)),
        };
        let ending = Ending {
            how,
            verdict: *verdict,
            credit: policy.credit(answer.as_ref().ok(), verdict),
            replayable,
        };
        let unit = policy.settings().random.unit();
        match self.attempts.ended(policy, &ending, now, unit) {
            Next::Again => Step::BackOff(None),
            Next::AgainAfter(wait) => Step::BackOff(Some(Deadline::after(now, wait))),
            Next::Final => Step::Return(self.with_report(answer, verdict)),
        }
    }

    /// Puts the story into an answer that has one.
    fn with_report<RB>(
        &self,
        answer: Result<Response<RB>, Error>,
        verdict: &Verdict,
    ) -> Result<Response<Guarded<RB, Tally>>, Error> {
        let report = self.attempts.report(clock::recent());
        match answer {
            Ok(mut response) => {
                let tally = Tally::of(&self.shared.policy, &response, verdict);
                response.extensions_mut().insert(report);
                Ok(Guarded::of(response, tally))
            }
            // The classifier may know better than the error that it was not sent.
            Err(error) => Err(error
                .with_disposition(verdict.disposition)
                .with_report(report)),
        }
    }

    /// When to end a running attempt by ourselves.
    fn own_limit(&self) -> Deadline {
        if self.shared.covered {
            return Deadline::NEVER;
        }
        self.attempts.call().deadline()
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
