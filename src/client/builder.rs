use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;

use super::settings::{BreakerChoice, Settings};
use crate::{
    balance::{DEFAULT_MAX_IN_FLIGHT, Ejection, Pick, SlowStart},
    breaker::{Breaker, BreakerConfig},
    call::CallPolicy,
    classify::Classifier,
    discover::{Discover, Endpoint, Fixed, Origin},
    error::InvalidSetting,
    idempotency::IdempotencyKeys,
    retry::Retry,
    rng::Random,
};

/// How long a connection to an endpoint may take to come about, TLS included: 300 ms.
///
/// Inside one region it takes a few milliseconds, so 300 ms without it means a dead or cut-off endpoint, and
/// leaves most of a second's budget to another one. A failed connection is known not to have been sent, which
/// an attempt that ran out of its own limit is not: it has to be below that limit.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// What a client is built from. Setters only record; building checks them all.
///
/// `T` is where the calls go: [`Balanced`] over the endpoints of one origin, or through a client that exists
/// already.
#[must_use]
pub struct ClientBuilder<T> {
    pub(super) settings: Settings,
    pub(super) target: T,
}

/// The endpoints of one origin.
pub struct Balanced {
    pub(super) origin: Result<Origin, InvalidSetting>,
    pub(super) source: Result<Option<Arc<dyn Discover>>, InvalidSetting>,
    pub(super) pick: Pick,
    pub(super) ejection: Ejection,
    pub(super) slow_start: SlowStart,
    pub(super) max_in_flight: u32,
    pub(super) trust_empty: bool,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) authority_without_port: bool,
    pub(super) methods: Vec<(String, CallPolicy)>,
}

impl<T> ClientBuilder<T> {
    pub(super) fn new(target: T) -> Self {
        Self {
            settings: Settings::default(),
            target,
        }
    }

    /// How long a whole call may take, its response body included.
    ///
    /// Range: above zero; [`Duration::MAX`] means no deadline. Default: [`DEFAULT_DEADLINE`](crate::client::DEFAULT_DEADLINE), which
    /// over gRPC covers the whole call only of methods that are declared [`unary`](CallPolicy::unary): a response that
    /// may stream is not cut off by a limit that nobody chose, and this one ends at its first message, or when its head
    /// is handed to the caller. A deadline that is set here covers every stream to its end.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// How long an attempt may take until its response head; over gRPC until its
    /// [commit point](crate::commit).
    ///
    /// Range: above the connect timeout, at most the deadline. Default: half the call's time where another
    /// attempt could follow, else none, since a service that is merely slower must not be cut off.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.settings.attempt_timeout = Some(limit);
        self
    }

    /// The HTTP header that tells the server how many milliseconds are left, so that it need not work on what nobody
    /// waits for. Default: none.
    ///
    /// Every attempt is told anew, after [`before_attempt`](Self::before_attempt): the time until its limit or the
    /// call's deadline, whichever is sooner. A server that has [`InboundLayer`](crate::InboundLayer) keeps to it in
    /// its own calls. There is no standard name; over gRPC it is `grpc-timeout`, always.
    ///
    /// Range: an HTTP header name; not with `build_tonic`.
    pub fn deadline_header(mut self, name: impl Into<String>) -> Self {
        self.settings.deadline_header = Some(name.into());
        self
    }

    /// How long the response body may be silent.
    ///
    /// Range: above zero; [`Duration::MAX`] means for ever. Default: [`DEFAULT_BODY_IDLE`](crate::timeout::DEFAULT_BODY_IDLE), over
    /// gRPC none, since a stream of events may be silent for hours.
    pub fn body_idle(mut self, limit: Duration) -> Self {
        self.settings.body_idle = Some(limit);
        self
    }

    /// Attempts, pauses and the budget. Default: [`Retry::default`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// The rules of the circuit breaker. Default: [`BreakerConfig::service_default`].
    pub fn circuit_breaker(mut self, config: BreakerConfig) -> Self {
        self.settings.breaker = BreakerChoice::Rules(Box::new(config));
        self
    }

    /// A breaker that is shared with others, or that you want to watch and to force.
    pub fn shared_circuit_breaker(mut self, breaker: Breaker) -> Self {
        self.settings.breaker = BreakerChoice::Shared(breaker);
        self
    }

    /// No circuit breaker.
    pub fn no_circuit_breaker(mut self) -> Self {
        self.settings.breaker = BreakerChoice::Off;
        self
    }

    /// Runs on the head of every attempt, with its number from 1: for signatures, tokens and dates that have
    /// to be fresh. Default: nothing.
    pub fn before_attempt<F>(mut self, stamp: F) -> Self
    where
        F: Fn(&mut Parts, u32) + Send + Sync + 'static,
    {
        self.settings.before_attempt = Some(Arc::new(stamp));
        self
    }

    /// Reads responses and errors for retry, breaker and balancer alike. Default: by HTTP status, and by what
    /// the transport's errors prove.
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.settings.classifier = classifier;
        self
    }

    /// Where jitter and picks draw from; a seeded one makes them deterministic. Default: seeded by the
    /// operating system.
    pub fn random(mut self, random: Random) -> Self {
        self.settings.random = random;
        self
    }
}

