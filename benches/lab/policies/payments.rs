//! Charges that must happen once: the caller keeps what it has not been told the end of, and sends it again after a
//! restart of its own process.

use std::time::Duration;

use bytes::Bytes;
use evenkeel::{Body, CallPolicy, testkit::SeededStack};
use http::{Method, Request, Response};
use http_body_util::Empty;
use tokio::{task::JoinHandle, time::timeout};
use tower::ServiceExt;

use super::{
    Policy, Surroundings, ended,
    naive::Turns,
    node::{self, Node},
    ours,
};
use crate::{arrivals::Arrival, upstream::nanos};

pub(crate) struct Payments {
    around: Surroundings,
    means: Means,
    /// Calls that may still run.
    running: Vec<(Arrival, JoinHandle<()>)>,
    restarted: bool,
}

/// What the charges are sent with.
enum Means {
    /// The ready-made stacks of all clients, with a key for each order.
    Ours(Vec<SeededStack>),
    /// One server after the other, no key, so many retries.
    Naive(Vec<Turns>, u32),
}

impl Payments {
    pub(crate) fn new(name: &str, around: &Surroundings) -> Self {
        Self {
            means: means(name, around),
            around: around.clone(),
            running: Vec::new(),
            restarted: false,
        }
    }

    fn restarts_at(&self) -> f64 {
        self.around.scenario.client_restarts_s.unwrap_or(f64::MAX)
    }

    /// The process ends, and with it all calls and all that its stacks had learnt.
    fn restart(&mut self) {
        let now = self.around.world.state().now;
        let running = std::mem::take(&mut self.running);
        self.means = match &self.means {
            Means::Ours(_) => means("ours", &self.around),
            Means::Naive(_, retries) => {
                means(if *retries > 0 { "naive3" } else { "naive" }, &self.around)
            }
        };
        for (arrival, task) in running {
            if task.is_finished() {
                continue;
            }
            task.abort();
            // It waits anew, from now on.
            self.around.world.state().call(arrival.call).at = now;
            self.start(Arrival { at: now, ..arrival });
        }
    }
}

fn means(name: &str, around: &Surroundings) -> Means {
    let turns = || {
        (0..around.clients)
            .map(|client| Turns::new(around.seed, client))
            .collect()
    };
    match name {
        "ours" => Means::Ours(
            (0..around.clients)
                .map(|client| stack(around, client))
                .collect(),
        ),
        "naive" => Means::Naive(turns(), 0),
        "naive3" => Means::Naive(turns(), 3),
        other => panic!("there is no policy {other} here"),
    }
}

fn stack(around: &Surroundings, client: u32) -> SeededStack {
    let world = around.world.clone();
    ours::builder(around, client)
        .discover(ours::fixed(around.scenario.servers))
        .build_over(move |endpoint| Ok(node_of(&world, ours::server_of(endpoint))))
        .expect("settings in range")
}

fn node_of(world: &crate::world::World, server: u32) -> Node {
    Node {
        world: world.clone(),
        server,
    }
}

impl Policy for Payments {
    fn start(&mut self, arrival: Arrival) {
        let client = arrival.client as usize;
        let world = self.around.world.clone();
        let call = arrival.call;
        let task = match &self.means {
            Means::Ours(stacks) => {
                let mut request = charge(call, Body::empty());
                // The caller's own, so that it outlives the process.
                let order = CallPolicy::new().idempotency_key(format!("order-{call}"));
                request.extensions_mut().insert(order);
                let answer = stacks[client].clone().oneshot(request);
                tokio::spawn(async move { ended(&world, call, is_good(&answer.await)) })
            }
            Means::Naive(turns, retries) => {
                let (turns, tries) = (turns[client].clone(), retries + 1);
                let servers = u64::from(self.around.scenario.servers);
                let limit = Duration::from_nanos(self.around.scenario.deadline());
                tokio::spawn(async move {
                    let mut good = false;
                    for _ in 0..tries {
                        let node = node_of(&world, turns.take(servers));
                        let answer = node.oneshot(charge(call, Empty::<Bytes>::new()));
                        good = timeout(limit, answer)
                            .await
                            .is_ok_and(|answer| is_good(&answer));
                        if good {
                            break;
                        }
                    }
                    ended(&world, call, good);
                })
            }
        };
        self.running.push((arrival, task));
    }

    fn tick(&mut self) {
        self.running.retain(|(_, task)| !task.is_finished());
        let now = self.around.world.state().now;
        if !self.restarted && now >= nanos(self.restarts_at()) {
            self.restarted = true;
            self.restart();
        }
    }
}

fn charge<B>(call: u32, body: B) -> Request<B> {
    let mut request = node::request(call, body);
    *request.method_mut() = Method::POST;
    request
}

fn is_good<B, E>(answer: &Result<Response<B>, E>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|answer| answer.status().is_success())
}
