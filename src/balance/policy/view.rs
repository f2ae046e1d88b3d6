//! How a balancer's endpoints stand, for people.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ejection::Standing,
    set::{Shared, Stats},
    slow_start,
};
use crate::discover::Endpoint;

/// One endpoint as its balancer sees it at the moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its name in reports; the address unless the source gave it another.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Its zone, where known.
    pub zone: Option<Arc<str>>,
    /// Whether calls go there.
    pub state: EndpointState,
    /// Calls that have not ended, the reading of their bodies included.
    pub in_flight: u32,
    /// The latency to expect there; `None` before any call to the set succeeded.
    pub latency: Option<Duration>,
    /// By which factor recent failures make it look more loaded: 1 (none) to 21.
    pub penalty: f32,
}

/// Whether calls go to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// It receives its share.
    Ready,
    /// It joined lately and receives a growing share.
    Joining,
    /// Left out because its calls failed.
    Ejected {
        /// When a probe may go there; `None`: never.
        until: Option<Instant>,
    },
    /// Left out, and one call is finding out whether it works again.
    Probing,
    /// Its weight is 0 beside others that have one.
    Unweighted,
    /// Its service could not be made.
    Failed {
        /// Why.
        reason: Arc<str>,
    },
}

/// The status of an endpoint with a service.
pub(crate) fn status(
    shared: &Shared,
    endpoint: &Endpoint,
    stats: &Stats,
    seated: bool,
    now: Instant,
) -> EndpointStatus {
    let tick = shared.tick(now);
    let mean = shared.load.mean();
    let seconds = stats.load.cost(tick, mean, shared.forget);
    let warm = || slow_start::is_warm(&shared.rules.slow_start, stats.joined, now);
    let state = match stats.health.standing() {
        _ if !seated => EndpointState::Unweighted,
        Standing::Out { until } => EndpointState::Ejected {
            until: shared.instant(until),
        },
        Standing::Probing => EndpointState::Probing,
        Standing::In | Standing::Retired if warm() => EndpointState::Ready,
        Standing::In | Standing::Retired => EndpointState::Joining,
    };
    EndpointStatus {
        in_flight: stats.load.in_flight(),
        latency: mean.map(|_| Duration::from_secs_f32(seconds)),
        penalty: stats.load.penalty(tick, shared.forget),
        ..absent(endpoint, state)
    }
}

/// The status of an endpoint without a service.
pub(crate) fn failed(endpoint: &Endpoint, reason: impl ToString) -> EndpointStatus {
    absent(
        endpoint,
        EndpointState::Failed {
            reason: reason.to_string().into(),
        },
    )
}

fn absent(endpoint: &Endpoint, state: EndpointState) -> EndpointStatus {
    EndpointStatus {
        name: Arc::clone(endpoint.name()),
        address: endpoint.address(),
        zone: endpoint.zone().cloned(),
        state,
        in_flight: 0,
        latency: None,
        penalty: 1.0,
    }
}
