//! What is written first: one server after the other, one timeout, perhaps three retries at once.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use tokio::time::timeout;
use tower::Service;

use super::{Policy, Surroundings, ended, node};
use crate::{
    arrivals::Arrival,
    draws::{For, bits},
    upstream::nanos,
};

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<AtomicU64>);

impl Turns {
    pub(crate) fn new(seed: u64, client: u32) -> Self {
        let start = bits(seed, For::Policy, u64::from(client), 0) >> 1;
        Self(Arc::new(AtomicU64::new(start)))
    }

    pub(crate) fn take(&self, servers: u64) -> u32 {
        (self.0.fetch_add(1, Relaxed) % servers) as u32
    }
}

pub(crate) struct Naive {
    around: Arc<Surroundings>,
    retries: u32,
    /// Of each client.
    turns: Vec<Turns>,
}

impl Naive {
    pub(crate) fn new(around: &Surroundings, retries: u32) -> Self {
        Self {
            turns: (0..around.clients)
                .map(|client| Turns::new(around.seed, client))
                .collect(),
            around: Arc::new(around.clone()),
            retries,
        }
    }
}

/// The set is known at once when it changes.
fn servers(around: &Surroundings) -> u64 {
    let now = around.world.state().now;
    let joined = around
        .scenario
        .join
        .iter()
        .filter(|join| nanos(join.at_s) <= now);
    u64::from(around.scenario.servers + joined.map(|join| join.servers).sum::<u32>())
}

impl Policy for Naive {
    fn start(&mut self, arrival: Arrival) {
        let turns = self.turns[arrival.client as usize].clone();
        let around = Arc::clone(&self.around);
        let tries = self.retries + 1;
        tokio::spawn(async move {
            let mut good = false;
            for _ in 0..tries {
                let server = turns.take(servers(&around));
                if attempt(&around, server, arrival.call).await {
                    good = true;
                    break;
                }
            }
            ended(&around.world, arrival.call, good);
        });
    }
}

async fn attempt(around: &Surroundings, server: u32, call: u32) -> bool {
    let world = around.world.clone();
    let mut node = node::Node { world, server };
    let answer = node.call(node::request(call, Empty::<Bytes>::new()));
    let answer = limited(around, answer).await;
    answer.is_some_and(|answer| answer.is_ok_and(|response| response.status().is_success()))
}

/// `None` if it took longer than the caller waits.
async fn limited<F: Future>(around: &Surroundings, future: F) -> Option<F::Output> {
    if !around.scenario.cancel {
        return Some(future.await);
    }
    let limit = Duration::from_nanos(around.scenario.deadline());
    timeout(limit, future).await.ok()
}
