//! One balancer that the tasks of two workers share.

use std::time::Instant;

use evenkeel::{Body, balance::Pick};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};

use super::picks::deadline;
use crate::harness::{Batch, Case, Request, Upstream, balanced};

const PART: &str =
    "shared by tasks of 2 workers: on the wall, per call, an empty request, a deadline included";

pub(crate) fn cases() -> Vec<Case> {
    let case = |size: u32, tasks: u64| {
        let name = format!("balancer, least cost of 5, N = {size}, {tasks} tasks");
        Case::new(PART, name, move || {
            let balancer = balanced(size, Pick::least_cost(), || Upstream::Ready.client());
            batch(deadline().layer(balancer), tasks, Body::empty)
        })
        .shared()
    };
    let small = [1, 2, 8, 64].map(|tasks| case(10, tasks));
    small.into_iter().chain([case(1000, 64)]).collect()
}

pub(crate) fn workers() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build();
    runtime.expect("two threads can be had")
}

/// Calls by so many tasks, each with a clone of the service.
pub(crate) fn batch<S, B>(service: S, tasks: u64, body: fn() -> B) -> Batch
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::fmt::Debug,
    S::Response: Send,
    B: Send + 'static,
{
    let workers = workers();
    Box::new(move |count| {
        let each = count.div_ceil(tasks);
        let some = |mut service: S| async move {
            for _ in 0..each {
                let ready = service.ready().await.expect("the service is ready");
                let answer = ready.call(Request::new(body())).await;
                drop(answer.expect("the call succeeds"));
            }
        };
        let start = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|_| workers.spawn(some(service.clone())))
            .collect();
        workers.block_on(async {
            for task in running {
                task.await.expect("no call panics");
            }
        });
        start.elapsed()
    })
}
