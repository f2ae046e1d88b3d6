//! From settings to a client over the endpoints of one origin.

use std::sync::Arc;

use tower::Layer;

use super::{
    client::{Client, View, boxed},
    endpoint::{self, EndpointSettings},
    evidence::reqwest_classifier,
};
use crate::{
    balance::Balancer,
    client::{Balanced, CONNECT_TIMEOUT, ClientBuilder, Reviving},
    discover::{Discover, Endpoint, Fixed, LookupHost, Origin},
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
    /// `retry(never)` and `connect_timeout`.
    ///
    /// # Errors
    /// The first setting that is out of range, with its value and what is allowed.
    pub fn build_reqwest<F>(self, factory: F) -> Result<Client, InvalidSetting>
    where
        F: Fn(&Endpoint) -> reqwest::ClientBuilder + Send + Sync + 'static,
    {
        let Self { settings, target } = self;
        let origin = target.origin.clone()?;
        endpoint::check_tls(&origin)?;
        let settings = settings.checked(target.connect_timeout)?;
        let default_connect = || CONNECT_TIMEOUT.min(settings.attempt_limit() / 2);
        let edge = EndpointSettings {
            connect_timeout: target.connect_timeout.unwrap_or_else(default_connect),
            authority_without_port: target.authority_without_port,
        };
        let source = source(&origin, &target, edge)?;
        let settings = settings.reading(&reqwest_classifier());
        let attempt = settings.attempt_layer()?;
        let named = origin.clone();
        let config = Balancer::builder(source)
            .pick(target.pick)
            .ejection(target.ejection)
            .slow_start(target.slow_start)
            .max_in_flight(target.max_in_flight)
            .classifier(settings.classifier.clone())
            .random(settings.random.clone());
        let config = if target.trust_empty {
            config.trust_empty()
        } else {
            config
        };
        let balancer = config.build_offloaded(move |endpoint: &Endpoint| {
            let client = endpoint::endpoint_client(&named, endpoint, edge, &factory)?;
            Ok(attempt.layer(client))
        })?;
        let watched = balancer.clone();
        let composed = settings.compose(|breaker| Reviving::new(balancer, breaker))?;
        let service = boxed(composed.service);
        let (breaker, budget) = (composed.breaker, composed.budget);
        let view = View {
            breaker,
            budget,
            endpoints: Box::new(move || watched.endpoints()),
        };
        Client::over(service, Some(origin), Some(view))
    }
}

/// Where the endpoints come from; the origin's own name or address if nothing else was said.
fn source(
    origin: &Origin,
    target: &Balanced,
    edge: EndpointSettings,
) -> Result<Arc<dyn Discover>, InvalidSetting> {
    let source = match (target.source.clone()?, origin.endpoint()) {
        (Some(given), _) => given,
        (None, Some(itself)) => Arc::new(Fixed::new([itself])),
        (None, None) => {
            let name = format!("{}:{}", origin.host(), origin.port_or_default());
            Arc::new(LookupHost::try_new(name)?)
        }
    };
    source.check()?;
    for endpoint in source.fixed().unwrap_or_default() {
        endpoint::check_route(origin, &endpoint, edge)?;
    }
    Ok(source)
}
