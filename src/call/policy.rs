use std::time::Duration;

use super::key::IdempotencyKey;
use crate::error::InvalidSetting;

/// What one call wants to be treated like, where it differs from its client.
///
/// Put into the request's extensions (or given to `RequestBuilder::policy`) and read once, by the outermost
/// layer of ours. Setters only record; what is out of range fails the call before anything is sent.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::CallPolicy;
///
/// let mut request = http::Request::post("/charges").body(()).unwrap();
/// request.extensions_mut().insert(
///     CallPolicy::new().deadline(Duration::from_secs(1)).idempotency_key("order-42"),
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallPolicy {
    deadline: Option<Duration>,
    attempt_timeout: Option<Duration>,
    body_idle: Option<Duration>,
    max_attempts: Option<u32>,
    idempotent: Option<bool>,
    safe: Option<bool>,
    unary: Option<bool>,
    key: KeyChoice,
    key_lifetime: Option<Duration>,
}

/// What the call says about its idempotency key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyChoice {
    /// As the client does.
    #[default]
    Inherit,
    /// None for this call.
    Without,
    /// This one.
    Given(IdempotencyKey),
    /// One that no header can carry; its length.
    Invalid(usize),
}

impl CallPolicy {
    /// As the client is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole call may take this long; replaces the client's deadline, shorter or longer.
    ///
    /// Range: above zero; [`Duration::MAX`] means no deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// No deadline for this call; for streams that stay open. An inherited one still holds.
    #[must_use]
    pub fn no_deadline(self) -> Self {
        self.deadline(Duration::MAX)
    }

    /// Each attempt may take this long until its response head; replaces the client's limit.
    ///
    /// Range: above zero; [`Duration::MAX`] means no limit.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// The response body may be silent for this long; replaces the client's limit.
    ///
    /// Range: above zero; [`Duration::MAX`] means no limit.
    #[must_use]
    pub fn body_idle(mut self, limit: Duration) -> Self {
        self.body_idle = Some(limit);
        self
    }

    /// How often the call may be sent, the first time included; replaces the client's number.
    ///
    /// Range: 1 and above; 1 means no retry.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Sent once, whatever happens.
    #[must_use]
    pub fn no_retry(self) -> Self {
        self.max_attempts(1)
    }

    /// Says whether repeating this call does no harm, whatever its method says.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// Says that this call only reads, whatever its method says: repeating it does no harm unless
    /// [`idempotent`](Self::idempotent) says otherwise, and it needs no generated key.
    ///
    /// For gRPC, where every method is a `POST`.
    #[must_use]
    pub fn safe(mut self, safe: bool) -> Self {
        self.safe = Some(safe);
        self
    }

    /// Says that this gRPC call has one request message and one answer, which nothing in a request shows.
    ///
    /// Then an attempt lasts until the first message or the status of its answer, so that a failure in between can be
    /// [retried](crate::commit); the client's default deadline holds until the end, and the server is told of it and of
    /// the attempt's limit. An answer that may stream is not waited for, outlives the default deadline, and its server
    /// is told of the deadline alone that somebody chose. **Default**: it may stream.
    #[must_use]
    pub fn unary(mut self, unary: bool) -> Self {
        self.unary = Some(unary);
        self
    }

