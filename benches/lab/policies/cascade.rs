//! Four callers in a row: each one's server makes a call of its own to answer one.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use evenkeel::{Body, testkit::SeededStack};
use http::{Request, Response};
use http_body_util::Empty;
use tower::{ServiceExt, service_fn};

use super::{
    Policy, Surroundings, ended,
    naive::Turns,
    node::{self, Node},
    ours,
};
use crate::arrivals::Arrival;

/// Callers in a row.
const TIERS: u32 = 4;
/// What each of them tries in all.
const TRIES: u32 = 3;

type Answer = Response<Empty<Bytes>>;
/// Calls what is below, for one root call: whether it went well.
type Below = Arc<dyn Fn(u32) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

pub(crate) struct Cascade {
    around: Surroundings,
    /// The instances of the outermost caller.
    roots: Vec<Below>,
}

impl Cascade {
    pub(crate) fn new(name: &str, around: &Surroundings) -> Self {
        let caller: fn(&Surroundings, u32, Vec<Below>) -> Below = match name {
            "ours" => by_ours,
            "naive3" => by_naive,
            other => panic!("there is no policy {other} here"),
        };
        let servers = around.scenario.servers;
        let mut below: Vec<Below> = (0..servers).map(|server| leaf(around, server)).collect();
        for tier in 0..TIERS {
            let instance = |index| caller(around, tier * servers + index, below.clone());
            below = (0..servers).map(instance).collect();
        }
        Self {
            around: around.clone(),
            roots: below,
        }
    }
}

fn leaf(around: &Surroundings, server: u32) -> Below {
    let world = around.world.clone();
    Arc::new(move |call| {
        let node = Node {
            world: world.clone(),
            server,
        };
        let answer = node.oneshot(node::request(call, Empty::<Bytes>::new()));
        Box::pin(async move {
            answer
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
    })
}

/// An instance with a ready-made stack of its own.
fn by_ours(around: &Surroundings, instance: u32, below: Vec<Below>) -> Below {
    let builder = ours::builder(around, instance).discover(ours::fixed(around.scenario.servers));
    let stack: SeededStack = builder
        .build_over(move |endpoint| {
            let below = Arc::clone(&below[ours::server_of(endpoint) as usize]);
            Ok(service_fn(move |request: Request<Body>| {
                let answer = below(node::call_of(&request));
                async move { Ok::<Answer, Infallible>(status(answer.await)) }
            }))
        })
        .expect("settings in range");
    Arc::new(move |call| {
        let answer = stack.clone().oneshot(node::request(call, Body::empty()));
        Box::pin(async move {
            answer
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
    })
}

fn by_naive(around: &Surroundings, instance: u32, below: Vec<Below>) -> Below {
    let turns = Turns::new(around.seed, instance);
    Arc::new(move |call| {
        let (turns, below) = (turns.clone(), below.clone());
        Box::pin(async move {
            for _ in 0..TRIES {
                let server = turns.take(below.len() as u64);
                if below[server as usize](call).await {
                    return true;
                }
            }
            false
        })
    })
}

fn status(good: bool) -> Answer {
    let mut response = Response::new(Empty::new());
    if !good {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

impl Policy for Cascade {
    fn start(&mut self, arrival: Arrival) {
        let root = arrival.call as usize % self.roots.len();
        let answer = (self.roots[root])(arrival.call);
        let world = self.around.world.clone();
        tokio::spawn(async move {
            ended(&world, arrival.call, answer.await);
        });
    }
}
