//! Circuit breaker: stops calling a service that fails, and finds out when it works again.
//!
//! *Closed* lets calls through, *open* rejects them at once, *half-open* lets a few through as probes
//! whose results decide. A [`Breaker`] is one circuit that all of its clones share;
//! [`CircuitBreakerLayer`] puts it before a service.
//!
//! Put it below the retry layer, so that it counts attempts, and above the balancer and the attempt
//! timeout, so that a hung server is a failure and not a dropped future. An open circuit is never
//! retried against.
//!
//! # What opens it
//! Four rules; those not named are off, and at least one must be named:
//! [consecutive failures](BreakerConfig::consecutive_failures),
//! [failures within a stretch of time](BreakerConfig::failures_within),
//! [failure rate](BreakerConfig::failure_rate_threshold) and
//! [slow-call rate](BreakerConfig::slow_call_rate_threshold), the rates over a stretch of time or a
//! number of results. Which one for a whole service? The failure rate: the counts say nothing about how
//! many calls went well in between.
//!
//! # What counts
//! - A response of 4xx is a success, in half-open too: the service does its work.
//! - A response of 5xx, a reset or a failed connection is a failure.
//! - 429 counts for the failure rate and for no other rule; it fails a probe, since a service that still
//!   throttles has not recovered.
//! - A timeout is a failure if the attempt ran for at least the smaller of twice the median success and the
//!   attempt limit (half of the client's deadline where there is none): so attempts that a caller's
//!   shorter deadline cut off are excused. Where neither is known, it counts.
//! - A call whose future is dropped is *abandoned*: it counts nowhere and a probe gives its slot back, unless
//!   the attempt had run for as long as its limit (else half of the client's deadline) by then.
//! - Our own rejections below (no endpoint, in-flight limit, another open circuit) are neutral.
//! - A result that comes after the circuit has changed since its call began is *late*: it changes nothing.
//!
//! A failing head settles a call at once. A good head is provisional until the body has ended well, was
//! dropped, or has been read for more than a second; a body that breaks off turns it into a failure, and so does
//! one that a deadline layer above ended in a silence of the server: as long as its idle limit, or as half of the
//! client's deadline.
//!
//! # Approximations
//! The circuit is one atomic word and its windows are a few more; there is no lock on the way of a call.
//! Rules are looked at when a failure or a slow call comes, not on successes. The window of a rate covers
//! between nine and ten tenths of its length. Two failures that race may open it one failure later. Times
//! are kept in milliseconds.
//!
//! Distinct endpoints are told apart by three short tags per bucket, not by one bit each in a mask: in
//! a mask of 64 the endpoints 1, 65 and 129 of a set of three look like one, and the circuit would never open.

mod body;
mod config;
mod future;
mod handle;
mod layer;
mod policy;
mod service;

pub use self::{
    body::Trial,
    config::{
        BreakerConfig, CloseWhen, DEFAULT_BREAK_DURATION, DEFAULT_GROWTH_JITTER,
        DEFAULT_HEALTHY_PERIOD, DEFAULT_MIN_REQUESTS, DEFAULT_PROBE_TIMEOUT, DEFAULT_WINDOW,
        MAX_PUSHBACK,
    },
    future::ResponseFuture,
    handle::{Breaker, Permit, Snapshot, Transitions},
    layer::CircuitBreakerLayer,
    policy::{Cause, State, Transition},
    service::CircuitBreakerService,
};
