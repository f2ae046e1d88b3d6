use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    builder::{Balanced, ClientBuilder, DEFAULT_CONNECT_TIMEOUT},
    revive::Reviving,
    settings::{Composed, Deadlined, Settings},
    view::View,
};
use crate::{
    balance::{Balancer, BalancerConfig},
    classify::Classifier,
    discover::{Discover, Endpoint, Fixed, LookupHost, Origin},
    error::InvalidSetting,
    timeout::AttemptTimeoutLayer,
};

/// Checked settings of a client of one origin, whatever its transport.
pub(super) struct Prepared {
    pub(super) origin: Origin,
    pub(super) settings: Settings,
    pub(super) balancer: BalancerConfig,
    pub(super) attempt: AttemptTimeoutLayer,
    pub(super) connect_timeout: Duration,
}

/// An origin that is an address has nothing else behind it.
#[derive(Debug, thiserror::Error)]
#[error(
    "origin {origin} is an IP address and has only itself as endpoint, not {endpoint}; name the origin instead"
)]
pub(super) struct NotItself {
    origin: Origin,
    endpoint: SocketAddr,
}

impl NotItself {
    /// Refuses another endpoint than the address that the origin is.
    pub(super) fn check(origin: &Origin, endpoint: SocketAddr) -> Result<(), Self> {
        let itself = |ip| (ip, origin.port_or_default()) == (endpoint.ip(), endpoint.port());
        if origin.ip().is_none_or(itself) {
            return Ok(());
        }
        Err(Self {
            origin: origin.clone(),
            endpoint,
        })
    }
}

impl ClientBuilder<Balanced> {
    /// Checks the settings and finds out where the endpoints come from; `callable` refuses those of a fixed set
    /// that cannot be called under the origin.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub(super) fn prepared(
        self,
        transport: &Classifier,
        callable: impl Fn(&Origin, &Endpoint) -> Result<(), InvalidSetting>,
    ) -> Result<Prepared, InvalidSetting> {
        let Self { settings, target } = self;
        let origin = target.origin.clone()?;
        let settings = settings.checked(target.connect_timeout)?;
        let default_connect = || DEFAULT_CONNECT_TIMEOUT.min(settings.attempt_limit() / 2);
        let connect_timeout = target.connect_timeout.unwrap_or_else(default_connect);
        let source = source(&origin, &target)?;
        source.check()?;
        for endpoint in source.fixed().unwrap_or_default() {
            callable(&origin, &endpoint)?;
        }
        let settings = settings.reading(transport);
        if target.max_in_flight == 0 {
            let field = "ClientBuilder::max_in_flight";
            return Err(InvalidSetting::new(field, 0, "1 and above"));
        }
        let balancer = Balancer::builder(source)
            .pick(target.pick)
            .ejection(target.ejection)
            .slow_start(target.slow_start)
            .max_in_flight(target.max_in_flight)
            .classifier(settings.classifier.clone())
            .random(settings.random.clone());
        Ok(Prepared {
            attempt: settings.attempt_layer()?,
            origin,
            settings,
            balancer: match target.trust_empty {
                true => balancer.trust_empty(),
                false => balancer,
            },
            connect_timeout,
        })
    }
}

/// Where the endpoints come from; the origin's own name or address if nothing else was said.
fn source(origin: &Origin, target: &Balanced) -> Result<Arc<dyn Discover>, InvalidSetting> {
    Ok(match (target.source.clone()?, origin.endpoint()) {
        (Some(given), _) => given,
        (None, Some(itself)) => Arc::new(Fixed::new([itself])),
        (None, None) => {
            let name = format!("{}:{}", origin.host(), origin.port_or_default());
            Arc::new(LookupHost::try_new(name)?)
        }
    })
}

impl Settings {
    /// The whole stack over a balancer, and the handles to what it shares.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub(super) fn over<S>(
        &self,
        balancer: Balancer<S>,
    ) -> Result<(Deadlined<Reviving<S>>, View), InvalidSetting>
    where
        S: Clone + Send + Sync + 'static,
    {
        let watched = balancer.clone();
        let Composed {
            service,
            breaker,
            budget,
        } = self.compose(|breaker| Reviving::new(balancer, breaker))?;
        let endpoints = Box::new(move || watched.endpoints());
        Ok((
            service,
            View {
                breaker,
                budget,
                endpoints,
            },
        ))
    }
}
