//! One attempt: waits for a set, picks, waits for readiness, calls.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tower::Service;

use super::{
    body::{Attempt, InFlight, Picked},
    error::{Cause, no_endpoints},
};
use crate::{
    clock::{self, LazyTimer},
    dispatch::polled_after_end,
    error::{BoxError, Error},
    guarded::Guarded,
};

/// How many endpoints one attempt goes through that turn out not to work before anything was sent.
const MOST_PICKS: u8 = 8;

pin_project! {
    /// An attempt on one of the balancer's endpoints.
    ///
    /// # Panics
    /// If it is polled again after its end.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        attempt: Option<Attempt<S>>,
        timer: LazyTimer,
        // Boxed, as is what waits for readiness: a call that is served at once carries no room for them.
        changed: Option<Pin<Box<OwnedNotified>>>,
        #[pin]
        state: State<S, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateOwned]
    enum State<S, B, F> {
        /// Looks for an endpoint; without a request only until the next state is set.
        Looking { request: Option<Request<B>> },
        /// Waits for the readiness of an endpoint.
        Parked { parked: Box<Parked<S, B>> },
        /// The endpoint was called; the hold is there until the answer.
        Running { #[pin] future: F, hold: Option<InFlight> },
        Refused { error: Error },
        Gone,
    }
}

/// A call beside the endpoint that is not ready for it.
struct Parked<S, B> {
    request: Request<B>,
    service: S,
    hold: InFlight,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(crate) fn new(attempt: Attempt<S>, request: Request<B>) -> Self {
        let request = Some(request);
        Self::of(Some(attempt), State::Looking { request })
    }

    /// For a call that is over before it began.
    pub(crate) fn refused(error: Error) -> Self {
        Self::of(None, State::Refused { error })
    }

    fn of(attempt: Option<Attempt<S>>, state: State<S, B, S::Future>) -> Self {
        Self {
            attempt,
            timer: LazyTimer::default(),
            changed: None,
            state,
        }
    }
}

