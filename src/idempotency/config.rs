use std::{fmt, sync::Arc, time::Duration};

use http::{Method, request::Parts};

use crate::{call::KeyScope, rng::KeySource};

/// The header of the IETF draft `draft-ietf-httpapi-idempotency-key-header`, and of most payment services.
pub const DEFAULT_HEADER: &str = "Idempotency-Key";

/// How long a destination is taken to remember a key: 24 h, what the large payment services promise.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How the keys of a destination are made and where they go.
///
/// Setters only record; [`IdempotencyKeyLayer::new`](crate::IdempotencyKeyLayer::new) checks.
#[derive(Clone)]
pub struct IdempotencyKeys {
    pub(crate) methods: Vec<Method>,
    pub(crate) header: String,
    pub(crate) quoted: bool,
    pub(crate) natural: Option<NaturalKey>,
    pub(crate) lifetime: Duration,
    pub(crate) trust_caller_keys: bool,
    pub(crate) scope: KeyScope,
    pub(crate) source: KeySource,
}

/// A key that follows from the request.
pub(crate) type NaturalKey = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

impl Default for IdempotencyKeys {
    fn default() -> Self {
        Self {
            methods: vec![Method::POST, Method::PATCH],
            header: DEFAULT_HEADER.to_owned(),
            quoted: false,
            natural: None,
            lifetime: DEFAULT_LIFETIME,
            trust_caller_keys: true,
            scope: KeyScope::default(),
            source: KeySource::default(),
        }
    }
}

impl IdempotencyKeys {
    /// Requests with these methods get a key.
    ///
    /// With none, no key is made, and those of callers still count. **Default**: `POST` and `PATCH`, since
    /// the other unsafe methods, `PUT` and `DELETE`, are idempotent by RFC 9110.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// The header that carries the key.
    ///
    /// Range: an HTTP header name. **Default**: [`DEFAULT_HEADER`].
    #[must_use]
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = name.into();
        self
    }

    /// Sends keys as a quoted string, as the IETF draft asks for (an RFC 8941 string).
    ///
    /// **Default**: bare, since most services in use take the value as it stands.
    #[must_use]
    pub fn quoted(mut self) -> Self {
        self.quoted = true;
        self
    }

    /// Takes the key from the request instead of drawing one; asked once per call.
    ///
    /// For calls that are the same whoever repeats them, such as "pay order 42". `None` draws a key. A key
    /// that no header can carry fails the call before it is sent. **Default**: none, a version 4 UUID is
    /// drawn.
    #[must_use]
    pub fn natural_key(
        mut self,
        key: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.natural = Some(Arc::new(key));
        self
    }

    /// How long the destination remembers a key that is made here: no attempt is made later than this after the
    /// call's start.
    ///
    /// A caller's key may be older than the call: it is limited by
    /// [`CallPolicy::idempotency_key_lifetime`](crate::CallPolicy::idempotency_key_lifetime) alone. Range: above
    /// zero; [`Duration::MAX`] means for ever. **Default**: [`DEFAULT_LIFETIME`].
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whether a key in a caller's header says that the destination de-duplicates by it.
    ///
    /// Such a key is sent as it is in either case; untrusted, it makes no retry safe. **Default**: `true`.
    #[must_use]
    pub fn trust_caller_keys(mut self, trust: bool) -> Self {
        self.trust_caller_keys = trust;
        self
    }

    /// How far the destination's memory of keys reaches.
    ///
    /// After an attempt without an answer, a call that only its key makes repeatable goes to no endpoint outside of
    /// it: see the [module](crate::idempotency). **Default**: [`KeyScope::Region`], since stores that span regions
    /// are rare.
    #[must_use]
    pub fn scope(mut self, scope: KeyScope) -> Self {
        self.scope = scope;
        self
    }

    /// Draws the same keys for the same seed. For tests: two clients with one seed would share keys.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.source = KeySource::seeded(seed);
        self
    }

    /// By this seed, unless there is one.
    #[cfg(feature = "test-util")]
    pub(crate) fn seeded_unless_set(self, seed: u64) -> Self {
        match self.source.is_seeded() {
            true => self,
            false => self.seeded(seed),
        }
    }
}

impl fmt::Debug for IdempotencyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKeys")
            .field("methods", &self.methods)
            .field("header", &self.header)
            .field("quoted", &self.quoted)
            .field("natural", &self.natural.is_some())
            .field("lifetime", &self.lifetime)
            .field("trust_caller_keys", &self.trust_caller_keys)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
