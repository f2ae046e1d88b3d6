//! tower's balancers, beside ours.

use std::time::Duration;

use http::Response;
use http_body_util::Full;
use tower::{
    Service, ServiceBuilder,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover},
};

use super::tasks;
use crate::harness::{Batch, Case, Client, Request, Upstream, calls};

const PICKS: &str = "tower's balancers, not shared";
const SHARED: &str = "tower's balancers behind a buffer, shared by tasks of 2 workers";

type Answer = Response<Full<bytes::Bytes>>;

pub(crate) fn picks() -> Vec<Case> {
    let case = |size: usize| {
        [
            Case::new(
                PICKS,
                format!("tower p2c pending requests, N = {size}"),
                move || calls(pending(size), Request::default(), |body| body),
            ),
            Case::new(
                PICKS,
                format!("tower p2c peak EWMA, N = {size}"),
                move || calls(peak(size), Request::default(), |body| body),
            ),
        ]
    };
    [10, 1000].map(case).into_iter().flatten().collect()
}

pub(crate) fn shared() -> Vec<Case> {
    let case = |tasks: u64| {
        Case::new(
            SHARED,
            format!("tower buffer + p2c peak EWMA, N = 10, {tasks} tasks"),
            move || buffered(tasks),
        )
        .shared()
    };
    [1, 64].map(case).into()
}

fn pending(
    size: usize,
) -> impl Service<Request, Response = Answer, Error = tower::BoxError, Future: Send> + Send + 'static
{
    Balance::new(PendingRequestsDiscover::new::<Request>(
        endpoints(size),
        CompleteOnResponse::default(),
    ))
}

fn peak(
    size: usize,
) -> impl Service<Request, Response = Answer, Error = tower::BoxError, Future: Send> + Send + 'static
{
    let (first, decay) = (Duration::from_millis(30), Duration::from_secs(10));
    let load = CompleteOnResponse::default();
    Balance::new(PeakEwmaDiscover::new::<Request>(
        endpoints(size),
        first,
        decay,
        load,
    ))
}

fn endpoints(size: usize) -> ServiceList<Vec<Client>> {
    ServiceList::new::<Request>((0..size).map(|_| Upstream::Ready.client()).collect())
}

fn buffered(tasks: u64) -> Batch {
    // Its worker has to be spawned where the calls are made.
    let workers = tasks::workers();
    let inside = workers.enter();
    let service = ServiceBuilder::new().buffer(1024).service(peak(10));
    drop(inside);
    let mut batch = tasks::batch(service, tasks, bytes::Bytes::new);
    Box::new(move |count| {
        let _alive = &workers;
        batch(count)
    })
}