    /// The key of this call; says that its destination de-duplicates by it.
    ///
    /// The idempotency key layer puts it into the header; the ready-made clients always have one. In a stack by hand
    /// without that layer it is not sent, so it makes no retry safe.
    ///
    /// Range: 1 to 255 visible ASCII characters.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl AsRef<str>) -> Self {
        let key = key.as_ref();
        self.key = IdempotencyKey::new(key).map_or(KeyChoice::Invalid(key.len()), KeyChoice::Given);
        self
    }

    /// How long its destination remembers this call's key, from the start of the call on; no retry that needs the
    /// key begins later.
    ///
    /// For a key that the caller brings here or in a header, of which nobody else can know when it was first used;
    /// of a generated key it replaces the layer's lifetime. Range: above zero; [`Duration::MAX`] means for ever.
    /// **Default**: 24 h ([`DEFAULT_LIFETIME`](crate::idempotency::DEFAULT_LIFETIME)) for a generated key unless its layer says
    /// otherwise, for ever for a caller's.
    #[must_use]
    pub fn idempotency_key_lifetime(mut self, lifetime: Duration) -> Self {
        self.key_lifetime = Some(lifetime);
        self
    }

    /// No generated key for this call.
    #[must_use]
    pub fn no_idempotency_key(mut self) -> Self {
        self.key = KeyChoice::Without;
        self
    }

    pub(crate) fn deadline_given(&self) -> Option<Duration> {
        self.deadline
    }

    pub(crate) fn attempt_timeout_given(&self) -> Option<Duration> {
        self.attempt_timeout
    }

    pub(crate) fn body_idle_given(&self) -> Option<Duration> {
        self.body_idle
    }

    pub(crate) fn max_attempts_given(&self) -> Option<u32> {
        self.max_attempts
    }

    pub(crate) fn idempotent_given(&self) -> Option<bool> {
        self.idempotent.or_else(|| self.is_safe().then_some(true))
    }

    pub(crate) fn is_safe(&self) -> bool {
        self.safe == Some(true)
    }

    pub(crate) fn is_unary(&self) -> bool {
        self.unary == Some(true)
    }

    pub(crate) fn key_lifetime_given(&self) -> Option<Duration> {
        self.key_lifetime
    }

    /// What is said about a key; a call that only reads needs none.
    pub(crate) fn key_choice(&self) -> &KeyChoice {
        match &self.key {
            KeyChoice::Inherit if self.is_safe() => &KeyChoice::Without,
            choice => choice,
        }
    }

    /// The same with a deadline that is no longer than this.
    pub(crate) fn within(mut self, longest: Duration) -> Self {
        let deadline = self.deadline.unwrap_or(longest);
        self.deadline = Some(deadline.min(longest));
        self
    }

    /// The same without a word about the deadline.
    pub(crate) fn untimed(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// What this one leaves open is as `below` has it.
    pub(crate) fn over(self, below: &Self) -> Self {
        let deadline = self.deadline.or(below.deadline);
        // A limit that was meant for a longer call: this one's deadline is limit enough.
        let fits = |limit: &Duration| deadline.is_none_or(|deadline| *limit <= deadline);
        Self {
            deadline,
            attempt_timeout: self
                .attempt_timeout
                .or_else(|| below.attempt_timeout.filter(fits)),
            body_idle: self.body_idle.or(below.body_idle),
            max_attempts: self.max_attempts.or(below.max_attempts),
            idempotent: self.idempotent.or(below.idempotent),
            safe: self.safe.or(below.safe),
            unary: self.unary.or(below.unary),
            key: match self.key {
                KeyChoice::Inherit => below.key.clone(),
                own => own,
            },
            key_lifetime: self.key_lifetime.or(below.key_lifetime),
        }
    }

    /// Says what is out of range.
    ///
    /// # Errors
    /// A zero duration, zero attempts, or a key that no header can carry.
    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        let durations = [
            ("CallPolicy::deadline", self.deadline),
            ("CallPolicy::attempt_timeout", self.attempt_timeout),
            ("CallPolicy::body_idle", self.body_idle),
            ("CallPolicy::idempotency_key_lifetime", self.key_lifetime),
        ];
        for (field, duration) in durations {
            if duration == Some(Duration::ZERO) {
                return Err(InvalidSetting::new(
                    field,
                    "0s",
                    "above zero; Duration::MAX means no limit",
                ));
            }
        }
        if let (Some(limit), Some(deadline)) = (self.attempt_timeout, self.deadline)
            && limit > deadline
            && limit != Duration::MAX
        {
            let value = format!("{limit:?}");
            return Err(InvalidSetting::new(
                "CallPolicy::attempt_timeout",
                value,
                "at most the call's deadline",
            ));
        }
        if self.max_attempts == Some(0) {
            return Err(InvalidSetting::new(
                "CallPolicy::max_attempts",
                0,
                "1 and above",
            ));
        }
        if let KeyChoice::Invalid(length) = self.key {
            let value = format!("a key of {length} bytes");
            return Err(InvalidSetting::new(
                "CallPolicy::idempotency_key",
                value,
                "1 to 255 visible ASCII characters",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_out_of_range_is_named() {
        let cases = [
            (
                CallPolicy::new().deadline(Duration::ZERO),
                "CallPolicy::deadline",
            ),
            (
                CallPolicy::new().attempt_timeout(Duration::ZERO),
                "CallPolicy::attempt_timeout",
            ),
            (
                CallPolicy::new().body_idle(Duration::ZERO),
                "CallPolicy::body_idle",
            ),
            (
                CallPolicy::new().idempotency_key_lifetime(Duration::ZERO),
                "CallPolicy::idempotency_key_lifetime",
            ),
            (
                CallPolicy::new().max_attempts(0),
                "CallPolicy::max_attempts",
            ),
            (
                CallPolicy::new().idempotency_key("a\nb"),
                "CallPolicy::idempotency_key",
            ),
            (
                CallPolicy::new()
                    .deadline(Duration::from_secs(1))
                    .attempt_timeout(Duration::from_secs(2)),
                "CallPolicy::attempt_timeout",
            ),
        ];
        for (policy, field) in cases {
            let error = policy.check().expect_err(field);
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn a_refused_key_is_not_shown() {
        let error = CallPolicy::new()
            .idempotency_key("topsecret\n")
            .check()
            .expect_err("newline");
        assert!(!error.to_string().contains("topsecret"));
    }

    #[test]
    fn what_a_call_leaves_open_is_as_its_method_has_it() {
        let seconds = Duration::from_secs;
        let method = CallPolicy::new()
            .deadline(seconds(9))
            .attempt_timeout(seconds(2))
            .max_attempts(5)
            .safe(true);
        let merged = CallPolicy::new().deadline(seconds(3)).over(&method);
        assert_eq!(merged.deadline_given(), Some(seconds(3)));
        assert_eq!(merged.attempt_timeout_given(), Some(seconds(2)));
        assert_eq!(merged.max_attempts_given(), Some(5));
        assert_eq!(merged.idempotent_given(), Some(true));
        assert_eq!(merged.key_choice(), &KeyChoice::Without);

        let shorter = CallPolicy::new()
            .deadline(seconds(1))
            .idempotent(false)
            .over(&method);
        assert_eq!(shorter.attempt_timeout_given(), None, "it would not fit");
        assert_eq!(shorter.idempotent_given(), Some(false));
        assert!(shorter.check().is_ok());
    }

    #[test]
    fn no_deadline_is_the_longest_duration() {
        let policy = CallPolicy::new().no_deadline().no_retry();
        assert_eq!(policy.deadline_given(), Some(Duration::MAX));
        assert_eq!(policy.max_attempts_given(), Some(1));
        assert!(policy.check().is_ok());
    }
}
