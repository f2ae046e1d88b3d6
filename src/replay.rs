//! Request bodies that can be sent again: copied in memory, or recorded while they are sent.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{
    Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

use crate::call::{Body, Stop};

/// A request body that retry can send again.
///
/// A body in memory is copied, whatever its size. A stream is recorded while the first attempt sends it, up
/// to the policy's replay limit, and what was recorded, then the rest of the stream, is sent by the next
/// attempt: the same bytes, the same trailers. Neither `Clone` nor `Sync` is asked of it.
///
/// For a body of your own implement [`try_clone`](Self::try_clone) alone if it is always in memory, and
/// [`rebox`](Self::rebox) if it can box another body. A stream that cannot is sent once.
#[diagnostic::on_unimplemented(
    message = "retry cannot send a request body of type `{Self}` again",
    label = "no `Replay` for this body",
    note = "use `evenkeel::Body`, `Full<Bytes>`, `Empty<Bytes>`, `String`, or box it as `UnsyncBoxBody<Bytes, E>`"
)]
pub trait Replay: HttpBody<Data = Bytes> + Sized {
    /// A copy of a body that is all in memory; `None` for a stream.
    fn try_clone(&self) -> Option<Self>;

    /// How a recorded stream becomes a body of this type again, usually by boxing it.
    ///
    /// `None`, the default, if this type cannot hold one.
    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        None
    }
}

impl Replay for Body {
    fn try_clone(&self) -> Option<Self> {
        self.copied()
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(Self::stream)
    }
}

impl Replay for Full<Bytes> {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Replay for Empty<Bytes> {
    fn try_clone(&self) -> Option<Self> {
        Some(Self::new())
    }
}

impl Replay for String {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<E: 'static> Replay for UnsyncBoxBody<Bytes, E> {
    fn try_clone(&self) -> Option<Self> {
        None
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(Self::new)
    }
}

impl<E: 'static> Replay for BoxBody<Bytes, E> {
    fn try_clone(&self) -> Option<Self> {
        None
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(Self::new)
    }
}

/// A streamed request body under way: what was recorded of it, then the stream itself.
///
/// Dropped before its end it leaves the rest of the stream for the next attempt.
pub struct Recording<B> {
    tape: Arc<Mutex<Recorded<B>>>,
    stream: Option<Pin<Box<B>>>,
    /// How much of the recorded bytes has been sent.
    sent: usize,
    trailers_sent: bool,
}

/// The part of a recording that outlives an attempt.
pub(crate) struct Tape<B>(Arc<Mutex<Recorded<B>>>);

struct Recorded<B> {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    state: TapeState,
    /// The length that the body announced.
    announced: Option<u64>,
    limit: usize,
    /// The stream, between two attempts.
    rest: Option<Pin<Box<B>>>,
}

impl<B> Tape<B> {
    /// The same body from its beginning.
    pub(crate) fn again(&self) -> Recording<B> {
        Recording {
            tape: Arc::clone(&self.0),
            stream: lock(&self.0).rest.take(),
            sent: 0,
            trailers_sent: false,
        }
    }

    /// Whether the whole body can be sent again; `answered` if a response came.
    pub(crate) fn replayable(&self, answered: bool) -> Result<(), Stop> {
        lock(&self.0).replayable(answered)
    }

    /// Nobody needs it any more: what was recorded goes, and nothing more is.
    pub(crate) fn stop(&self) {
        let mut tape = lock(&self.0);
        tape.give_up();
        let rest = tape.rest.take();
        // The stream is somebody else's code: it is not dropped under the lock.
        drop(tape);
        drop(rest);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TapeState {
    /// Everything so far is on it.
    Running,
    /// Everything there is, is on it.
    Complete,
    /// Too long, or the stream failed, or nobody needs it any more.
    Stopped,
}

impl<B: HttpBody<Data = Bytes>> Recorded<B> {
    fn write(&mut self, frame: &Frame<Bytes>) {
        if self.state != TapeState::Running {
            return;
        }
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if data.len() > self.limit - self.bytes.len() => self.give_up(),
            (Some(data), _) => self.bytes.extend_from_slice(data),
            (None, trailers) => self.trailers = trailers.cloned(),
        }
    }

    fn complete(&mut self) {
        if self.state == TapeState::Running {
            self.state = TapeState::Complete;
        }
    }
}

impl<B> Recorded<B> {
    fn give_up(&mut self) {
        self.state = TapeState::Stopped;
        self.bytes = Vec::new();
        self.trailers = None;
    }

