use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{Entry, InvalidHeaderName},
};

use super::config::IdempotencyKeys;
use crate::{
    call::{CallKey, Deadline, IdempotencyKey, KeyChoice, KeyScope},
    error::InvalidSetting,
};

/// Checked settings: what becomes of a request's key.
#[derive(Debug)]
pub(crate) struct KeyPolicy {
    methods: Vec<Method>,
    header: HeaderName,
    quoted: bool,
    lifetime: Duration,
    trust_caller_keys: bool,
    scope: KeyScope,
}

/// What to do about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes as it is, and without a key.
    Leave,
    /// It goes as it is, and its own key makes no retry safe.
    Distrust,
    /// It goes as it is; its own key counts.
    Respect(IdempotencyKey),
    /// It gets the key that the caller gave for this call.
    Write(IdempotencyKey),
    /// It gets a key of ours.
    Generate,
    /// It brings this many keys at once.
    Refuse(usize),
}

impl KeyPolicy {
    /// Checks the settings.
    ///
    /// # Errors
    /// A header name that is none, or a lifetime of zero.
    pub(crate) fn try_new(keys: &IdempotencyKeys) -> Result<Self, InvalidSetting> {
        let header = header_name(&keys.header).map_err(|_invalid| {
            let allowed = "an HTTP header name";
            InvalidSetting::new(
                "IdempotencyKeys::header",
                format!("{:?}", keys.header),
                allowed,
            )
        })?;
        if keys.lifetime.is_zero() {
            let allowed = "above zero; Duration::MAX means for ever";
            return Err(InvalidSetting::new(
                "IdempotencyKeys::lifetime",
                "0s",
                allowed,
            ));
        }
        Ok(Self {
            methods: keys.methods.clone(),
            header,
            quoted: keys.quoted,
            lifetime: keys.lifetime,
            trust_caller_keys: keys.trust_caller_keys,
            scope: keys.scope,
        })
    }

    /// Decides by what the request brings and what was said for this call.
    pub(crate) fn decide(
        &self,
        method: &Method,
        headers: &HeaderMap,
        choice: &KeyChoice,
    ) -> Decision {
        let mut brought = headers.get_all(&self.header).iter();
        match (brought.next(), brought.count(), choice) {
            (Some(_), _, KeyChoice::Without) => Decision::Distrust,
            (Some(_), ..) if !self.trust_caller_keys => Decision::Distrust,
            (Some(value), 0, _) => readable(value).map_or(Decision::Distrust, Decision::Respect),
            (Some(_), more, _) => Decision::Refuse(more + 1),
            (None, _, KeyChoice::Given(key)) => Decision::Write(key.clone()),
            (None, _, KeyChoice::Inherit) if self.methods.contains(method) => Decision::Generate,
            (None, ..) => Decision::Leave,
        }
    }

    /// What a call that started then remembers of its key, whose lifetime the caller may have stated.
    ///
    /// When a caller's key was first used, only the caller knows: without a word it does not expire.
    pub(crate) fn remember(
        &self,
        key: IdempotencyKey,
        from_caller: bool,
        stated: Option<Duration>,
        started: Instant,
    ) -> CallKey {
        let lifetime = match stated {
            Some(stated) => stated,
            None if from_caller => Duration::MAX,
            None => self.lifetime,
        };
        CallKey {
            key,
            from_caller,
            expires: Deadline::after(started, lifetime),
            scope: self.scope,
        }
    }

    /// Puts the key into its header, unless there is one.
    pub(crate) fn write(&self, headers: &mut HeaderMap, key: &IdempotencyKey) {
        if let (Entry::Vacant(entry), Some(value)) = (headers.entry(&self.header), self.value(key))
        {
            entry.insert(value);
        }
    }

