//! Why there is no endpoint, or not this one.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::error::{BoxError, Error, ErrorKind};

/// A reason that several calls may be told.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    what: Arc<str>,
    source: Option<Arc<BoxError>>,
}

impl Cause {
    pub(crate) fn new(what: impl Into<Arc<str>>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }

    pub(crate) fn because_of(what: impl Into<Arc<str>>, source: BoxError) -> Self {
        Self {
            what: what.into(),
            source: Some(Arc::new(source)),
        }
    }
}

/// The error of a call that has nowhere to go.
pub(crate) fn no_endpoints(cause: Cause) -> Error {
    Error::new(ErrorKind::NoEndpoints).with_source(cause)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.source.as_ref()?;
        let source: &(dyn StdError + 'static) = source.as_ref().as_ref();
        Some(source)
    }
}
