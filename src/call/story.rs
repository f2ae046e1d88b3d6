use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    attempts::Attempts,
    endpoint::EndpointFacts,
    report::{AttemptReport, Stop},
};

/// What there is to tell of a call that did not succeed at once; boxed, since most do.
#[derive(Debug, Default)]
pub(super) struct Story(Mutex<Option<Box<Told>>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// That of the present attempt.
    pub(super) endpoint: Option<EndpointFacts>,
    pub(super) attempts: Attempts,
    pub(super) stop: Option<Stop>,
}

impl Story {
    pub(super) fn note_endpoint(&self, facts: EndpointFacts) {
        self.tell(|told| told.endpoint = Some(facts));
    }

    pub(super) fn endpoint(&self) -> Option<EndpointFacts> {
        self.told().as_ref()?.endpoint.clone()
    }

    pub(super) fn take_endpoint(&self) -> Option<EndpointFacts> {
        self.told().as_mut()?.endpoint.take()
    }

    pub(super) fn add(&self, attempt: AttemptReport) {
        self.tell(|told| told.attempts.push(attempt));
    }

    /// The call waits so long after the attempt that ended last.
    pub(super) fn backing_off(&self, delay: Duration) {
        self.tell(|told| {
            if let Some(last) = told.attempts.last_mut() {
                last.backoff = Some(delay);
            }
        });
    }

    pub(super) fn stopped(&self, stop: Stop) {
        self.tell(|told| told.stop = Some(stop));
    }

    pub(super) fn so_far(&self) -> Told {
        self.told().as_deref().cloned().unwrap_or_default()
    }

    fn tell(&self, add: impl FnOnce(&mut Told)) {
        add(self.told().get_or_insert_default());
    }

    fn told(&self) -> MutexGuard<'_, Option<Box<Told>>> {
        // Nothing that runs under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
