use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::testkit::pause::quiet_panic;

/// What a callback under test touches, and where it panics when the suite wants it to.
#[derive(Clone, Debug, Default)]
pub struct Tripwire(Arc<State>);

#[derive(Debug, Default)]
struct State {
    touched: AtomicUsize,
    /// Panics at this touch; zero for none.
    panics_at: AtomicUsize,
}

impl Tripwire {
    /// To be called by the callback, first thing.
    ///
    /// # Panics
    /// Where the suite wants the callback to.
    pub fn touch(&self) {
        let touch = self.0.touched.fetch_add(1, SeqCst) + 1;
        if self.0.panics_at.load(SeqCst) == touch {
            quiet_panic("the callback panics");
        }
    }

    pub(super) fn panics_at(touch: usize) -> Self {
        let tripwire = Self::default();
        tripwire.0.panics_at.store(touch, SeqCst);
        tripwire
    }

    /// No touch panics from now on.
    pub(super) fn calm(&self) {
        self.0.panics_at.store(0, SeqCst);
    }

    pub(super) fn touched(&self) -> usize {
        self.0.touched.load(SeqCst)
    }
}
