//! Building a balancer.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{
    body::{Common, Hub},
    config::{DEFAULT_MAX_IN_FLIGHT, Make, Pick, SlowStart},
    policy::{Ejection, Rules, Shared, Snapshot},
    service::{Balancer, Core},
};
use crate::{
    classify::Classifier,
    clock,
    discover::{Discover, Endpoint},
    error::{BoxError, InvalidSetting},
    rng::Random,
};

/// The settings of a [`Balancer`].
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`pick`](Self::pick) | least cost of 5 | finds slow and failing endpoints, leaves equal ones alone |
/// | [`ejection`](Self::ejection) | adaptive | a fixed row misfires at one call rate and misses at another |
/// | [`slow_start`](Self::slow_start) | 10 s | caches and pools of a new server are cold |
/// | [`max_in_flight`](Self::max_in_flight) | 1024 per endpoint | bounds what piles up before one that hangs |
/// | [`trust_empty`](Self::trust_empty) | no | an empty answer is more often a fault than a fact |
#[must_use = "build() makes the balancer"]
pub struct BalancerConfig {
    source: Box<dyn Discover>,
    pick: Pick,
    ejection: Ejection,
    slow_start: SlowStart,
    max_in_flight: u32,
    trust_empty: bool,
    classifier: Classifier,
    random: Random,
}

impl Balancer<()> {
    /// Starts the settings of a balancer over the endpoints that `source` finds.
    pub fn builder(source: impl Discover) -> BalancerConfig {
        BalancerConfig {
            source: Box::new(source),
            pick: Pick::default(),
            ejection: Ejection::default(),
            slow_start: SlowStart::default(),
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            trust_empty: false,
            classifier: Classifier::default(),
            random: Random::default(),
        }
    }
}

impl BalancerConfig {
    /// Sets how an endpoint is chosen. Default: [`Pick::least_cost`].
    pub fn pick(mut self, pick: Pick) -> Self {
        self.pick = pick;
        self
    }

    /// Sets when a failing endpoint is left out. Default: [`Ejection::adaptive`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// Sets how a joining endpoint grows into its share. Default: over 10 s.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// Sets how many calls may be in flight on one endpoint, from 1 on. A full endpoint is passed over; when all are
    /// full a call fails at once with [`Overloaded`](crate::ErrorKind::Overloaded), not sent. Default: 1024.
    pub fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Takes an empty answer of discovery for the truth: calls fail at once with
    /// [`NoEndpoints`](crate::ErrorKind::NoEndpoints). Default: the last set stays.
    pub fn trust_empty(mut self) -> Self {
        self.trust_empty = true;
        self
    }

    /// Sets how responses and errors are read. Default: by HTTP status and io kinds.
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// Sets where random numbers come from. Default: a generator seeded by the operating system.
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Builds the balancer. `make` makes the service of an endpoint: once for each, whenever one joins.
    ///
    /// It must not block. If it fails that endpoint is left out, with the reason in [`Balancer::endpoints`], and asked
    /// again with the next answer of discovery. A fixed set is made here, any other with the first call: nothing here
    /// needs a runtime.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range, or if the source's are.
    pub fn build<S, F>(self, make: F) -> Result<Balancer<S>, InvalidSetting>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(&Endpoint) -> Result<S, BoxError> + Send + Sync + 'static,
    {
        let fixed = self.source.fixed();
        let core = self.core(make, false)?;
        if let Some(set) = fixed {
            core.fix(set);
        }
        Ok(Balancer::new(core))
    }

    /// Builds a balancer as [`build`](Self::build) does, for a `make` that takes its time: it runs on a thread for
    /// blocking work, always as part of discovery, so that the first call waits for it.
    ///
    /// # Errors
    ///
    /// As for [`build`](Self::build).
    pub fn build_offloaded<S, F>(self, make: F) -> Result<Balancer<S>, InvalidSetting>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(&Endpoint) -> Result<S, BoxError> + Send + Sync + 'static,
    {
        Ok(Balancer::new(self.core(make, true)?))
    }

    fn core<S, F>(self, make: F, blocks: bool) -> Result<Arc<Core<S>>, InvalidSetting>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(&Endpoint) -> Result<S, BoxError> + Send + Sync + 'static,
    {
        self.check()?;
        let rules = Rules {
            pick: self.pick,
            ejection: self.ejection,
            slow_start: self.slow_start,
            max_in_flight: self.max_in_flight,
        };
        // Half of the range: no client lives to see the turns wrap round.
        let first_turn = self.random.next_u64() >> 1;
        let common = Common {
            shared: Shared::new(rules, clock::now(), first_turn),
            classifier: self.classifier,
            random: self.random,
        };
        let hub = Hub {
            common: Arc::new(common),
            snapshot: ArcSwap::from_pointee(Snapshot::awaited(None)),
            awaited: true.into(),
            changed: Arc::new(Notify::new()),
        };
        let make = Make {
            make: Box::new(make),
            blocks,
        };
        Ok(Core::new(hub, self.source, make, self.trust_empty))
    }

    fn check(&self) -> Result<(), InvalidSetting> {
        self.source.check()?;
        self.pick.check()?;
        self.ejection.check()?;
        self.slow_start.check()?;
        match self.max_in_flight {
            0 => Err(InvalidSetting::new(
                "BalancerConfig::max_in_flight",
                0,
                "1 and above",
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for BalancerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancerConfig")
            .field("pick", &self.pick)
            .field("ejection", &self.ejection)
            .field("slow_start", &self.slow_start)
            .field("max_in_flight", &self.max_in_flight)
            .field("trust_empty", &self.trust_empty)
            .finish_non_exhaustive()
    }
}
