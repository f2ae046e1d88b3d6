use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    ledger::Ledger,
    pause::{Pause, quiet_panic},
    step::{Kind, Step},
};

/// A response body that follows its steps.
pub struct ScriptedBody {
    ledger: Ledger,
    steps: VecDeque<Step>,
    pause: Pause,
}

impl ScriptedBody {
    pub(crate) fn new(ledger: &Ledger, steps: Vec<Step>) -> Self {
        ledger.with(|state| state.bodies += 1);
        Self {
            ledger: ledger.clone(),
            steps: steps.into(),
            pause: Pause::default(),
        }
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        self.ledger.with(|state| state.bodies -= 1);
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(Step(kind)) = self.steps.front().cloned() else {
                return Poll::Ready(None);
            };
            let frame = match kind {
                Kind::Stall => return Poll::Pending,
                Kind::Flood => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"flood")))));
                }
                Kind::Panic => quiet_panic("the script's body panics"),
                Kind::Pause(length) => {
                    ready!(self.pause.poll(length, cx));
                    None
                }
                Kind::Data(data) => Some(Ok(Frame::data(data))),
                Kind::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
                Kind::Fail(kind) => Some(Err(kind.into())),
            };
            self.steps.pop_front();
            if let Some(frame) = frame {
                return Poll::Ready(Some(frame));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let length: Option<u64> = self.steps.iter().map(Step::length).sum();
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for ScriptedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}
