use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{config::Limits, policy};
use crate::{
    call::{Call, Deadline, Disposition},
    clock::{self, LazyTimer},
    error::{Error, ErrorKind},
    guarded::{End, Settle},
    sealed::Sealed,
};

/// Keeps a response body within the call's deadline and its idle limit.
///
/// Silence is counted while somebody waits for the body, from the first time that it had nothing: a consumer
/// that takes its time is not held against the server. Data that is there only after the deadline is refused.
pub struct BodyLimit {
    call: Arc<Call>,
    /// The layer's idle limit, whatever this call asked for.
    usual_idle: Option<Duration>,
    preset: bool,
    silent_since: Option<Instant>,
    timer: LazyTimer,
}

impl BodyLimit {
    /// `None` if nothing limits the body.
    pub(crate) fn new(call: &Arc<Call>, limits: &Limits, timer: LazyTimer) -> Option<Self> {
        let idle = call.policy().body_idle_given().or(limits.body_idle);
        (idle.is_some() || call.body_length().get().is_some()).then(|| Self {
            call: Arc::clone(call),
            usual_idle: limits.body_idle,
            preset: limits.preset,
            silent_since: None,
            timer,
        })
    }

    fn idle(&self) -> Option<Duration> {
        self.call.policy().body_idle_given().or(self.usual_idle)
    }

    /// From this silence on a cut-off is the server's fault; a stream that the preset does not end may be silent for as
    /// long as it likes.
    fn slow(&self) -> Option<Duration> {
        let streams = self.preset && self.call.is_committed();
        self.call.slow_time().filter(|_| !streams)
    }

    /// The head is there, so the server has answered, whatever becomes of the body.
    fn expired(&self, kind: ErrorKind) -> Error {
        self.call.settle(Disposition::Answered);
        Error::new(kind).with_report(self.call.report(clock::now()))
    }
}

impl Sealed for BodyLimit {}

impl Settle for BodyLimit {
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let since = *self.silent_since.get_or_insert_with(clock::recent);
        let bound = policy::body_bound(since, self.idle(), self.call.body_deadline());
        ready!(self.timer.poll_until(bound.at, cx));
        let silent = bound.at.remaining(since).unwrap_or(Duration::MAX);
        if policy::is_stall(silent, self.usual_idle, self.slow()) {
            self.call.stall();
        }
        Poll::Ready(self.expired(bound.kind))
    }

    fn refuse_data(&mut self) -> Option<Error> {
        let deadline = self.call.body_deadline();
        if deadline == Deadline::NEVER {
            return None;
        }
        policy::is_overdue(deadline, clock::recent())
            .then(|| self.expired(ErrorKind::DeadlineExceeded))
    }

    fn on_frame(&mut self) {
        self.silent_since = None;
    }

    fn on_end(&mut self, _: End<'_>) {}
}

impl fmt::Debug for BodyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyLimit")
            .field("deadline", &self.call.body_deadline())
            .field("idle", &self.idle())
            .finish_non_exhaustive()
    }
}
