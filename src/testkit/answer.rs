use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Body;
use http_body_util::BodyExt;

use super::{
    act::{Act, Outcome},
    body::ScriptedBody,
    ledger::Ledger,
    pause::{Pause, quiet_panic},
    recorder::{Ending, Entry},
};

/// The request body while it is read; `None` if it fails.
type Upload = Pin<Box<dyn Future<Output = Option<(Bytes, Option<HeaderMap>)>> + Send>>;

/// One call of a scripted service on its way.
pub struct Answer {
    ledger: Ledger,
    entry: Entry,
    act: Act,
    upload: Option<Upload>,
    pause: Pause,
    done: bool,
}

impl Answer {
    pub(crate) fn new<B>(ledger: &Ledger, entry: Entry, act: Act, body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        ledger.with(|state| state.begin_call());
        Self {
            ledger: ledger.clone(),
            entry,
            upload: act.reads.then(|| upload(body)),
            act,
            pause: Pause::default(),
            done: false,
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(upload) = &mut self.upload else {
            return Poll::Ready(Ok(()));
        };
        let read = ready!(upload.as_mut().poll(cx));
        self.upload = None;
        let failed = || io::Error::other("the request body failed");
        let (body, trailers) = read.ok_or_else(failed)?;
        self.entry.uploaded(body, trailers);
        Poll::Ready(Ok(()))
    }

    fn head(&self) -> Poll<io::Result<Response<ScriptedBody>>> {
        let status = match &self.act.outcome {
            Outcome::Head(status) => *status,
            Outcome::Fail(make) => return Poll::Ready(Err(make())),
            Outcome::Hang => return Poll::Pending,
            Outcome::Panic | Outcome::PanicInCall => quiet_panic("the script panics"),
        };
        let mut response = Response::new(ScriptedBody::new(&self.ledger, self.act.body.clone()));
        *response.status_mut() = status;
        response.headers_mut().clone_from(&self.act.headers);
        Poll::Ready(Ok(response))
    }
}

fn upload<B: Body<Data = Bytes> + Send + 'static>(body: B) -> Upload {
    Box::pin(async move {
        let read = body.collect().await.ok()?;
        let trailers = read.trailers().cloned();
        Some((read.to_bytes(), trailers))
    })
}

impl Future for Answer {
    type Output = io::Result<Response<ScriptedBody>>;

    /// # Panics
    /// If the script says so, and if it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.done, "an answer was polled after it was ready");
        let after = self.act.after;
        let answer = match ready!(self.poll_upload(cx)) {
            Ok(()) => {
                ready!(self.pause.poll(after, cx));
                ready!(self.head())
            }
            Err(error) => Err(error),
        };
        self.done = true;
        self.entry.end(Ending::of(&answer));
        Poll::Ready(answer)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let done = self.done;
        self.ledger.release(|state| {
            state.in_flight -= 1;
            state.dropped += usize::from(!done);
        });
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("act", &self.act)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
