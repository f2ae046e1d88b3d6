//! Which endpoint an attempt goes to.
//!
//! A [`Balancer`] owns one inner service per endpoint and picks one for each attempt. It is told by a
//! [`Discover`](crate::Discover) source which endpoints there are; one that stays keeps its service and what was
//! measured of it, one that is gone finishes its calls.
//!
//! - **Pick**: an immutable snapshot, no lock; by default the least of 5 random endpoints by latency and calls in
//!   flight: see [`Pick`]. Endpoints that the call tried before are avoided, then their zones, while there are others.
//! - **Load**: calls in flight count until the end of the response body, latency until its head. A failure counts as
//!   load and never as a low latency; the age of the oldest call without an answer counts as a latency.
//! - **Ejection**: an endpoint that fails call after call is left out and probed: see [`Ejection`]. A body that breaks
//!   off, or that a deadline layer above ended in a long silence of the server, is such a failure.
//! - **Readiness**: the balancer is always ready. The picked service's readiness is waited for inside the call; if it
//!   is not ready another one is looked at once, and if that is not either the first is waited for.
//! - **No endpoint**: before the first answer of discovery calls wait under their deadline. An empty answer keeps the
//!   last set unless [`trust_empty`](BalancerConfig::trust_empty) is on; without a set calls fail at once with
//!   [`NoEndpoints`](crate::ErrorKind::NoEndpoints). A failed lookup changes nothing.
//!
//! Weights are shares: calls in flight are divided by them, and candidates are drawn by them. If all are 0 they count
//! as equal; 0 beside others receives no calls.

mod body;
mod config;
mod error;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{
    body::InFlight,
    config::{
        DEFAULT_CANDIDATES, DEFAULT_DECAY, DEFAULT_MAX_IN_FLIGHT, DEFAULT_SLOW_START_WINDOW,
        DEFAULT_TOLERANCE, Pick, SlowStart,
    },
    future::ResponseFuture,
    layer::BalancerConfig,
    policy::{
        DEFAULT_EJECTION_GROWTH, DEFAULT_EJECTION_TIME, DEFAULT_MAX_EJECTED,
        DEFAULT_MAX_EJECTION_TIME, DEFAULT_PANIC_BELOW, Ejection, EndpointState, EndpointStatus,
    },
    service::Balancer,
};
