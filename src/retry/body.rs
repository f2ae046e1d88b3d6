use std::fmt;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::CONTENT_LENGTH,
};

use super::policy::{Replayable, RetryPolicy};
use crate::{
    call::Stop,
    classify::{Awaited, Credit, Verdict},
    error::{BoxError, Error},
    guarded::{End, Settle},
    replay::{Recording, Replay, Tape},
    sealed::Sealed,
};

/// Tells a budget that counts ends how a call ended whose head left that to the trailers. One that is dropped
/// before counts as its head says: if that said nothing, nobody knows.
#[derive(Debug)]
pub struct Tally {
    policy: RetryPolicy,
    awaited: Awaited,
    ended: bool,
}

impl Tally {
    /// What the head of a call's answer has left to its body.
    pub(super) fn of<B>(
        policy: &RetryPolicy,
        response: &Response<B>,
        verdict: &Verdict,
    ) -> Option<Self> {
        let awaited = policy.awaited(response, verdict)?;
        Some(Self::new(policy, awaited))
    }

    fn new(policy: &RetryPolicy, awaited: Awaited) -> Self {
        Self {
            policy: policy.clone(),
            awaited,
            ended: false,
        }
    }

    fn broke_off(&self, error: &BoxError) -> Credit {
        let ours = error.downcast_ref::<Error>();
        let classifier = &self.policy.settings().classifier;
        ours.map_or(Credit::Failure, |error| {
            Credit::of(&classifier.error(error), false)
        })
    }
}

impl Sealed for Tally {}

impl Settle for Tally {
    fn on_end(&mut self, end: End<'_>) {
        let classifier = &self.policy.settings().classifier;
        let credit = match end {
            End::Complete { trailers } => classifier.credit_at_end(self.awaited, trailers),
            End::Failed(error) => self.broke_off(error),
        };
        self.ended = true;
        self.policy.count(credit);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !self.ended && self.awaited == Awaited::Correction {
            self.policy.count(Credit::Success);
        }
    }
}

/// What another attempt is made of: a flat copy of the request, dearer parts only where they are needed.
///
/// Dropped when the call is over: the recording stops and is freed, even while the body is still being sent.
pub(super) struct Kept<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    body: KeptBody<B>,
}

enum KeptBody<B> {
    Memory(B),
    Stream {
        tape: Tape<B>,
        rebox: fn(Recording<B>) -> B,
    },
    Once,
}

impl<B: Replay> Kept<B> {
    /// A copy of a request whose body is in memory.
    pub(super) fn copied(request: &Request<B>) -> Option<Self> {
        let body = request.body().try_clone()?;
        Some(Self::with(request, KeptBody::Memory(body)))
    }

    /// A copy of a request whose streamed body is recorded from now on, up to `limit` bytes.
    pub(super) fn recorded(request: Request<B>, limit: usize) -> (Request<B>, Self) {
        let announced = announced_length(request.headers());
        let (parts, body) = request.into_parts();
        let (body, kept) = keep(body, limit, announced);
        let request = Request::from_parts(parts, body);
        let copy = Self::with(&request, kept);
        (request, copy)
    }

    fn with(request: &Request<B>, body: KeptBody<B>) -> Self {
        // From an iterator a `Vec` would reserve more than is there.
        let mut headers = Vec::with_capacity(request.headers().len());
        headers.extend(
            request
                .headers()
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers,
            extensions: request.extensions().clone(),
            body,
        }
    }

    /// The request as it was; `None` if its body is gone.
    pub(super) fn again(&self) -> Option<Request<B>> {
        let body = match &self.body {
            KeptBody::Memory(body) => body.try_clone()?,
            KeptBody::Stream { tape, rebox } => rebox(tape.again()),
            KeptBody::Once => return None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions.clone();
        let headers = request.headers_mut();
        headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Some(request)
    }
}

impl<B> Kept<B> {
    /// Whether it can be sent again; `answered` if a response came.
    pub(super) fn replayable(&self, answered: bool) -> Replayable {
        match &self.body {
            KeptBody::Memory(_) => Replayable::Yes,
            KeptBody::Stream { tape, .. } => tape
                .replayable(answered)
                .map_or_else(Replayable::No, |()| Replayable::Yes),
            KeptBody::Once => Replayable::No(Stop::BodyNotReplayable),
        }
    }
}

impl<B> Drop for KeptBody<B> {
    fn drop(&mut self) {
        if let Self::Stream { tape, .. } = self {
            tape.stop();
        }
    }
}

impl<B> fmt::Debug for Kept<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.method)
    }
}

fn keep<B: Replay>(body: B, limit: usize, announced: Option<u64>) -> (B, KeptBody<B>) {
    let Some(rebox) = B::rebox() else {
        return (body, KeptBody::Once);
    };
    let recording = Recording::start(body, limit, announced);
    let tape = recording.tape();
    (rebox(recording), KeptBody::Stream { tape, rebox })
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
