use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
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
    dispatch::Held,
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        match self.keyring.admit(request) {
            Ok((request, joined)) => {
                KeyFuture::new(self.held.call_for(&joined.call, request), joined)
            }
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
    fn admit<B: 'static>(&self, mut request: Request<B>) -> Result<(Request<B>, Joined), Error> {
        let joined = call::join(&mut request, clock::read)?;
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
            Decision::Write(key) => self.put(call, key, true, &mut request),
            Decision::Generate => request = self.generate(call, request)?,
            Decision::Refuse(count) => return Err(self.ambiguous(count)),
        }
        Ok((request, joined))
    }

    /// Writes the key of the call, which is drawn now if this is the first attempt.
    fn generate<B>(&self, call: &Call, mut request: Request<B>) -> Result<Request<B>, Error> {
        if let Some(known) = call.key() {
            self.policy.write(request.headers_mut(), &known.key);
            return Ok(request);
        }
        let (key, mut request) = self.natural(request)?;
        let key = key.map_or_else(|| self.draw(), Ok).map_err(unusable)?;
        self.put(call, key, false, &mut request);
        Ok(request)
    }

    /// Asks the user for the key that follows from the request, if there is one.
    fn natural<B>(
        &self,
        request: Request<B>,
    ) -> Result<(Option<IdempotencyKey>, Request<B>), Error> {
        let Some(natural) = &self.natural else {
            return Ok((None, request));
        };
        let (parts, body) = request.into_parts();
        let key = natural(&parts)
            .map(IdempotencyKey::new)
            .transpose()
            .map_err(unusable)?;
        Ok((key, Request::from_parts(parts, body)))
    }

    fn draw(&self) -> Result<IdempotencyKey, InvalidKey> {
        let mut text = [0; Hyphenated::LENGTH];
        IdempotencyKey::new(self.source.draw().hyphenated().encode_lower(&mut text))
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
