//! The only file that reads time or makes timers.
//!
//! All time is tokio's, so that a paused runtime drives every part of the crate; the type handed out is
//! [`std::time::Instant`]. Inside a [`Scope`] one reading is shared by all layers of a poll: the
//! innermost guard calls [`read`], those above it [`recent`].

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use tokio::time::{Sleep, sleep_until};

use crate::call::Deadline;

thread_local! {
    static SCOPE: Cell<Remembered> = const { Cell::new(Remembered::Outside) };
}

#[derive(Clone, Copy)]
enum Remembered {
    Outside,
    Nothing,
    At(Instant),
}

/// Reads the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Reads the wall clock; only for HTTP dates.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// While this lives, [`read`] is remembered for [`recent`] on this thread.
///
/// Not `Send`: it must end on the thread, and in the poll, that opened it.
#[derive(Debug)]
pub(crate) struct Scope {
    outermost: bool,
    _not_send: std::marker::PhantomData<*const ()>,
}

/// Opens a scope around one `call`, `poll` or `poll_frame`; inner scopes join the outer one.
pub(crate) fn enter() -> Scope {
    let outermost = SCOPE.with(|scope| {
        let outermost = matches!(scope.get(), Remembered::Outside);
        if outermost {
            scope.set(Remembered::Nothing);
        }
        outermost
    });
    Scope {
        outermost,
        _not_send: std::marker::PhantomData,
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if self.outermost {
            SCOPE.with(|scope| scope.set(Remembered::Outside));
        }
    }
}

/// Reads the clock and, inside a scope, remembers what it read.
pub(crate) fn read() -> Instant {
    let now = now();
    SCOPE.with(|scope| {
        if !matches!(scope.get(), Remembered::Outside) {
            scope.set(Remembered::At(now));
        }
    });
    now
}

/// The remembered reading of this scope, else a fresh one.
pub(crate) fn recent() -> Instant {
    match SCOPE.with(Cell::get) {
        Remembered::At(at) => at,
        Remembered::Nothing | Remembered::Outside => read(),
    }
}

/// A timer that exists only once somebody had to wait for it.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    sleep: Option<Armed>,
}

impl LazyTimer {
    /// Ready when `at` has come; [`Deadline::NEVER`] is pending for ever and arms nothing.
    pub(crate) fn poll_until(&mut self, at: Deadline, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at.instant().map(tokio::time::Instant::from_std) else {
            self.disarm();
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Armed::new(at));
        let polled = sleep.poll_at(at, cx);
        if polled.is_ready() {
            self.disarm();
        }
        polled
    }

    /// Takes the timer out of the runtime's wheel.
    pub(crate) fn disarm(&mut self) {
        self.sleep = None;
    }
}

/// A timer in the runtime's wheel.
#[derive(Debug)]
struct Armed(Pin<Box<Sleep>>);

impl Armed {
    #[expect(clippy::disallowed_methods, reason = "the one place that makes timers")]
    fn new(at: tokio::time::Instant) -> Self {
        #[cfg(test)]
        ARMED.with(|armed| armed.set(armed.get() + 1));
        Self(Box::pin(sleep_until(at)))
    }

    fn poll_at(&mut self, at: tokio::time::Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() != at {
            self.0.as_mut().reset(at);
        }
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
thread_local! {
    static ARMED: Cell<usize> = const { Cell::new(0) };
}

/// How many timers are armed on this thread.
#[cfg(test)]
pub(crate) fn armed_timers() -> usize {
    ARMED.with(Cell::get)
}

#[cfg(test)]
impl Drop for Armed {
    fn drop(&mut self) {
        ARMED.with(|armed| armed.set(armed.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn outside_a_scope_nothing_is_remembered() {
        let first = read();
        std::thread::sleep(Duration::from_millis(2));
        assert!(recent() > first);
    }

    #[test]
    fn inside_a_scope_one_reading_serves_all() {
        let _outer = enter();
        let first = read();
        {
            let _inner = enter();
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(recent(), first);
        }
        assert_eq!(recent(), first, "an inner scope does not end the outer one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_without_end_stays_pending_and_arms_nothing() {
        let mut timer = LazyTimer::default();
        let polled =
            std::future::poll_fn(|cx| Poll::Ready(timer.poll_until(Deadline::NEVER, cx))).await;
        assert!(polled.is_pending());
        assert!(timer.sleep.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_follows_an_instant_that_moves() {
        let start = now();
        let mut timer = LazyTimer::default();
        let later = Deadline::after(start, Duration::from_secs(9));
        let _ = std::future::poll_fn(|cx| Poll::Ready(timer.poll_until(later, cx))).await;
        let sooner = Deadline::after(start, Duration::from_secs(2));
        std::future::poll_fn(|cx| timer.poll_until(sooner, cx)).await;
        assert_eq!(now() - start, Duration::from_secs(2));
    }
}
