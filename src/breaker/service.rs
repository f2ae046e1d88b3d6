use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::body::{Trial, Watched};
use super::future::ResponseFuture;
use super::handle::Breaker;
use crate::call::{self, Attempt, Joined};
use crate::clock;
use crate::dispatch::{Dispatch, Held};
use crate::error::{BoxError, Error};
use crate::guarded::Guarded;

/// Calls the inner service while the circuit lets it: see
/// [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
///
/// Always ready. While the circuit is not closed the inner service is not even asked whether it is,
/// and a probe waits for it inside of its future.
#[derive(Clone, Debug)]
pub struct CircuitBreakerService<S> {
    held: Held<S>,
    watched: Arc<Watched>,
}

impl<S> CircuitBreakerService<S> {
    pub(crate) const fn new(inner: S, watched: Arc<Watched>) -> Self {
        Self {
            held: Held::new(inner),
            watched,
        }
    }

    /// The circuit that this service shares.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.watched.breaker
    }

    /// Asks for the call to be let through.
    ///
    /// # Errors
    /// If the circuit is open or the call's policy is out of range; nothing was sent.
    fn admit<B: 'static>(
        &self,
        request: &mut Request<B>,
    ) -> Result<(Trial, Option<Joined>), Error> {
        let attempt = call::attempt(request);
        let mut trial = Trial::begin(&self.watched, attempt.and_then(|attempt| attempt.limit))?;
        let joined = match self.watched.breaker.asks_for_endpoints() {
            true => call::join(request, clock::read).map(Some),
            false => call::join_if_any(request, clock::read),
        };
        let joined = joined.inspect_err(|_| trial.never_began())?;
        let call = joined.as_ref().map(|joined| &joined.call);
        trial.know(call, self.started(attempt, call.is_some()));
        Ok((trial, joined))
    }

    /// When the attempt began, where anything may depend on how long it runs.
    fn started(&self, attempt: Option<Attempt>, of_a_call: bool) -> Option<Instant> {
        let asked = of_a_call || self.watched.breaker.is_timed();
        attempt
            .map(|attempt| attempt.started)
            .or_else(|| asked.then(clock::recent))
    }
}

impl<S, B, RB> Service<Request<B>> for CircuitBreakerService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
    RB: Body,
{
    type Response = Response<Guarded<RB, Trial>>;
    type Error = Error;
    type Future = ResponseFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.watched.breaker.is_closed() {
            self.held.poll(cx);
        }
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        match self.admit(&mut request) {
            Ok((trial, joined)) => {
                match self.held.ready(joined.as_ref().map(|joined| &*joined.call)) {
                    Some(inner) => {
                        let dispatch = Dispatch::running(inner.call(request));
                        ResponseFuture::new(dispatch, trial, joined)
                    }
                    None => ResponseFuture::parked(&mut self.held, request, trial, joined),
                }
            }
            Err(error) => {
                self.held.release();
                ResponseFuture::refused(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready, sync::Arc};

    use http::{Request, Response, StatusCode};
    use http_body_util::Empty;
    use tower::{Layer, ServiceExt, service_fn};

    use crate::breaker::{Breaker, BreakerConfig, CircuitBreakerLayer, State};
    use crate::call::{EndpointFacts, join};

    /// A service below that fails on this endpoint of so many, as a balancer tells of it.
    async fn fail_on(breaker: &Breaker, serial: u64, set_size: usize) {
        let balancer = service_fn(move |mut request: Request<()>| {
            let joined = join(&mut request, std::time::Instant::now).expect("a valid policy");
            assert!(joined.opened.is_none(), "the breaker opened the call");
            let call = joined.call;
            call.note_endpoint(EndpointFacts {
                serial,
                name: Arc::from("10.0.0.1:80"),
                set_size,
                untried: 0,
                reach: None,
            });
            let mut response = Response::new(Empty::<&'static [u8]>::new());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            ready(Ok::<_, Infallible>(response))
        });
        let service = CircuitBreakerLayer::new(breaker.clone()).layer(balancer);
        service.oneshot(Request::new(())).await.expect("a response");
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_endpoint_of_many_does_not_open_the_circuit_of_the_service() {
        let breaker = BreakerConfig::service_default().build().unwrap();
        for _ in 0..50 {
            fail_on(&breaker, 1, 8).await;
        }
        fail_on(&breaker, 65, 8).await;
        assert_eq!(breaker.state(), State::Closed);
        fail_on(&breaker, 129, 8).await;
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_of_one_endpoint_opens_with_it() {
        let breaker = BreakerConfig::service_default().build().unwrap();
        for _ in 0..5 {
            fail_on(&breaker, 1, 1).await;
        }
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(
            breaker
                .opened_counter()
                .load(std::sync::atomic::Ordering::Relaxed),
            1
        );
    }
}
