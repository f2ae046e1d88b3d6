//! The ready-made stack with its default settings, over one service per server.

use std::{net::SocketAddr, time::Duration};

use evenkeel::{
    Balanced, Body, BoxError, ClientBuilder, Discover, Ejection, Endpoint, Fixed,
    balance::EndpointState,
    classify::{Classifier, Evidence},
    testkit::{SeededStack, seeded},
};
use futures::{StreamExt, stream, stream::BoxStream};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{
    Policy, Surroundings, ended,
    node::{self, ConnectTimeout, Node},
};
use crate::{
    arrivals::Arrival,
    draws::{For, bits},
};

/// The stacks of all clients.
pub(crate) struct Ours {
    around: Surroundings,
    stacks: Vec<SeededStack>,
}

/// What stands in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    All,
    NoEjection,
    /// Neither breaker nor ejection.
    NoBreaker,
}

impl Ours {
    pub(crate) fn new(around: &Surroundings, parts: Parts) -> Self {
        let stack = |client| stack(around, client, parts).expect("settings in range");
        Self {
            stacks: (0..around.clients).map(stack).collect(),
            around: around.clone(),
        }
    }
}

/// The defaults of one client, under the scenario's deadline.
pub(crate) fn builder(around: &Surroundings, client: u32) -> ClientBuilder<Balanced> {
    let seed = bits(around.seed, For::Policy, u64::from(client), 0);
    seeded(seed)
        .deadline(Duration::from_nanos(around.scenario.deadline()))
        .classifier(Classifier::default().evidence(|error| {
            // As the edges of the crate read it from their transports.
            let io = error.downcast_ref::<std::io::Error>()?.get_ref()?;
            io.is::<ConnectTimeout>().then_some(Evidence::NotSent)
        }))
}

fn stack(
    around: &Surroundings,
    client: u32,
    parts: Parts,
) -> Result<SeededStack, evenkeel::InvalidSetting> {
    let world = around.world.clone();
    let builder = builder(around, client);
    let builder = match around.scenario.deadline_aware {
        true => builder.deadline_header(node::DEADLINE.as_str()),
        false => builder,
    };
    let builder = match around.scenario.join.is_empty() {
        true => builder.discover(fixed(around.scenario.servers)),
        false => builder.discover(Joining(around.clone())),
    };
    let builder = match parts {
        Parts::All => builder,
        Parts::NoEjection => builder.ejection(Ejection::off()),
        Parts::NoBreaker => builder.no_circuit_breaker().ejection(Ejection::off()),
    };
    builder.build_over(move |endpoint| {
        Ok(Node {
            world: world.clone(),
            server: server_of(endpoint),
        })
    })
}

pub(crate) fn fixed(servers: u32) -> Fixed {
    Fixed::new((0..servers).map(endpoint))
}

pub(crate) fn server_of(endpoint: &Endpoint) -> u32 {
    u32::from(endpoint.address().port()) - 1
}

fn endpoint(server: u32) -> Endpoint {
    let port = u16::try_from(server + 1).expect("few servers");
    Endpoint::new(SocketAddr::from(([10, 0, 0, 1], port)))
}

/// A registry that tells of servers as they join.
struct Joining(Surroundings);

impl Discover for Joining {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        let scenario = &self.0.scenario;
        let mut known = scenario.servers;
        let mut sets = vec![(0.0, known)];
        for join in &scenario.join {
            known += join.servers;
            sets.push((join.at_s, known));
        }
        let start = tokio::time::Instant::now();
        let begun = self.0.world.state().now;
        stream::iter(sets)
            .then(move |(at, servers)| async move {
                let after = Duration::from_secs_f64(at).saturating_sub(Duration::from_nanos(begun));
                tokio::time::sleep_until(start + after).await;
                Ok((0..servers).map(endpoint).collect())
            })
            .chain(stream::pending())
            .boxed()
    }
}

impl Policy for Ours {
    fn start(&mut self, arrival: Arrival) {
        let stack = self.stacks[arrival.client as usize].clone();
        let world = self.around.world.clone();
        tokio::spawn(async move {
            let answer = stack
                .oneshot(node::request(arrival.call, Body::empty()))
                .await;
            let good = match answer {
                Ok(response) if response.status().is_success() => {
                    response.into_body().collect().await.is_ok()
                }
                _ => false,
            };
            ended(&world, arrival.call, good);
        });
    }

    fn ejected(&self) -> Option<f64> {
        let endpoints = self.stacks.iter().flat_map(SeededStack::endpoints);
        let (mut all, mut out) = (0_u32, 0_u32);
        for endpoint in endpoints {
            all += 1;
            out += u32::from(matches!(endpoint.state, EndpointState::Ejected { .. }));
        }
        Some(f64::from(out) / f64::from(all.max(1)))
    }
}
