//! The one error for settings that are out of range.

/// A setting that is out of range: which one, its value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
pub struct InvalidSetting {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl InvalidSetting {
    pub(crate) fn new(field: &'static str, value: impl ToString, allowed: &'static str) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed,
        }
    }

    /// The setting's name: `Type::setter`, or `Type::argument` of a constructor with several. An address or what a
    /// single request brings has a plain name, such as `origin`, `endpoint`, `url` or `header name`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The values that are allowed.
    #[must_use]
    pub const fn allowed(&self) -> &'static str {
        self.allowed
    }
}
