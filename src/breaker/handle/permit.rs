use std::time::Instant;

use super::super::policy::{Finished, Outcome, Pass};
use super::circuit::Breaker;
use crate::classify::Class;
use crate::clock;

/// The right to make one call; dropped, it is abandoned.
///
/// Abandoned says nothing about the service, and a probe gives its slot to another call.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once is an abandoned call"]
pub struct Permit {
    breaker: Breaker,
    pass: Option<Pass>,
    started: Option<Instant>,
}

impl Permit {
    pub(super) fn new(breaker: Breaker, pass: Pass, started: Option<Instant>) -> Self {
        Self {
            breaker,
            pass: Some(pass),
            started,
        }
    }

    /// The call succeeded.
    pub fn success(self) {
        self.finish(Class::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.finish(Class::Failure);
    }

    /// Nothing can be said about the call.
    pub fn abandon(self) {
        drop(self);
    }

    /// The call ended like this.
    pub fn finish(mut self, class: Class) {
        let now = clock::now();
        let ran = self.started.map(|at| now.saturating_duration_since(at));
        let end = Finished {
            ran,
            ..Finished::new(class.into())
        };
        self.end(&end, now);
    }

    /// Whether this call decides what becomes of a half-open circuit.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.pass.is_some_and(|pass| pass.probe)
    }

    fn end(&mut self, end: &Finished, now: Instant) {
        if let Some(pass) = self.pass.take() {
            self.breaker.settle(pass, end, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.end(&Finished::new(Outcome::Abandoned), clock::now());
        }
    }
}
