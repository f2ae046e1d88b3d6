use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
};

use super::readiness::Readiness;

/// What the instances, futures and bodies of one scripted service have in common.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) readiness: Readiness,
    pub(crate) ready_polls: usize,
    pub(crate) instances: usize,
    pub(crate) reserved: usize,
    pub(crate) in_flight: usize,
    pub(crate) most_in_flight: usize,
    pub(crate) dropped: usize,
    pub(crate) bodies: usize,
    pub(crate) unready_calls: usize,
    /// The next clone panics.
    pub(crate) clone_panics: bool,
    waiting: Vec<Waker>,
}

impl Ledger {
    /// Nothing that runs in here panics or is a user's code.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`with`](Self::with), for a change that may make an instance ready that was not.
    pub(crate) fn release<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, waiting) =
            self.with(|state| (change(state), std::mem::take(&mut state.waiting)));
        waiting.into_iter().for_each(Waker::wake);
        result
    }
}

impl State {
    /// Takes one of so many places, or waits for one.
    pub(crate) fn claim(&mut self, slots: usize, waker: &Waker) -> bool {
        let free = self.in_flight + self.reserved < slots;
        if free {
            self.reserved += 1;
        } else {
            self.wait(waker);
        }
        free
    }

    pub(crate) fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    pub(crate) fn begin_call(&mut self) {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| fmt::Debug::fmt(state, f))
    }
}
