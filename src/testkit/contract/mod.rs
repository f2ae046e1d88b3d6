//! Contracts that every layer of this crate keeps, for layers of your own.
//!
//! [`check`] makes hundreds of calls through a layer around a [`Scripted`](super::Scripted) service, each on a paused
//! runtime of its own, and says in one sentence for each [`Contract`] that is broken what it did and what it found:
//!
//! ```text
//! GivesBack (a call dropped at any point gives everything back): with a call answered after 20 ms, dropped before
//! the head after 2 polls: the next call did not end: it was pending in poll_ready and nobody woke it
//! ```
//!
//! A layer is anything that makes a service over `http` types from one. A test of one is a line:
//!
//! ```
//! # use tower::layer::util::Identity as MyLayer;
//! use evenkeel::testkit::contract;
//! use tower::Layer;
//!
//! contract::check(|service| MyLayer::new().layer(service));
//! ```
//!
//! The requests are `http::Request<evenkeel::Body>`; put a layer that wants another body between two that map it:
//!
//! ```
//! # use tower::layer::util::Identity as MyLayer;
//! use evenkeel::{Body, testkit::contract};
//! use http::Request;
//! use http_body_util::BodyExt;
//! use tower::ServiceBuilder;
//!
//! contract::check(|service| {
//!     ServiceBuilder::new()
//!         .map_request(|request: Request<Body>| request.map(BodyExt::boxed_unsync))
//!         .layer(MyLayer::new())
//!         .service(service)
//! });
//! ```
//!
//! A [`Suite`] leaves contracts out that a layer has a reason not to keep, and is told what it cannot see from
//! outside: counters, slots, callbacks, settings.

mod bell;
mod bench;
mod checks;
mod erased;
mod kinds;
mod run;
mod scenario;
mod suite;
mod tripwire;

pub use self::{
    kinds::{Breach, Contract},
    suite::{Suite, check},
    tripwire::Tripwire,
};
