//! The testkit's scripted service, by the names that these tests know it by, and what goes with it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub use evenkeel::testkit::{Act, Readiness, Scripted as Mock, ScriptedBody as Script, Seen, Step};

/// A good head of gRPC's that leaves the status to the trailers.
pub fn grpc(steps: impl IntoIterator<Item = Step>) -> Act {
    Act::ok()
        .header("content-type", "application/grpc")
        .body(steps)
}

/// Counts the polls of a future.
pub struct Counted<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F> Counted<F> {
    pub fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            polls: 0,
        }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.future.as_mut().poll(cx).map(|output| (output, polls))
    }
}

/// Shorthand for milliseconds.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
