//! Deadline of a whole call and time limit of one attempt.
//!
//! Two limits, since they answer two questions. The *deadline* is an instant: how long does the caller wait?
//! It covers waiting for readiness, queues, pauses between attempts, every attempt, and the response body.
//! The *attempt timeout* is a length: when is it worth trying elsewhere? It covers readiness and connecting,
//! and ends with the response head, over gRPC with what the [commit point](crate::commit) waits for.
//!
//! - A value in [`CallPolicy`](crate::CallPolicy) replaces the layer's, shorter or longer. Only a deadline that
//!   the call already has (from an outer layer or an incoming call) shortens it.
//! - The deadline counts from when the outermost layer of this crate saw the call, wherever its own layer is
//!   placed: below a retry it does not start anew with each attempt.
//! - The inner future is polled first: an answer that is ready when time runs out is not lost. A timer exists
//!   only once something had to wait.
//! - [`Duration::MAX`](std::time::Duration::MAX), like any length over 30 years, means never; zero is refused.
//! - The error says whether the call may have happened: it was not sent if time ran out before that.
//! - [`AttemptTimeoutLayer::header`] tells the other side how much time is left; what an incoming call leaves is
//!   inherited by way of [`inbound`](crate::inbound).
//! - Both layers are always ready. They wait for the inner service within the call, where the limits hold.
//!
//! ```
//! use std::time::Duration;
//! use evenkeel::{AttemptTimeoutLayer, DeadlineLayer};
//! use tower::ServiceBuilder;
//!
//! # fn main() -> Result<(), evenkeel::InvalidSetting> {
//! let layers = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(3))?.body_idle(Duration::from_secs(30))?)
//!     .layer(AttemptTimeoutLayer::new(Duration::from_millis(800))?);
//! # let _ = layers;
//! # Ok(())
//! # }
//! ```
//!
//! [`Deadline::run`](crate::Deadline::run) puts any future under a deadline, without a service.

mod body;
mod config;
mod future;
mod layer;
mod policy;
mod service;

pub use self::{
    body::BodyLimit,
    config::DEFAULT_BODY_IDLE,
    future::{AttemptFuture, DeadlineFuture},
    layer::{AttemptTimeoutLayer, DeadlineLayer},
    service::{AttemptTimeoutService, DeadlineService, Run},
};
