use std::sync::Arc;

use tower::Layer;

use super::{
    config::IdempotencyKeys,
    service::{IdempotencyKeyService, Keyring},
};
use crate::error::InvalidSetting;

/// Puts one idempotency key on every unsafe call, the same on all its attempts.
///
/// See the [module](crate::idempotency) for which calls, and what a caller's own key means.
#[derive(Clone, Debug)]
pub struct IdempotencyKeyLayer {
    keyring: Arc<Keyring>,
}

impl IdempotencyKeyLayer {
    /// A layer with these settings.
    ///
    /// # Errors
    /// A header name that is none, or a lifetime of zero.
    pub fn new(keys: IdempotencyKeys) -> Result<Self, InvalidSetting> {
        let keyring = Arc::new(Keyring::try_new(keys)?);
        Ok(Self { keyring })
    }
}

impl Default for IdempotencyKeyLayer {
    fn default() -> Self {
        Self::new(IdempotencyKeys::default())
            .expect("the default settings are in range: a test builds them")
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for IdempotencyKeyLayer {
    type Service = IdempotencyKeyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyKeyService::new(inner, Arc::clone(&self.keyring))
    }
}