    /// Whether all that was announced has been taken; some transports do not ask for the end after it.
    fn taken(&self) -> bool {
        self.state == TapeState::Complete || self.announced == Some(self.bytes.len() as u64)
    }

    fn replayable(&self, answered: bool) -> Result<(), Stop> {
        match self.state {
            TapeState::Stopped => Err(Stop::BodyNotReplayable),
            TapeState::Running if answered && !self.taken() => Err(Stop::EarlyAnswer),
            // The transport still has it: what it would have taken next is not known.
            TapeState::Running if self.rest.is_none() => Err(Stop::BodyNotReplayable),
            TapeState::Running | TapeState::Complete => Ok(()),
        }
    }
}

impl<B: HttpBody<Data = Bytes>> Recording<B> {
    pub(crate) fn start(body: B, limit: usize, announced: Option<u64>) -> Self {
        let state = if body.is_end_stream() {
            TapeState::Complete
        } else {
            TapeState::Running
        };
        let announced = body.size_hint().exact().or(announced);
        let tape = Recorded {
            bytes: Vec::new(),
            trailers: None,
            state,
            announced,
            limit,
            rest: None,
        };
        Self {
            tape: Arc::new(Mutex::new(tape)),
            stream: Some(Box::pin(body)),
            sent: 0,
            trailers_sent: false,
        }
    }

    pub(crate) fn tape(&self) -> Tape<B> {
        Tape(Arc::clone(&self.tape))
    }

    /// What the tape holds and has not been sent yet.
    fn recorded(&mut self) -> Option<Frame<Bytes>> {
        let tape = lock(&self.tape);
        if self.sent < tape.bytes.len() {
            let bytes = Bytes::copy_from_slice(&tape.bytes[self.sent..]);
            self.sent = tape.bytes.len();
            return Some(Frame::data(bytes));
        }
        if self.trailers_sent {
            return None;
        }
        self.trailers_sent = true;
        tape.trailers.clone().map(Frame::trailers)
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Recording<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.recorded() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let this = &mut *self;
        let Some(stream) = this.stream.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = ready!(stream.as_mut().poll_frame(cx));
        let ended = polled.is_none() || stream.is_end_stream();
        let mut tape = lock(&this.tape);
        match &polled {
            Some(Ok(frame)) => tape.write(frame),
            Some(Err(_)) => tape.give_up(),
            None => {}
        }
        if ended {
            tape.complete();
        }
        // What has just been sent is on the tape now: it is not sent twice.
        this.sent = tape.bytes.len();
        this.trailers_sent = tape.trailers.is_some();
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let ended = match &self.stream {
            Some(stream) => stream.is_end_stream(),
            None => true,
        };
        let tape = lock(&self.tape);
        let trailers_left = tape.trailers.is_some() && !self.trailers_sent;
        ended && !trailers_left && self.sent >= tape.bytes.len()
    }

    fn size_hint(&self) -> SizeHint {
        let unsent = lock(&self.tape).bytes.len().saturating_sub(self.sent) as u64;
        let rest = self
            .stream
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |stream| stream.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(unsent)) {
            hint.set_upper(upper);
        }
        hint.set_lower(rest.lower().saturating_add(unsent));
        hint
    }
}

impl<B> Drop for Recording<B> {
    fn drop(&mut self) {
        let mut tape = lock(&self.tape);
        if tape.state == TapeState::Running {
            tape.rest = self.stream.take();
        }
    }
}

impl<B> fmt::Debug for Recording<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tape = lock(&self.tape);
        write!(f, "Recording({} bytes, {:?})", tape.bytes.len(), tape.state)
    }
}

fn lock<B>(tape: &Mutex<Recorded<B>>) -> MutexGuard<'_, Recorded<B>> {
    // Nothing that runs under the lock can leave it half done.
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
