use std::{
    any::Any,
    time::{Duration, Instant},
};

use http::Request;

use super::{body::Body, join::find};

/// Facts of one attempt, handed down by value since two attempts of a call may run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Counts from 1.
    pub(crate) number: u32,
    /// When it began; serves every layer below as their first clock reading.
    pub(crate) started: Instant,
    /// How long it may take until its head, if retry decided that.
    pub(crate) limit: Option<Duration>,
}

/// The facts of the attempt that this request is; those of a call that is over are ignored.
pub(crate) fn attempt<B: 'static>(request: &Request<B>) -> Option<Attempt> {
    find(request)?;
    stamp_of(request)
}

/// The same for a request whose call is known to live.
pub(crate) fn stamp_of<B: 'static>(request: &Request<B>) -> Option<Attempt> {
    match (request.body() as &dyn Any).downcast_ref::<Body>() {
        Some(body) => body.attempt(),
        None => request.extensions().get().copied(),
    }
}

/// Stamps the request as an attempt.
pub(crate) fn set_attempt<B: 'static>(request: &mut Request<B>, attempt: Attempt) {
    match (request.body_mut() as &mut dyn Any).downcast_mut::<Body>() {
        Some(body) => body.set_attempt(attempt),
        None => {
            request.extensions_mut().insert(attempt);
        }
    }
}

/// Forgets the facts that a request has kept from a call that is over.
pub(super) fn forget_attempt<B: 'static>(request: &mut Request<B>) {
    match (request.body_mut() as &mut dyn Any).downcast_mut::<Body>() {
        Some(body) => body.forget_attempt(),
        None => {
            request.extensions_mut().remove::<Attempt>();
        }
    }
}
