use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, response::Parts};
use http_body::{Body as _, Frame};

use super::{
    bell::Bell,
    erased::{AnyBody, AnyFuture, Subject},
};
use crate::{call::Body, clock, error::BoxError};

/// Polls at one instant that are taken for a loop.
const MOST_POLLS_AT_ONCE: usize = 50;
/// Polls of one call that are.
const MOST_POLLS: usize = 1000;
/// How long a call may wait without being woken before it counts as stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);

/// One call from `poll_ready` to the end of its response body, poll by poll.
pub(super) struct Run {
    // Dropped before the service.
    phase: Phase,
    pub(super) service: Subject,
    bell: Arc<Bell>,
    polls: usize,
    pending: (Option<Instant>, usize),
    /// Every poll is done twice, and only the waker of the second is listened to.
    switching: bool,
}

enum Phase {
    Readying(Request<Body>),
    Calling(AnyFuture),
    Reading(Box<Parts>, AnyBody, Content),
    Over(Outcome),
    Between,
}

/// What a call came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// `poll_ready` failed.
    Unready(BoxError),
    Failed(BoxError),
    Answered(Box<Parts>, Content),
}

/// What a response body brought.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) data: BytesMut,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<BoxError>,
    /// What it said of its length before the first frame.
    pub(super) announced: Option<u64>,
    /// A frame came after it had said that it was at its end.
    pub(super) after_end: bool,
}

/// Why a call did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Stuck(At),
    Spinning(At),
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Readying,
    Calling,
    Reading,
    End,
}

impl Run {
    pub(super) fn new(service: Subject, request: Request<Body>) -> Self {
        Self {
            phase: Phase::Readying(request),
            service,
            bell: Arc::default(),
            polls: 0,
            pending: (None, 0),
            switching: false,
        }
    }

    /// Polls twice every time, with two wakers, and listens to the second.
    pub(super) fn switching(mut self) -> Self {
        self.switching = true;
        self
    }

    pub(super) const fn polls(&self) -> usize {
        self.polls
    }

    pub(super) const fn at(&self) -> At {
        match &self.phase {
            Phase::Readying(_) => At::Readying,
            Phase::Calling(_) => At::Calling,
            Phase::Reading(..) => At::Reading,
            Phase::Over(_) | Phase::Between => At::End,
        }
    }

    /// Polls once, or twice; ready if there is something else to do now.
    pub(super) fn poll(&mut self) -> Poll<()> {
        let polled = self.poll_once();
        if self.switching && polled.is_pending() {
            self.bell = Arc::default();
            return self.poll_once();
        }
        polled
    }

    fn poll_once(&mut self) -> Poll<()> {
        self.polls += 1;
        let waker = self.bell.waker();
        let cx = &mut Context::from_waker(&waker);
        let next = match &mut self.phase {
            Phase::Readying(_) => match ready!(self.service.poll_ready(cx)) {
                Ok(()) => match mem::replace(&mut self.phase, Phase::Between) {
                    Phase::Readying(request) => Phase::Calling(self.service.call(request)),
                    other => other,
                },
                Err(error) => Phase::Over(Outcome::Unready(error)),
            },
            Phase::Calling(future) => match ready!(future.as_mut().poll(cx)) {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let announced = body.size_hint().exact();
                    let content = Content {
                        announced,
                        ..Content::default()
                    };
                    Phase::Reading(Box::new(parts), body, content)
                }
                Err(error) => Phase::Over(Outcome::Failed(error)),
            },
            Phase::Reading(_, body, content) => {
                let ended = body.is_end_stream();
                let frame = ready!(body.as_mut().poll_frame(cx));
                content.after_end |= ended && frame.is_some();
                if content.take(frame) {
                    return Poll::Ready(());
                }
                match mem::replace(&mut self.phase, Phase::Between) {
                    Phase::Reading(parts, _, content) => {
                        Phase::Over(Outcome::Answered(parts, content))
                    }
                    other => other,
                }
            }
            Phase::Over(_) | Phase::Between => return Poll::Ready(()),
        };
        self.phase = next;
        Poll::Ready(())
    }

    /// Polls, and where there is nothing to do waits for a wake.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<(), Fault> {
        if self.poll().is_ready() {
            return Ok(());
        }
        self.wake(patience).await
    }

    /// Waits for a wake of a poll that was pending.
    pub(super) async fn wake(&mut self, patience: Duration) -> Result<(), Fault> {
        let now = clock::now();
        let (last, count) = self.pending;
        let count = if last == Some(now) { count + 1 } else { 1 };
        self.pending = (Some(now), count);
        if count > MOST_POLLS_AT_ONCE || self.polls > MOST_POLLS {
            return Err(Fault::Spinning(self.at()));
        }
        match self.bell.rings_within(patience).await {
            true => Ok(()),
            false => Err(Fault::Stuck(self.at())),
        }
    }

    /// Until the call is over.
    pub(super) async fn finish(mut self) -> Result<(Outcome, Subject), Fault> {
        while self.at() != At::End {
            self.next(PATIENCE).await?;
        }
        match self.phase {
            Phase::Over(outcome) => Ok((outcome, self.service)),
            _ => Err(Fault::Stuck(At::End)),
        }
    }

    /// Until the future of the call is ready, which is kept: to be polled again.
    pub(super) async fn finish_call(mut self) -> Result<AnyFuture, Fault> {
        while self.at() == At::Readying {
            self.next(PATIENCE).await?;
        }
        loop {
            self.polls += 1;
            let waker = self.bell.waker();
            let Phase::Calling(future) = &mut self.phase else {
                return Err(Fault::Stuck(self.at()));
            };
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                break;
            }
            self.wake(PATIENCE).await?;
        }
        match self.phase {
            Phase::Calling(future) => Ok(future),
            _ => Err(Fault::Stuck(At::End)),
        }
    }

    /// Drops the call where it stands.
    pub(super) fn abandon(self) -> Subject {
        drop(self.phase);
        self.service
    }
}

impl Content {
    /// Whether the body goes on.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> bool {
        match frame {
            None => return false,
            Some(Err(error)) => self.error = Some(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.data.extend_from_slice(&data);
                    return true;
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
        self.error.is_none()
    }
}

impl Outcome {
    /// In a word: a status, or that it failed.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Unready(error) => format!("an error of poll_ready ({error})"),
            Self::Failed(error) => format!("an error ({error})"),
            Self::Answered(parts, Content { error: None, .. }) => parts.status.to_string(),
            Self::Answered(parts, _) => format!("{} and a broken body", parts.status),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Answered(parts, Content { error: None, .. }) if parts.status.is_success())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readying => "in poll_ready",
            Self::Calling => "before the head",
            Self::Reading => "in the response body",
            Self::End => "after the end",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck(at) => write!(f, "it was pending {at} and nobody woke it"),
            Self::Spinning(at) => write!(f, "it woke itself {at} again and again"),
        }
    }
}
