use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    time::Duration,
};

use futures::{
    future::{self, Either},
    task::{ArcWake, AtomicWaker},
};

use crate::testkit::pause::pause;

/// Counts wakes, and wakes who waits for one.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    count: AtomicUsize,
    listener: AtomicWaker,
}

impl ArcWake for Bell {
    fn wake_by_ref(bell: &Arc<Self>) {
        bell.rung.store(true, SeqCst);
        bell.count.fetch_add(1, SeqCst);
        bell.listener.wake();
    }
}

impl Bell {
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        futures::task::waker(Arc::clone(self))
    }

    /// Waits for the next ring for at most so long; `false` if there was none.
    pub(super) async fn rings_within(&self, patience: Duration) -> bool {
        let rung = future::poll_fn(|cx| {
            self.listener.register(cx.waker());
            match self.rung.swap(false, SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let silence = std::pin::pin!(pause(patience));
        matches!(future::select(rung, silence).await, Either::Left(_))
    }
}
