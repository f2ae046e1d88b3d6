use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::Service;

use crate::{
    balance::Balancer,
    breaker::Breaker,
    error::{BoxError, Error},
};

/// A balancer below a circuit breaker: once the circuit has opened, what was held against single endpoints is
/// forgotten, since the whole service failed and its first probes must not find half of it left out.
#[derive(Clone)]
pub(crate) struct Reviving<S> {
    balancer: Balancer<S>,
    opened: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
}

impl<S> Reviving<S> {
    pub(crate) fn new(balancer: Balancer<S>, breaker: &Breaker) -> Self {
        let opened = breaker.opened_counter();
        let seen = Arc::new(AtomicU64::new(opened.load(Relaxed)));
        Self {
            balancer,
            opened,
            seen,
        }
    }

    fn has_opened(&self) -> bool {
        let opened = self.opened.load(Relaxed);
        opened != self.seen.load(Relaxed) && self.seen.swap(opened, Relaxed) != opened
    }
}

impl<S, B, RB> Service<Request<B>> for Reviving<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    RB: Body,
    B: 'static,
{
    type Response = <Balancer<S> as Service<Request<B>>>::Response;
    type Error = Error;
    type Future = <Balancer<S> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<B>>::poll_ready(&mut self.balancer, cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.has_opened() {
            self.balancer.clear_ejections();
        }
        self.balancer.call(request)
    }
}
