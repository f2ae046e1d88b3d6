use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use tower::Service;
use uuid::fmt::Hyphenated;

use super::{
    config::{IdempotencyKeys, NaturalKey},
    future::KeyFuture,
    policy::{Decision, KeyPolicy},
};
use crate::{
    call::{self, Call, IdempotencyKey, InvalidKey, Joined},
    clock,
    dispatch::{Dispatch, Held},
    error::{BoxError, Error, ErrorKind, InvalidSetting},
    rng::KeySource,
};

/// Puts keys on calls of the inner service: see [`IdempotencyKeyLayer`](crate::IdempotencyKeyLayer).
#[derive(Clone, Debug)]
pub struct IdempotencyKeyService<S> {
    held: Held<S>,
    keyring: Arc<Keyring>,
}

impl<S> IdempotencyKeyService<S> {
    pub(crate) const fn new(inner: S, keyring: Arc<Keyring>) -> Self {
        Self {
            held: Held::new(inner),
            keyring,
        }
    }
}

impl<S, B, RB> Service<Request<B>> for IdempotencyKeyService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
{
    type Response = Response<RB>;
    type Error = Error;
    type Future = KeyFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.held.poll(cx);
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        match self.keyring.admit(&mut request) {
            Ok(joined) => match self.held.ready(Some(&joined.call)) {
                Some(inner) => KeyFuture::new(Dispatch::running(inner.call(request)), joined),
                None => KeyFuture::parked(&mut self.held, request, joined),
            },
            Err(error) => {
                self.held.release();
                KeyFuture::refused(error)
            }
        }
    }
}

/// The policy of keys, and where new ones come from.
pub(crate) struct Keyring {
    policy: KeyPolicy,
    natural: Option<NaturalKey>,
    source: KeySource,
}

impl Keyring {
    pub(crate) fn try_new(keys: IdempotencyKeys) -> Result<Self, InvalidSetting> {
        let policy = KeyPolicy::try_new(&keys)?;
        let IdempotencyKeys {
            natural, source, ..
        } = keys;
        Ok(Self {
            policy,
            natural,
            source,
        })
    }

    /// Opens or joins the call and sees to its key.
    ///
    /// # Errors
    /// If the call's policy or its key is none that can be sent; nothing was.
    fn admit<B: 'static>(&self, request: &mut Request<B>) -> Result<Joined, Error> {
        let joined = call::join(request, clock::read)?;
        let call = &*joined.call;
        let choice = call.policy().key_choice();
        match self
            .policy
            .decide(request.method(), request.headers(), choice)
        {
            Decision::Leave => {}
            Decision::Distrust => {
                call.decide_key(|| None);
            }
            Decision::Respect(key) => {
                self.decided(call, key, true);
            }
            Decision::Write(key) => self.put(call, key, true, request),
            Decision::Generate => self.generate(call, request)?,
            Decision::Refuse(count) => return Err(self.ambiguous(count)),
        }
        Ok(joined)
    }

    /// Writes the key of the call, which is drawn now if this is the first attempt.
    fn generate<B>(&self, call: &Call, request: &mut Request<B>) -> Result<(), Error> {
        if let Some(known) = call.key() {
            self.policy.write(request.headers_mut(), &known.key);
            return Ok(());
        }
        let key = self.natural(request)?;
        let key = key.map_or_else(|| self.draw(), Ok).map_err(unusable)?;
        self.put(call, key, false, request);
        Ok(())
    }

    /// Asks the user for the key that follows from the request, if there is one.
    fn natural<B>(&self, request: &mut Request<B>) -> Result<Option<IdempotencyKey>, Error> {
        let Some(natural) = &self.natural else {
            return Ok(None);
        };
        // The function looks at the parts themselves: taken out for it and put back, so that no call without one has
        // to be taken apart.
        let (mut parts, ()) = Request::new(()).into_parts();
        swap_heads(request, &mut parts);
        let key = natural(&parts);
        swap_heads(request, &mut parts);
        key.map(IdempotencyKey::new).transpose().map_err(unusable)
    }

    fn draw(&self) -> Result<IdempotencyKey, InvalidKey> {
        let mut text = [0; Hyphenated::LENGTH];
        self.source.draw().hyphenated().encode_lower(&mut text);
        IdempotencyKey::made(text)
    }

    fn put<B>(&self, call: &Call, key: IdempotencyKey, given: bool, request: &mut Request<B>) {
        if let Some(key) = self.decided(call, key, given) {
            self.policy.write(request.headers_mut(), key);
        }
    }

    /// The key of the call: this one, unless one was decided before.
    fn decided<'a>(
        &self,
        call: &'a Call,
        key: IdempotencyKey,
        from_caller: bool,
    ) -> Option<&'a IdempotencyKey> {
        let (stated, started) = (call.policy().key_lifetime_given(), call.started());
        let remember = || self.policy.remember(key, from_caller, stated, started);
        let decided = call.decide_key(|| Some(remember()));
        decided.map(|decided| &decided.key)
    }

    fn ambiguous(&self, count: usize) -> Error {
        let value = format!("{count} values of the header {}", self.policy.header());
        let invalid = InvalidSetting::new("idempotency key", value, "one key per request");
        Error::new(ErrorKind::InvalidCall).with_source(invalid)
    }
}

fn swap_heads<B>(request: &mut Request<B>, parts: &mut Parts) {
    mem::swap(request.method_mut(), &mut parts.method);
    mem::swap(request.uri_mut(), &mut parts.uri);
    mem::swap(request.version_mut(), &mut parts.version);
    mem::swap(request.headers_mut(), &mut parts.headers);
    mem::swap(request.extensions_mut(), &mut parts.extensions);
}

fn unusable(invalid: InvalidKey) -> Error {
    Error::new(ErrorKind::InvalidCall).with_source(invalid)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
