use std::{fmt, sync::Arc};

use super::deadline::Deadline;

/// The key that lets a server recognise two attempts as one call.
///
/// A visible-ASCII string of 1 to 255 characters; `Debug` shows its first four only.
///
/// ```
/// use evenkeel::IdempotencyKey;
/// let key = IdempotencyKey::new("order-42")?;
/// assert_eq!(key.as_str(), "order-42");
/// assert!(IdempotencyKey::new("two\nlines").is_err());
/// # Ok::<(), evenkeel::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// How far a destination de-duplicates: where a keyed call may be sent again once an attempt went unanswered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyScope {
    /// Within the zone of the first attempt.
    Zone,
    /// Within the region of the first attempt; the default, since stores that span regions are rare.
    #[default]
    Region,
    /// Anywhere.
    Global,
}

/// Where a call has to stay: what is set has to be the endpoint's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confinement {
    zone: Option<Arc<str>>,
    region: Option<Arc<str>>,
}

impl Confinement {
    /// Whether an endpoint there may be called; one of an unknown place may not.
    pub(crate) fn admits(&self, zone: Option<&Arc<str>>, region: Option<&Arc<str>>) -> bool {
        let same = |wanted: &Option<Arc<str>>, there: Option<&Arc<str>>| {
            wanted.is_none() || wanted.as_ref() == there
        };
        same(&self.zone, zone) && same(&self.region, region)
    }
}

impl KeyScope {
    /// Where a call has to stay whose first attempt was there; `None` for anywhere, or if the place is unknown.
    pub(crate) fn around(
        self,
        zone: Option<&Arc<str>>,
        region: Option<&Arc<str>>,
    ) -> Option<Confinement> {
        let zone = zone.filter(|_| self == Self::Zone).cloned();
        let region = region.filter(|_| self != Self::Global).cloned();
        (zone.is_some() || region.is_some()).then_some(Confinement { zone, region })
    }
}

/// The key of a call, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct CallKey {
    pub(crate) key: IdempotencyKey,
    /// The caller brought it, so that it may be running from an earlier call.
    pub(crate) from_caller: bool,
    /// After this the destination may have forgotten it.
    pub(crate) expires: Deadline,
    pub(crate) scope: KeyScope,
}

/// A key that cannot be sent as a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "idempotency key of {length} characters: allowed are 1 to 255 visible ASCII characters and inner spaces"
)]
pub struct InvalidKey {
    length: usize,
}

/// The longest key that the large payment services accept.
const MAX_LENGTH: usize = 255;

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// If it is empty, longer than 255 characters, begins or ends with a space, or holds anything but
    /// visible ASCII and spaces.
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidKey> {
        let key = key.as_ref();
        let visible = key.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if key.is_empty() || key.len() > MAX_LENGTH || !visible || key.trim() != key {
            return Err(InvalidKey { length: key.len() });
        }
        Ok(Self(Arc::from(key)))
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(4).collect();
        write!(f, "IdempotencyKey({shown}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_header_can_carry_are_refused() {
        for bad in [
            "",
            " ",
            "a\nb",
            "ü",
            " lead",
            "trail ",
            "\u{7f}",
            &"k".repeat(256),
        ] {
            assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(IdempotencyKey::new("k".repeat(255)).is_ok());
    }

    #[test]
    fn a_scope_confines_to_the_place_of_the_first_attempt() {
        let (a, b, region): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "r".into());
        let around = |scope: KeyScope| scope.around(Some(&a), Some(&region));
        assert_eq!(around(KeyScope::Global), None);
        let in_region = around(KeyScope::Region).expect("known");
        assert!(in_region.admits(Some(&b), Some(&region)) && in_region.admits(None, Some(&region)));
        assert!(!in_region.admits(Some(&a), Some(&b)) && !in_region.admits(Some(&a), None));
        let in_zone = around(KeyScope::Zone).expect("known");
        assert!(in_zone.admits(Some(&a), Some(&region)));
        assert!(!in_zone.admits(Some(&b), Some(&region)) && !in_zone.admits(None, Some(&region)));
        for scope in [KeyScope::Region, KeyScope::Zone] {
            assert_eq!(scope.around(None, None), None, "nothing is known");
        }
    }

    #[test]
    fn debug_shows_four_characters() {
        let key = IdempotencyKey::new("secret-order").expect("valid");
        assert_eq!(format!("{key:?}"), "IdempotencyKey(secr..)");
    }
}
