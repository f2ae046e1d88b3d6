use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Extensions;
use pin_project_lite::pin_project;

use super::deadline::Deadline;

thread_local! {
    static CURRENT: Cell<Deadline> = const { Cell::new(Deadline::NEVER) };
}

/// The deadline of the incoming call that is being served: outbound calls keep to it.
///
/// [`InboundLayer`](crate::InboundLayer) gives it to everything that runs within the handler's own task, and puts it
/// into the request's extensions. A spawned task has none, so that work which goes on after the answer is not cut off;
/// where it is part of the answer, hand it on:
///
/// ```
/// use evenkeel::{Deadline, InheritedDeadline};
/// # async fn fetch_prices() {}
///
/// # async fn handler() {
/// let prices = tokio::spawn(InheritedDeadline::current().scope(fetch_prices()));
/// # prices.await.unwrap();
/// // And the other way round, for what the answer does not wait for:
/// InheritedDeadline::new(Deadline::NEVER).scope(fetch_prices()).await;
/// # }
/// ```
///
/// In the extensions of an outbound request it counts as well. An outbound call ends at the earliest of what it
/// inherits and its own deadline, be that shorter or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedDeadline(Deadline);

impl InheritedDeadline {
    /// Of a call that has to be over at this instant.
    #[must_use]
    pub const fn new(deadline: Deadline) -> Self {
        Self(deadline)
    }

    /// What this task inherits; [`Deadline::NEVER`] if it is nothing.
    #[must_use]
    pub fn current() -> Self {
        Self(CURRENT.get())
    }

    /// The instant by which the incoming call has to be over.
    #[must_use]
    pub const fn deadline(self) -> Deadline {
        self.0
    }

    /// Runs a future that inherits this deadline, in place of what surrounds it.
    pub fn scope<F: IntoFuture>(self, future: F) -> Inheriting<F::IntoFuture> {
        Inheriting {
            future: future.into_future(),
            deadline: self,
        }
    }

    /// Inherited by what runs on this thread until the guard goes.
    pub(crate) fn enter(self) -> Entered {
        Entered(CURRENT.replace(self.0))
    }

    /// What an outbound call with these extensions inherits here.
    pub(super) fn of(extensions: &Extensions) -> Deadline {
        let carried = match extensions.is_empty() {
            true => None,
            false => extensions.get::<Self>(),
        };
        let here = CURRENT.get();
        carried.map_or(here, |carried| carried.0.earliest(here))
    }
}

/// Gives back what was inherited before; it has to go on the thread that made it.
#[derive(Debug)]
pub(crate) struct Entered(Deadline);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

pin_project! {
    /// A future within an inherited deadline: see [`InheritedDeadline::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Inheriting<F> {
        #[pin]
        future: F,
        deadline: InheritedDeadline,
    }
}

impl<F: Future> Future for Inheriting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.deadline.enter();
        this.future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        panic::{AssertUnwindSafe, catch_unwind},
        task::Waker,
        time::{Duration, Instant},
    };

    use super::*;

    fn in_seconds(seconds: u64) -> InheritedDeadline {
        let length = Duration::from_secs(seconds);
        InheritedDeadline::new(Deadline::after(Instant::now(), length))
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_scope_holds_while_it_is_polled_and_not_between() {
        let outer = in_seconds(9);
        let mut polls = 0;
        let twice = poll_fn(|_| {
            polls += 1;
            assert_eq!(InheritedDeadline::current(), outer);
            if polls == 1 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        });
        let mut scope = std::pin::pin!(outer.scope(twice));
        assert!(poll(scope.as_mut()).is_pending());
        assert_eq!(InheritedDeadline::current().deadline(), Deadline::NEVER);
        assert!(poll(scope.as_mut()).is_ready());
    }

    #[test]
    fn a_scope_within_a_scope_replaces_it_and_gives_it_back() {
        let (outer, inner) = (in_seconds(1), InheritedDeadline::new(Deadline::NEVER));
        let _entered = outer.enter();
        let seen = poll_fn(|_| Poll::Ready(InheritedDeadline::current()));
        let mut scope = std::pin::pin!(inner.scope(seen));
        assert_eq!(poll(scope.as_mut()), Poll::Ready(inner));
        assert_eq!(InheritedDeadline::current(), outer);
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let panicking = in_seconds(1).scope(poll_fn(|_| -> Poll<()> { panic!("in the handler") }));
        let mut scope = std::pin::pin!(panicking);
        assert!(catch_unwind(AssertUnwindSafe(|| poll(scope.as_mut()))).is_err());
        assert_eq!(InheritedDeadline::current().deadline(), Deadline::NEVER);
    }

    #[test]
    fn extensions_and_task_count_both_and_the_earlier_one_holds() {
        let (sooner, later) = (in_seconds(1), in_seconds(2));
        let mut extensions = Extensions::new();
        extensions.insert(later);
        assert_eq!(InheritedDeadline::of(&extensions), later.deadline());
        let _entered = sooner.enter();
        assert_eq!(InheritedDeadline::of(&extensions), sooner.deadline());
        assert_eq!(InheritedDeadline::of(&Extensions::new()), sooner.deadline());
    }
}
