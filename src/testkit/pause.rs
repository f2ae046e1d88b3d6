use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    call::Deadline,
    clock::{self, LazyTimer},
};

/// A wait that begins with its first poll.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    until: Option<Deadline>,
    timer: LazyTimer,
}

impl Pause {
    /// Ready once `length` has passed; at once for zero, never for [`Duration::MAX`]. The next poll begins anew.
    pub(crate) fn poll(&mut self, length: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if length.is_zero() {
            return Poll::Ready(());
        }
        let begin = || Deadline::after(clock::now(), length);
        let until = *self.until.get_or_insert_with(begin);
        ready!(self.timer.poll_until(until, cx));
        self.until = None;
        Poll::Ready(())
    }
}

/// Panics without the message that a panic by mistake prints: this one is wanted.
pub(crate) fn quiet_panic(words: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(words))
}

/// Waits for so long.
pub(crate) async fn pause(length: Duration) {
    let mut pause = Pause::default();
    std::future::poll_fn(|cx| pause.poll(length, cx)).await;
}
