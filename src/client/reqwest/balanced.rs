//! From settings to a client over the endpoints of one origin.

use tower::Layer;

use super::{
    client::{Client, ClientService, Stacks},
    endpoint::{self, EndpointSettings},
    evidence::reqwest_classifier,
};
use crate::{
    client::{Balanced, ClientBuilder, DEFAULT_CONNECT_TIMEOUT},
    discover::Endpoint,
    error::InvalidSetting,
};

impl Client {
    /// Starts a client of one origin such as `https://payments.internal`, over all its endpoints.
    ///
    /// The origin is what the endpoints are called by: `Host` or `:authority`, and the TLS server name. It has
    /// no path. What is wrong with it is reported by [`build_reqwest`](ClientBuilder::build_reqwest).
    pub fn builder(origin: impl AsRef<str>) -> ClientBuilder<Balanced> {
        ClientBuilder::balanced(origin.as_ref())
    }
}

impl ClientBuilder<Balanced> {
    /// Builds the client; `factory` gives each endpoint's reqwest client its settings.
    ///
    /// The clients themselves are built on first use, on a blocking thread. Of the builder's settings
    /// these are overridden: `resolve` of the origin's host, `no_proxy`, `redirect(none)`,
    /// `retry(never)`, `connect_timeout`, and `http2_keep_alive_interval` with its `timeout`.
    ///
    /// # Errors
    /// The first setting that is out of range, with its value and what is allowed.
    pub fn build_reqwest<F>(self, factory: F) -> Result<Client, InvalidSetting>
    where
        F: Fn(&Endpoint) -> reqwest::ClientBuilder + Send + Sync + 'static,
    {
        self.target.has_no_methods()?;
        let edge = EndpointSettings {
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            authority_without_port: self.target.authority_without_port,
        };
        endpoint::check_tls(&self.target.origin.clone()?)?;
        let prepared = self.prepared(&reqwest_classifier(), |origin, endpoint| {
            endpoint::check_route(origin, endpoint, edge)
        })?;
        let edge = EndpointSettings {
            connect_timeout: prepared.connect_timeout,
            ..edge
        };
        let (origin, attempt) = (prepared.origin.clone(), prepared.attempt);
        let balancer = prepared
            .balancer
            .build_offloaded(move |endpoint: &Endpoint| {
                let client = endpoint::endpoint_client(&origin, endpoint, edge, &factory)?;
                Ok(attempt.layer(client))
            })?;
        let (service, view) = prepared.settings.over(balancer)?;
        Client::over(
            Stacks::One(ClientService::new(service)),
            Some(prepared.origin),
            Some(view),
        )
    }
}