    fn value(&self, key: &IdempotencyKey) -> Option<HeaderValue> {
        if !self.quoted {
            return Some(key.value().clone());
        }
        let mut value = HeaderValue::try_from(quote(key.as_str())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(crate) fn header(&self) -> &HeaderName {
        &self.header
    }
}

fn header_name(name: &str) -> Result<HeaderName, InvalidHeaderName> {
    HeaderName::from_bytes(name.as_bytes())
}

/// A caller's key that we can speak of; an empty or binary one proves nothing.
fn readable(value: &HeaderValue) -> Option<IdempotencyKey> {
    IdempotencyKey::new(value.to_str().ok()?).ok()
}

/// An RFC 8941 string: the characters 0x20 to 0x7e, of which `"` and `\` are escaped.
fn quote(key: &str) -> String {
    let mut quoted = String::with_capacity(key.len() + 2);
    quoted.push('"');
    for char in key.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(keys: IdempotencyKeys) -> KeyPolicy {
        KeyPolicy::try_new(&keys).expect("valid settings")
    }

    fn key(key: &str) -> IdempotencyKey {
        IdempotencyKey::new(key).expect("a valid key")
    }

    fn brings(values: &[&'static str]) -> HeaderMap {
        let name = HeaderName::from_static("idempotency-key");
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    fn decide(keys: IdempotencyKeys, method: Method, brought: &[&'static str]) -> Decision {
        policy(keys).decide(&method, &brings(brought), &KeyChoice::Inherit)
    }

    // IDK-03 (tryAGI/AutoSDK#238)
    #[test]
    fn only_the_configured_methods_get_a_key() {
        let keys = IdempotencyKeys::default;
        for method in [Method::POST, Method::PATCH] {
            assert_eq!(decide(keys(), method, &[]), Decision::Generate);
        }
        for method in [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::DELETE,
        ] {
            assert_eq!(decide(keys(), method, &[]), Decision::Leave);
        }
        assert_eq!(
            decide(keys().methods([Method::PUT]), Method::PUT, &[]),
            Decision::Generate
        );
        assert_eq!(
            decide(keys().methods([]), Method::POST, &[]),
            Decision::Leave
        );
    }

    #[test]
    fn a_callers_key_counts_on_any_method_unless_it_is_distrusted() {
        for method in [Method::POST, Method::PUT, Method::GET] {
            let keys = IdempotencyKeys::default;
            let respected = Decision::Respect(key("mykey123"));
            assert_eq!(decide(keys(), method.clone(), &["mykey123"]), respected);
            let distrusting = keys().trust_caller_keys(false);
            assert_eq!(
                decide(distrusting, method, &["mykey123"]),
                Decision::Distrust
            );
        }
    }

    #[test]
    fn a_header_that_is_no_key_proves_nothing_and_is_not_replaced() {
        for value in ["", "k\tk"] {
            assert_eq!(
                decide(IdempotencyKeys::default(), Method::POST, &[value]),
                Decision::Distrust
            );
        }
    }

    #[test]
    fn two_keys_are_refused() {
        let decision = decide(IdempotencyKeys::default(), Method::POST, &["one", "two"]);
        assert_eq!(decision, Decision::Refuse(2));
    }

    #[test]
    fn what_is_said_for_the_call_decides_but_the_header_has_precedence() {
        let policy = policy(IdempotencyKeys::default());
        let given = KeyChoice::Given(key("order-42"));
        let decide = |method, brought, choice| policy.decide(method, &brings(brought), choice);
        let written = Decision::Write(key("order-42"));
        assert_eq!(decide(&Method::POST, &[], &given), written);
        assert_eq!(
            decide(&Method::DELETE, &[], &given),
            written,
            "whatever the method"
        );
        assert_eq!(
            decide(&Method::POST, &["h"], &given),
            Decision::Respect(key("h"))
        );
        assert_eq!(
            decide(&Method::POST, &[], &KeyChoice::Without),
            Decision::Leave
        );
        assert_eq!(
            decide(&Method::POST, &["h"], &KeyChoice::Without),
            Decision::Distrust
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let keys = IdempotencyKeys::default;
        for (keys, field) in [
            (keys().header("not a name"), "IdempotencyKeys::header"),
            (keys().header(""), "IdempotencyKeys::header"),
            (keys().lifetime(Duration::ZERO), "IdempotencyKeys::lifetime"),
        ] {
            assert_eq!(KeyPolicy::try_new(&keys).expect_err(field).field(), field);
        }
    }

    #[test]
    fn a_key_is_written_once_and_hidden_from_debug() {
        let policy = policy(IdempotencyKeys::default().header("X-Request-Token"));
        let mut headers = HeaderMap::new();
        policy.write(&mut headers, &key("first"));
        policy.write(&mut headers, &key("second"));
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-request-token"], "first");
        assert!(!format!("{headers:?}").contains("first"));
    }

    #[test]
    fn a_generated_key_lives_a_day_and_a_callers_as_long_as_the_caller_says() {
        let now = Instant::now();
        let policy = policy(IdempotencyKeys::default());
        let day = Duration::from_secs(86_400);
        let hour = Duration::from_secs(3_600);
        for (from_caller, stated, lives) in [
            (false, None, day),
            (false, Some(hour), hour),
            (true, None, Duration::MAX),
            (true, Some(hour), hour),
            (true, Some(Duration::MAX), Duration::MAX),
        ] {
            let remembered = policy.remember(key("k"), from_caller, stated, now);
            assert_eq!(remembered.expires, Deadline::after(now, lives));
        }
    }

    #[test]
    fn every_key_has_the_scope_of_its_destination() {
        let policy = policy(IdempotencyKeys::default().scope(KeyScope::Zone));
        for from_caller in [true, false] {
            let remembered = policy.remember(key("k"), from_caller, None, Instant::now());
            assert_eq!(remembered.scope, KeyScope::Zone);
        }
    }

    proptest! {
        #[test]
        fn a_quoted_key_is_a_structured_string_and_reads_back(text in "[!-~]([ -~]{0,40}[!-~])?") {
            let policy = policy(IdempotencyKeys::default().quoted());
            let value = policy.value(&key(&text)).expect("a header value");
            let value = value.to_str().expect("ascii");
            let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let mut read = String::new();
            let mut chars = inner.expect("quoted").chars();
            while let Some(char) = chars.next() {
                prop_assert_ne!(char, '"');
                read.push(if char == '\\' { chars.next().expect("escaped") } else { char });
            }
            prop_assert_eq!(read, text);
        }
    }
}
