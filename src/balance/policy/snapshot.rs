//! What calls are served from, and whether it is there.

use std::sync::Arc;

use super::{chunks::Chunks, set::Set};
use crate::balance::error::Cause;

/// What calls are served from.
#[derive(Debug)]
pub(crate) struct Snapshot<S> {
    pub(crate) set: Arc<Set>,
    /// The services of the endpoints, in the order of the set.
    pub(crate) services: Chunks<S>,
    pub(crate) answer: Answer,
}

/// Whether discovery has answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Not yet; the last failure, if there was one.
    Awaited(Option<Cause>),
    /// It has. Says why there is no endpoint, if there is none.
    Given(Option<Cause>),
}

impl<S> Snapshot<S> {
    /// Without an answer.
    pub(crate) fn awaited(trouble: Option<Cause>) -> Self {
        Self {
            set: Arc::default(),
            services: Chunks::default(),
            answer: Answer::Awaited(trouble),
        }
    }

    /// Without an endpoint.
    pub(crate) fn lacking(cause: Cause) -> Self {
        Self {
            answer: Answer::Given(Some(cause)),
            ..Self::awaited(None)
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.answer, Answer::Awaited(_))
    }
}
