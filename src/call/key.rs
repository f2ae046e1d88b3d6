use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::HeaderValue;

use super::deadline::Deadline;

/// The key that lets a server recognise two attempts as one call.
///
/// A visible-ASCII string of 1 to 255 characters; `Debug` shows its first four only, of a short one less.
///
/// ```
/// use evenkeel::IdempotencyKey;
/// let key = IdempotencyKey::new("order-42")?;
/// assert_eq!(key.as_str(), "order-42");
/// assert!(IdempotencyKey::new("two\nlines").is_err());
/// # Ok::<(), evenkeel::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(HeaderValue);

/// How far a destination de-duplicates: where a keyed call may be sent again once an attempt went unanswered.
///
/// The place that counts is that of the endpoint which left the attempt unanswered, as its [`Endpoint`] names it.
/// Endpoints without a region (and zone) are all in one place.
///
/// [`Endpoint`]: crate::Endpoint
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyScope {
    /// Within that zone of that region.
    Zone,
    /// Within that region; the default, since stores that span regions are rare.
    #[default]
    Region,
    /// Anywhere.
    Global,
}

/// Where a call has to stay, since its key is known there. No name is a place of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confinement {
    region: Option<Arc<str>>,
    /// `None` for all zones of the region.
    zone: Option<Option<Arc<str>>>,
}

impl Confinement {
    /// Whether an endpoint there may be called.
    pub(crate) fn admits(&self, zone: Option<&Arc<str>>, region: Option<&Arc<str>>) -> bool {
        let in_zone = |own: &Option<Arc<str>>| own.as_ref() == zone;
        self.region.as_ref() == region && self.zone.as_ref().is_none_or(in_zone)
    }
}

impl KeyScope {
    /// Where a call has to stay whose key came to this place; `None` for anywhere.
    pub(crate) fn around(
        self,
        zone: Option<&Arc<str>>,
        region: Option<&Arc<str>>,
    ) -> Option<Confinement> {
        let zone = match self {
            Self::Zone => Some(zone.cloned()),
            Self::Region => None,
            Self::Global => return None,
        };
        let region = region.cloned();
        Some(Confinement { region, zone })
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

/// How much of a key is shown.
const SHOWN: usize = 4;

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
        Self::shared(Bytes::copy_from_slice(key.as_bytes()))
    }

    /// One that is made here, of visible characters.
    ///
    /// Kept in what headers of all attempts can share: a value that is made of a text takes a copy of it, and one more
    /// block when it is cloned first.
    pub(crate) fn made<const N: usize>(key: [u8; N]) -> Result<Self, InvalidKey> {
        Self::shared(Bytes::from_owner(key))
    }

    fn shared(key: Bytes) -> Result<Self, InvalidKey> {
        let length = key.len();
        let value = HeaderValue::from_maybe_shared(key);
        let mut value = value.map_err(|_invalid| InvalidKey { length })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// As a header carries it; not to be shown.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked when it was made.
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.as_str()[..SHOWN.min(self.0.len() / 2)];
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
    fn a_scope_is_the_region_or_the_zone_within_it_and_no_name_is_a_place_too() {
        let places: [(Option<&str>, Option<&str>); 6] = [
            (Some("eu"), Some("a")),
            (Some("eu"), Some("b")),
            (Some("eu"), None),
            (Some("us"), Some("a")),
            (None, Some("a")),
            (None, None),
        ];
        let name = |name: Option<&str>| name.map(Arc::<str>::from);
        let admitted = |scope: KeyScope, own: usize| -> Vec<usize> {
            let (region, zone) = places[own];
            let around = scope.around(name(zone).as_ref(), name(region).as_ref());
            let confinement = around.expect("not everywhere");
            let admits = |index: &usize| {
                let (region, zone) = places[*index];
                confinement.admits(name(zone).as_ref(), name(region).as_ref())
            };
            (0..places.len()).filter(admits).collect()
        };
        assert_eq!(admitted(KeyScope::Region, 0), [0, 1, 2]);
        assert_eq!(admitted(KeyScope::Region, 5), [4, 5]);
        assert_eq!(admitted(KeyScope::Zone, 0), [0]);
        assert_eq!(admitted(KeyScope::Zone, 2), [2]);
        assert_eq!(admitted(KeyScope::Zone, 5), [5]);
        assert_eq!(KeyScope::Global.around(None, None), None);
    }

    #[test]
    fn debug_shows_four_characters() {
        let key = IdempotencyKey::new("secret-order").expect("valid");
        assert_eq!(format!("{key:?}"), "IdempotencyKey(secr..)");
    }
}
