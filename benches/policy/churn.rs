//! A set that changes: one endpoint of many goes and another one comes.

use std::{net::SocketAddr, time::Instant};

use evenkeel::{
    Body,
    balance::Balancer,
    discover::{Endpoint, from_stream},
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};

use super::picks::deadline;
use crate::harness::{Case, Request, Upstream, address};

const PART: &str =
    "churn: the source answers with its whole set, one endpoint replaced, and a call is made";

pub(crate) fn cases() -> Vec<Case> {
    let case = |size: u32| {
        Case::new(
            PART,
            format!("balancer, one of {size} replaced"),
            move || {
                let mut churn = Churn::new(size);
                Box::new(move |count| {
                    let start = Instant::now();
                    (0..count).for_each(|_| churn.step());
                    start.elapsed()
                })
            },
        )
        .shared()
    };
    [10, 1000].map(case).into()
}

struct Churn<S> {
    runtime: Runtime,
    sets: UnboundedSender<Vec<Endpoint>>,
    set: Vec<Endpoint>,
    next: u32,
    service: S,
}

impl Churn<()> {
    fn new(size: u32) -> Churn<impl Service<Request<Body>, Error = evenkeel::Error>> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let (sets, changes) = unbounded();
        let balancer = Balancer::builder(from_stream(changes))
            .build(|_| Ok(Upstream::Ready.client()))
            .expect("defaults are in range");
        Churn {
            runtime: runtime.expect("a runtime can be had"),
            sets,
            set: (0..size).map(|host| Endpoint::new(address(host))).collect(),
            next: size,
            service: deadline().layer(balancer),
        }
    }
}

impl<S> Churn<S>
where
    S: Service<Request<Body>, Error = evenkeel::Error>,
{
    fn step(&mut self) {
        let place = self.next as usize % self.set.len();
        let new: SocketAddr = address(self.next);
        self.set[place] = Endpoint::new(new);
        self.next = self.next.wrapping_add(1) & 0x00ff_ffff;
        self.sets
            .unbounded_send(self.set.clone())
            .expect("the balancer listens");
        let service = &mut self.service;
        self.runtime.block_on(async {
            // The task that follows the source takes the set before the call picks.
            tokio::task::yield_now().await;
            let ready = service.ready().await.expect("the service is ready");
            let call = ready.call(Request::new(Body::empty()));
            drop(call.await.expect("the call succeeds"));
        });
    }
}