/// Where a poll goes on.
enum Step {
    /// The state is another one: look at it.
    Again,
    Pending,
    Failed(Error),
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    RB: Body,
{
    type Output = Result<Response<Guarded<RB, InFlight>>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _scope = clock::enter();
        loop {
            let this = self.as_mut().project();
            let step = match (this.state.project(), this.attempt) {
                (StateProj::Running { future, hold }, Some(attempt)) => {
                    let Some(open) = hold.as_mut() else {
                        polled_after_end();
                    };
                    return Poll::Ready(match ready!(future.poll(cx)) {
                        Ok(response) => {
                            attempt.answered(&response, open);
                            let mut hold = hold.take();
                            Guarded::settle(&response, &mut hold);
                            Ok(Guarded::of(response, hold))
                        }
                        Err(error) => {
                            let error = attempt.failed(Error::from_inner(error), open);
                            *hold = None;
                            Err(error)
                        }
                    });
                }
                (StateProj::Looking { .. }, Some(_)) => self.as_mut().look(cx),
                (StateProj::Parked { .. }, Some(_)) => self.as_mut().wait_for_readiness(cx),
                _ => self.as_mut().give_up(),
            };
            match step {
                Step::Again => {}
                Step::Pending => return Poll::Pending,
                Step::Failed(error) => {
                    self.as_mut().project().state.set(State::Gone);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>> + Clone,
    S::Error: Into<BoxError>,
{
    fn look(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        let this = self.as_mut().project();
        let Some(attempt) = this.attempt else {
            return Step::Pending;
        };
        match attempt.pick() {
            Picked::Endpoint { service, hold } => self.get_ready(service, hold, cx),
            Picked::Refused(error) => Step::Failed(error),
            Picked::Awaited(trouble) => {
                if !attempt
                    .discovery
                    .as_ref()
                    .is_none_or(|discovery| discovery.ensure())
                {
                    let cause = "there is no runtime to discover them in";
                    return Step::Failed(no_endpoints(Cause::new(cause)));
                }
                self.wait(trouble, cx)
            }
        }
    }

    /// Calls the endpoint if it is ready, else another one that is, else waits for the first.
    fn get_ready(
        mut self: Pin<&mut Self>,
        mut service: S,
        mut hold: InFlight,
        cx: &mut Context<'_>,
    ) -> Step {
        for pick in 1.. {
            let Some(attempt) = self.as_mut().project().attempt else {
                break;
            };
            attempt.call.picked(hold.seat().stats.serial);
            let error = match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => return self.run(service, hold),
                Poll::Ready(Err(error)) => Error::from_inner(error).unsent(),
                Poll::Pending => return self.one_more(service, hold, cx),
            };
            let error = attempt.failed(error, &mut hold);
            let next = (pick < MOST_PICKS).then(|| attempt.alternative());
            match next.flatten() {
                Some(next) => (service, hold) = next,
                None => return Step::Failed(error),
            }
        }
        Step::Pending
    }

    /// The first is not ready: calls another one if that is, else waits for the first.
    fn one_more(mut self: Pin<&mut Self>, first: S, hold: InFlight, cx: &mut Context<'_>) -> Step {
        let this = self.as_mut().project();
        if let Some(attempt) = this.attempt
            && let Some((mut other, mut other_hold)) = attempt.alternative()
        {
            match other.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    attempt.call.picked(other_hold.seat().stats.serial);
                    hold.unused(clock::recent());
                    return self.run(other, other_hold);
                }
                Poll::Ready(Err(error)) => {
                    let _ = attempt.failed(Error::from_inner(error).unsent(), &mut other_hold);
                }
                Poll::Pending => other_hold.unused(clock::recent()),
            }
        }
        self.park(first, hold)
    }

    fn park(self: Pin<&mut Self>, service: S, hold: InFlight) -> Step {
        let mut state = self.project().state;
        if let StateProj::Looking { request } = state.as_mut().project()
            && let Some(request) = request.take()
        {
            let parked = Parked {
                request,
                service,
                hold,
            };
            state.set(State::Parked {
                parked: Box::new(parked),
            });
        }
        Step::Again
    }

    /// Calls a service that is ready.
    fn run(self: Pin<&mut Self>, mut service: S, hold: InFlight) -> Step {
        let mut this = self.project();
        let StateProj::Looking { request } = this.state.as_mut().project() else {
            return Step::Pending;
        };
        let Some(request) = request.take() else {
            return Step::Pending;
        };
        this.timer.disarm();
        *this.changed = None;
        if let Some(attempt) = this.attempt {
            if attempt.number > 1 {
                hold.note(clock::recent());
            }
            attempt.call.handed_on();
        }
        let future = service.call(request);
        let hold = Some(hold);
        this.state.set(State::Running { future, hold });
        Step::Again
    }

    fn wait_for_readiness(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        let StateProj::Parked { parked } = self.as_mut().project().state.project() else {
            return Step::Again;
        };
        let ready = parked.service.poll_ready(cx);
        if ready.is_pending() && !parked.hold.is_retired() {
            return self.wait(None, cx);
        }
        // Ready, failed, or gone from the set: the place is free to move.
        let mut this = self.as_mut().project();
        let StateOwned::Parked { parked } = this.state.as_mut().project_replace(State::Gone) else {
            return Step::Again;
        };
        let Parked {
            request,
            service,
            mut hold,
        } = *parked;
        this.state.set(State::Looking {
            request: Some(request),
        });
        let Some(attempt) = this.attempt else {
            return Step::Pending;
        };
        match ready {
            Poll::Ready(Ok(())) => self.run(service, hold),
            Poll::Ready(Err(error)) => {
                let error = attempt.failed(Error::from_inner(error).unsent(), &mut hold);
                match attempt.alternative() {
                    Some((service, hold)) => self.get_ready(service, hold, cx),
                    None => Step::Failed(error),
                }
            }
            Poll::Pending => {
                hold.unused(clock::recent());
                Step::Again
            }
        }
    }

    /// Waits for another set until the call's deadline.
    fn wait(self: Pin<&mut Self>, trouble: Option<Cause>, cx: &mut Context<'_>) -> Step {
        let mut this = self.project();
        let Some(attempt) = this.attempt else {
            return Step::Pending;
        };
        attempt.call.holding();
        let Some(changed) = this.changed else {
            // Registered first and looked again then: a change in between is not missed.
            let changed = Arc::clone(&attempt.hub.changed).notified_owned();
            *this.changed = Some(Box::pin(changed));
            return Step::Again;
        };
        if changed.as_mut().poll(cx).is_ready() {
            *this.changed = None;
            return Step::Again;
        }
        match this.timer.poll_until(attempt.call.deadline(), cx) {
            Poll::Pending => Step::Pending,
            Poll::Ready(()) => {
                // First what waits: it tells the call how far it got.
                this.state.set(State::Gone);
                Step::Failed(attempt.expired(trouble))
            }
        }
    }

    fn give_up(self: Pin<&mut Self>) -> Step {
        match self.project().state.project_replace(State::Gone) {
            StateOwned::Refused { error } => Step::Failed(error),
            _ => polled_after_end(),
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
