//! From settings to a client around one of reqwest's that exists.

use std::fmt;

use tower::Layer;

use super::{
    client::{Client, ClientService, Stacks},
    evidence::reqwest_classifier,
    http_service::HttpService,
    per_origin::PerOrigin,
};
use crate::{
    client::ClientBuilder,
    discover::Origin,
    error::InvalidSetting,
    idempotency::{IdempotencyKeyLayer, IdempotencyKeys},
};

/// An existing client, for calls of any origin.
pub struct Wrapped {
    client: reqwest::Client,
    keys: Vec<(Result<Origin, InvalidSetting>, IdempotencyKeys)>,
}

impl Client {
    /// Starts a client around one of reqwest's that exists: any URL, no balancer, one breaker and one budget
    /// for each origin.
    ///
    /// The client's own redirects and retries cannot be switched off from outside: each of its own retries
    /// multiplies ours. Build it with `.retry(reqwest::retry::never())`, and for HTTP/2 with
    /// `http2_keep_alive_interval` and `http2_keep_alive_timeout`: without them it keeps a connection that was lost
    /// without a word, and calls on it run out of time.
    pub fn wrap_reqwest(client: reqwest::Client) -> ClientBuilder<Wrapped> {
        ClientBuilder::new(Wrapped {
            client,
            keys: Vec::new(),
        })
    }
}

impl ClientBuilder<Wrapped> {
    /// Says that this origin de-duplicates by key, and gives each unsafe call to it one. Default: no keys but
    /// those that [callers give](crate::CallPolicy::idempotency_key).
    pub fn idempotency_keys_for(mut self, origin: impl AsRef<str>, keys: IdempotencyKeys) -> Self {
        self.target
            .keys
            .push((Origin::parse(origin.as_ref()), keys));
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// The first setting that is out of range, with its value and what is allowed.
    pub fn build(self) -> Result<Client, InvalidSetting> {
        let Self { settings, target } = self;
        let settings = settings.checked(None)?.reading(&reqwest_classifier());
        let attempt = settings.attempt_layer()?;
        let client = HttpService::new(target.client);
        let mut keyed = Vec::new();
        for (origin, keys) in target.keys {
            IdempotencyKeyLayer::new(keys.clone())?;
            keyed.push((origin?, keys));
        }
        let make = move |origin: Option<&Origin>| {
            let mut settings = settings.clone();
            let own = keyed.iter().find(|(keyed, _)| Some(keyed) == origin);
            settings.keys = own.map(|(_, keys)| keys.clone());
            let composed = settings.compose(|_| attempt.layer(client.clone()))?;
            Ok(composed.map(ClientService::new))
        };
        Client::over(Stacks::PerOrigin(PerOrigin::new(make)?), None, None)
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
