use std::{fmt, sync::Arc, time::Instant};

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::CONTENT_LENGTH,
};

use tower::Service;

use super::policy::{Attempts, Replayable, RetryPolicy};
use crate::{
    call::{Call, Joined, Stop, attach, find, set_attempt},
    classify::{Awaited, Credit, Verdict},
    clock,
    dispatch::Dispatch,
    error::{BoxError, Error, ErrorKind},
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

/// What all calls of a service share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) policy: RetryPolicy,
    /// Never polled, never called: clones of it serve later attempts.
    pub(crate) pristine: S,
    pub(crate) covered: bool,
}

/// A call that this layer retries.
#[derive(Debug)]
pub(crate) struct Calling<S, B> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) attempts: Attempts,
    /// None if there will be no second attempt.
    kept: Option<Kept<B>>,
}

impl<S, B: Replay + 'static> Calling<S, B> {
    /// A call whose first attempt is about to begin.
    pub(crate) fn new(
        request: &Request<B>,
        joined: Joined,
        shared: Arc<Shared<S>>,
        now: Instant,
    ) -> Self {
        let policy = &shared.policy;
        let attempts = Attempts::of(policy, joined, request.method(), request.headers(), now);
        let again = attempts.replay_limit(policy).is_some();
        Self {
            kept: again.then(|| Kept::copied(request)).flatten(),
            shared,
            attempts,
        }
    }

    pub(crate) fn call(&self) -> &Call {
        self.attempts.call()
    }

    /// How much of its body is to be recorded, since it could not be copied.
    pub(crate) fn to_record(&self) -> Option<usize> {
        let limit = self.attempts.replay_limit(&self.shared.policy);
        limit.filter(|_| self.kept.is_none())
    }

    pub(crate) fn record(&mut self, request: Request<B>, limit: usize) -> Request<B> {
        let (request, kept) = Kept::recorded(request, limit);
        self.kept = Some(kept);
        request
    }

    /// Begins an attempt with this request.
    pub(crate) fn stamp(&mut self, request: &mut Request<B>, now: Instant) {
        // A streamed body was made anew; whatever else was copied carries the call already.
        if find(request).is_none() {
            attach(request, self.attempts.call());
        }
        let replayable = self.replayable(false);
        let attempt = self.attempts.begin(&self.shared.policy, replayable, now);
        set_attempt(request, attempt);
        let policy = &self.shared.policy;
        policy.count_previous(request.headers_mut(), attempt.number);
    }

    /// Begins the attempt after a wait.
    pub(super) fn again(&mut self) -> Result<Dispatch<S, Request<B>>, Error>
    where
        S: Service<Request<B>> + Clone,
    {
        let now = clock::read();
        if self.attempts.call().deadline().has_passed(now) {
            return Err(self.overdue(now));
        }
        let Some(mut request) = self.kept.as_ref().and_then(Kept::again) else {
            let error = Error::new(ErrorKind::InvalidCall);
            return Err(error.with_report(self.attempts.report(now)));
        };
        self.stamp(&mut request, now);
        Ok(Dispatch::waiting(self.shared.pristine.clone(), request))
    }

    pub(super) fn replayable(&self, answered: bool) -> Replayable {
        let kept = self.kept.as_ref();
        kept.map_or(Replayable::Yes, |kept| kept.replayable(answered))
    }

    pub(super) fn overdue(&self, now: Instant) -> Error {
        Error::new(ErrorKind::DeadlineExceeded).with_report(self.attempts.report(now))
    }
}

/// What another attempt is made of: a flat copy of the request, dearer parts only where they are needed.
///
/// Dropped when the call is over: the recording stops and is freed, even while the body is still being sent.
struct Kept<B> {
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
