use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use super::super::policy::{Journal, Next, Place, Transition};

/// The transitions of a breaker, in order; ends when its last handle is gone.
///
/// A stream; [`next`](Self::next) needs no stream crate.
#[derive(Debug)]
pub struct Transitions {
    journal: Arc<Journal>,
    place: Place,
}

impl Transitions {
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        let place = journal.watch();
        Self { journal, place }
    }

    /// Waits for the next transition; `None` when the breaker is gone.
    pub async fn next(&mut self) -> Option<Transition> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// How many transitions this watcher missed because it was too far behind.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.place.missed
    }
}

impl Stream for Transitions {
    type Item = Transition;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Transition>> {
        let this = self.get_mut();
        match this.journal.next(&mut this.place, cx.waker()) {
            Next::Transition(transition) => Poll::Ready(Some(transition)),
            Next::End => Poll::Ready(None),
            Next::Wait => Poll::Pending,
        }
    }
}

impl Drop for Transitions {
    fn drop(&mut self) {
        self.journal.leave(self.place);
    }
}