impl ClientBuilder<Balanced> {
    pub(super) fn balanced(origin: &str) -> Self {
        Self::new(Balanced {
            origin: Origin::parse(origin),
            source: Ok(None),
            pick: Pick::default(),
            ejection: Ejection::default(),
            slow_start: SlowStart::default(),
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            trust_empty: false,
            connect_timeout: None,
            authority_without_port: false,
            methods: Vec::new(),
        })
    }

    /// The fixed set of endpoints that serve the origin, such as `"10.0.0.1:8443"`. At least one.
    ///
    /// Default: the addresses of the origin's host name, looked up every 30 s.
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: TryInto<Endpoint, Error: Into<InvalidSetting>>,
    {
        self.target.source =
            Fixed::try_new(endpoints).map(|fixed| Some(Arc::new(fixed) as Arc<dyn Discover>));
        self
    }

    /// The source of the endpoint set.
    pub fn discover(mut self, source: impl Discover) -> Self {
        self.target.source = Ok(Some(Arc::new(source)));
        self
    }

    /// Says that this destination de-duplicates by key, and gives each unsafe call one. Default: no keys but
    /// those that [callers give](crate::CallPolicy::idempotency_key).
    ///
    /// The destination must do so across all its endpoints: a retry goes to another one.
    pub fn idempotency_keys(mut self, keys: IdempotencyKeys) -> Self {
        self.settings.keys = Some(keys);
        self
    }

    /// How an endpoint is chosen. Default: [`Pick::least_cost`].
    pub fn pick(mut self, pick: Pick) -> Self {
        self.target.pick = pick;
        self
    }

    /// When an endpoint that fails is left out. Default: [`Ejection::adaptive`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.target.ejection = ejection;
        self
    }

    /// How an endpoint that joins a warm set is eased in. Default: over 10 s.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.target.slow_start = slow_start;
        self
    }

    /// How many calls an endpoint may have in flight. Range: 1 and above. Default: 1024.
    pub fn max_in_flight(mut self, calls: u32) -> Self {
        self.target.max_in_flight = calls;
        self
    }

    /// Believes an empty answer of the source: calls then fail at once. Default: the last set is kept.
    pub fn trust_empty(mut self) -> Self {
        self.target.trust_empty = true;
        self
    }

    /// How long a connection to an endpoint may take to come about.
    ///
    /// Range: above zero, below the attempt timeout. Default: 300 ms, or half of what an attempt may take
    /// (the attempt timeout, else half the deadline) if that is less.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.target.connect_timeout = Some(limit);
        self
    }

    /// Leaves the origin's port out of `Host` and `:authority`, where an endpoint listens on another one.
    ///
    /// Needed over `https` only, and only if the origin names a port: HTTP/2 cannot show one port and connect
    /// to another.
    pub fn authority_without_port(mut self) -> Self {
        self.target.authority_without_port = true;
        self
    }

    /// How calls of a gRPC method are to be treated where it differs from the rest, such as `"shop.Cart/Add"`, or
    /// all methods of a service, such as `"shop.Cart"`.
    ///
    /// gRPC itself does not say what repeating a method does: only those that are declared
    /// [`idempotent`](CallPolicy::idempotent) or [`safe`](CallPolicy::safe) here, or by a call of their own, are
    /// retried where they may have happened. What a call's own policy says goes first, then its method's, then its
    /// service's. A later word on the same name replaces an earlier one.
    pub fn method(mut self, name: impl Into<String>, policy: CallPolicy) -> Self {
        self.target.methods.push((name.into(), policy));
        self
    }
}

impl Balanced {
    /// Refuses policies of gRPC methods on a client that has none.
    ///
    /// # Errors
    /// With the first method that was named.
    #[cfg(feature = "reqwest")]
    pub(super) fn has_no_methods(&self) -> Result<(), InvalidSetting> {
        self.methods.first().map_or(Ok(()), |(name, _)| {
            let allowed = "only with build_tonic: an HTTP call has its policy in its extensions";
            Err(InvalidSetting::new("ClientBuilder::method", name, allowed))
        })
    }
}

impl<T> fmt::Debug for ClientBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Balanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            pick,
            ejection,
            slow_start,
            ..
        } = self;
        let mut debug = f.debug_struct("Balanced");
        debug
            .field("origin", origin)
            .field("pick", pick)
            .field("ejection", ejection);
        debug
            .field("slow_start", slow_start)
            .finish_non_exhaustive()
    }
}
