use std::{fmt, sync::Arc, thread};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::Service;

use super::{
    bench::{Bench, MakeRequest, MakeWith},
    checks,
    erased::{Counters, Make, Subject},
    kinds::{Breach, Contract},
    scenario,
    tripwire::Tripwire,
};
use crate::{call::Body, error::BoxError, testkit::scripted::Scripted};

/// Holds a layer to every [`Contract`] but [`AlwaysReady`](Contract::AlwaysReady); for more, or less, see [`Suite`].
///
/// `make` puts the layer around a scripted service, anew for every run.
///
/// # Panics
/// With a sentence for each contract that is broken.
///
/// ```
/// use evenkeel::testkit::contract;
/// use tower::{Layer, limit::ConcurrencyLimitLayer};
///
/// contract::check(|service| ConcurrencyLimitLayer::new(4).layer(service));
/// ```
#[track_caller]
pub fn check<S, RB>(make: impl Fn(Scripted) -> S + Send + Sync + 'static)
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    Suite::new(make).check();
}

/// The contracts that a layer is held to, and what is known of the layer.
///
/// Every run is on a thread and a paused runtime of its own, so that it does not matter where it is asked for.
///
/// ```
/// use evenkeel::testkit::contract::{Contract, Suite};
/// use evenkeel::{Breaker, CircuitBreakerLayer};
/// use std::time::Duration;
/// use tower::Layer;
///
/// let breaker = || Breaker::count(100, Duration::from_secs(10)).unwrap();
/// Suite::new(move |service| CircuitBreakerLayer::new(breaker()).layer(service))
///     .always_ready()
///     .counter("probes", |service| service.breaker().snapshot().probes.into())
///     .check();
/// ```
#[must_use = "checks nothing before `check` or `breaches`"]
pub struct Suite<S> {
    make: Arc<dyn Fn(Scripted) -> S + Send + Sync>,
    counters: Counters<S>,
    callbacks: Vec<(String, MakeWith)>,
    longest: Vec<Make>,
    refused: Vec<MakeRequest>,
    slots: Option<usize>,
    always_ready: bool,
    without: Vec<Contract>,
}

impl<S, RB> Suite<S>
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    RB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    /// Every contract but [`AlwaysReady`](Contract::AlwaysReady), for the layer that `make` puts around a service.
    ///
    /// Its settings have to bear with single failures: after one the next call is expected to get through.
    pub fn new(make: impl Fn(Scripted) -> S + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            counters: Vec::new(),
            callbacks: Vec::new(),
            longest: Vec::new(),
            refused: vec![Box::new(scenario::invalid)],
            slots: None,
            always_ready: false,
            without: Vec::new(),
        }
    }

    /// Leaves a contract out, for a layer that has a reason.
    pub fn without(mut self, contract: Contract) -> Self {
        self.without.push(contract);
        self
    }

    /// Also holds it to [`AlwaysReady`](Contract::AlwaysReady), as the layers of this crate are.
    pub fn always_ready(mut self) -> Self {
        self.always_ready = true;
        self
    }

    /// A counter of the layer's own that has to be at zero whenever no call is under way, such as permits in use.
    pub fn counter(
        mut self,
        name: &str,
        count: impl Fn(&S) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.counters.push((name.to_owned(), Box::new(count)));
        self
    }

    /// The layer lets so many calls through at once: so many still do after every drop and every panic, and one more
    /// waits without spinning.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// A request that the layer refuses by itself, beside one with a [`CallPolicy`](crate::CallPolicy) out of range.
    pub fn refuses(mut self, request: impl Fn() -> Request<Body> + Send + Sync + 'static) -> Self {
        self.refused.push(Box::new(request));
        self
    }

    /// The layer with a callback that touches the tripwire. It panics at each of its touches in turn.
    pub fn callback<T, TB>(
        mut self,
        name: &str,
        make: impl Fn(Scripted, Tripwire) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: Service<Request<Body>, Response = Response<TB>, Error: Into<BoxError>, Future: 'static>
            + Clone
            + 'static,
        TB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let make = move |inner, wire| Subject::new(make(inner, wire), Arc::default());
        self.callbacks.push((name.to_owned(), Box::new(make)));
        self
    }

    /// The layer with [`Duration::MAX`](std::time::Duration::MAX) wherever it takes a duration that may be for ever.
    pub fn longest<T, TB>(mut self, make: impl Fn(Scripted) -> T + Send + Sync + 'static) -> Self
    where
        T: Service<Request<Body>, Response = Response<TB>, Error: Into<BoxError>, Future: 'static>
            + Clone
            + 'static,
        TB: HttpBody<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let make = move |inner| Subject::new(make(inner), Arc::default());
        self.longest.push(Box::new(make));
        self
    }

    /// Runs every check and says what was found.
    #[must_use]
    pub fn breaches(self) -> Vec<Breach> {
        let asked = |contract: &Contract| {
            let extra = *contract == Contract::AlwaysReady && !self.always_ready;
            !extra && !self.without.contains(contract)
        };
        let contracts: Vec<_> = Contract::ALL.into_iter().filter(asked).collect();
        let (make, counters) = (self.make, Arc::new(self.counters));
        let bench = Bench {
            make: Box::new(move |inner| Subject::new(make(inner), Arc::clone(&counters))),
            callbacks: self.callbacks,
            longest: self.longest,
            refused: self.refused,
            slots: self.slots,
        };
        let broken = |contract| {
            let found = checks::find(contract, &bench).err()?;
            Some(Breach { contract, found })
        };
        // On a thread of its own: whoever asks may be inside of a runtime already.
        thread::scope(|scope| {
            let checked = scope.spawn(|| contracts.into_iter().filter_map(broken).collect());
            checked
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs every check.
    ///
    /// # Panics
    /// With a sentence for each contract that is broken.
    #[track_caller]
    pub fn check(self) {
        let breaches = self.breaches();
        let sentences = breaches.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(breaches.is_empty(), "\n{}\n", sentences.join("\n"));
    }
}

impl<S> fmt::Debug for Suite<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite")
            .field("slots", &self.slots)
            .field("always_ready", &self.always_ready)
            .field("without", &self.without)
            .finish_non_exhaustive()
    }
}
