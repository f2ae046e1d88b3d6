//! Clients that all lose their connection at once and come back, each with the scenario's own backoff.

use std::time::Duration;

use evenkeel::{Backoff, Body, Jitter, Random, Retry, RetryLayer, Stack};
use tower::ServiceExt;

use super::{
    Policy, Surroundings, ended,
    node::{self, Node},
};
use crate::{
    arrivals::Arrival,
    draws::{For, bits},
};

pub(crate) struct Herd {
    around: Surroundings,
    jitter: Jitter,
}

impl Herd {
    pub(crate) fn new(name: &str, around: &Surroundings) -> Self {
        Self {
            around: around.clone(),
            jitter: match name {
                "ours" => Jitter::default(),
                "naive" => Jitter::None,
                other => panic!("there is no policy {other} here"),
            },
        }
    }
}

impl Policy for Herd {
    fn start(&mut self, arrival: Arrival) {
        let world = self.around.world.clone();
        let seed = bits(self.around.seed, For::Policy, u64::from(arrival.client), 0);
        let backoff = Backoff::default()
            .initial(Duration::from_millis(100))
            .max(Duration::from_secs(10))
            .jitter(self.jitter);
        let retry = Retry::default()
            .max_attempts(1000)
            .backoff(backoff)
            .without_budget()
            .random(Random::seeded(seed))
            .build()
            .expect("settings in range");
        let node = Node {
            world: world.clone(),
            server: 0,
        };
        let stack = Stack::new().retry(RetryLayer::new(retry)).service(node);
        tokio::spawn(async move {
            let answer = stack
                .oneshot(node::request(arrival.call, Body::empty()))
                .await;
            let good = answer.is_ok_and(|response| response.status().is_success());
            ended(&world, arrival.call, good);
        });
    }
}
