//! tower's own layers, as a user would put them together today.

use std::{future, sync::Arc, time::Duration};

use http::Response;
use tower::{
    ServiceBuilder,
    retry::{
        Policy, Retry,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    timeout::Timeout,
    util::rng::HasherRng,
};

use super::{TIMEOUT, layered};
use crate::harness::{Case, Request, calls, post};

pub(crate) fn cases() -> Vec<Case> {
    let timeout = layered(
        "tower timeout",
        |upstream| calls(Timeout::new(upstream.client(), TIMEOUT), post(), same),
        [],
        [],
    );
    let retry = layered(
        "tower retry",
        |upstream| calls(Retry::new(Plain, upstream.client()), post(), same),
        [],
        [],
    );
    let budgeted = layered(
        "tower retry + backoff + budget",
        |upstream| calls(Retry::new(Budgeted::new(), upstream.client()), post(), same),
        [],
        [],
    );
    let both = layered(
        "tower retry + backoff + budget + timeout",
        |upstream| {
            let service = ServiceBuilder::new()
                .retry(Budgeted::new())
                .timeout(TIMEOUT)
                .service(upstream.client());
            calls(service, post(), same)
        },
        [],
        [],
    );
    [timeout, retry, budgeted, both]
        .into_iter()
        .flatten()
        .collect()
}

fn same<T>(body: T) -> T {
    body
}

/// Three attempts at once.
#[derive(Clone)]
struct Plain;

/// Three attempts, exponential waits, one retry per five calls.
#[derive(Clone)]
struct Budgeted {
    left: u32,
    budget: Arc<TpsBudget>,
    backoff: ExponentialBackoff<HasherRng>,
}

impl Budgeted {
    fn new() -> Self {
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut maker = ExponentialBackoffMaker::new(least, most, 0.5, HasherRng::default())
            .expect("the waits are in order");
        Self {
            left: 2,
            budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 3, 0.2)),
            backoff: maker.make_backoff(),
        }
    }
}

fn failed<RB, E>(result: &Result<Response<RB>, E>) -> bool {
    match result {
        Ok(response) => response.status().is_server_error(),
        Err(_) => true,
    }
}

impl<B: Clone, RB, E> Policy<Request<B>, Response<RB>, E> for Plain {
    type Future = future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<Self::Future> {
        failed(result).then(|| future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

impl<B: Clone, RB, E> Policy<Request<B>, Response<RB>, E> for Budgeted {
    type Future = <ExponentialBackoff<HasherRng> as Backoff>::Future;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<Self::Future> {
        if !failed(result) {
            self.budget.deposit();
            return None;
        }
        let allowed = self.left > 0 && self.budget.withdraw();
        self.left = self.left.saturating_sub(1);
        allowed.then(|| self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}
