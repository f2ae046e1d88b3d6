use std::{
    fmt,
    future::{self, Future, poll_fn},
    io, iter,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use crate::{
    call::Deadline,
    clock::{self, LazyTimer},
    discover::{
        Discover, Endpoint,
        address::{self, Target},
        distinct, schedule,
    },
    error::{BoxError, InvalidSetting},
    rng::Random,
};

/// Time between two lookups unless [`LookupHost::refresh_every`] says otherwise: 30 s, a common lifetime of the
/// records of services, which the operating system does not tell.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(30);

/// A lookup that takes longer has failed. Above the 10 s that the usual resolver settings give one dead name server.
const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

type Resolver =
    Arc<dyn Fn(&str, u16) -> BoxFuture<'static, Result<Vec<SocketAddr>, BoxError>> + Send + Sync>;

/// Endpoints behind a name, as the operating system resolves it (`getaddrinfo`).
///
/// The name is looked up on first use and then every 30 s, 20 % sooner or later at random. A lookup that fails or
/// takes longer than 15 s is an `Err` of the watch, takes nothing away, and is repeated after 1 s, then after twice as
/// long each time, up to the usual delay. The system does not tell "no such name" from "no answer", so both count as
/// failed. IPv6 and IPv4 addresses alternate in the set. An IP address in place of the name is never looked up.
///
/// ```
/// use std::time::Duration;
///
/// use evenkeel::discover::LookupHost;
///
/// let source = LookupHost::try_new("payments.internal:8443")?.refresh_every(Duration::from_secs(10));
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone)]
pub struct LookupHost {
    target: Result<Target, InvalidSetting>,
    every: Duration,
    random: Random,
    resolver: Resolver,
}

impl LookupHost {
    /// Looks up the name in `name:port`.
    ///
    /// What [`try_new`](Self::try_new) refuses at once is refused here when a client or a balancer is built from it.
    #[must_use]
    pub fn new(host_and_port: impl AsRef<str>) -> Self {
        let text = host_and_port.as_ref();
        Self::of(
            address::parse(text).map_err(|allowed| {
                InvalidSetting::new("host and port", address::shown(text), allowed)
            }),
        )
    }

    /// Looks up the name in `name:port`.
    ///
    /// # Errors
    ///
    /// If the text is not a host name or an IP address, IPv6 in brackets, with a port other than 0.
    pub fn try_new(host_and_port: impl AsRef<str>) -> Result<Self, InvalidSetting> {
        let source = Self::new(host_and_port);
        source.check().map(|()| source)
    }

    fn of(target: Result<Target, InvalidSetting>) -> Self {
        Self {
            target,
            every: DEFAULT_REFRESH,
            random: Random::default(),
            resolver: Arc::new(ask_the_system),
        }
    }

    /// Sets the time between two lookups: at least 1 s, `Duration::MAX` for a single lookup that succeeds. Default:
    /// 30 s ([`DEFAULT_REFRESH`]).
    #[must_use]
    pub fn refresh_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Sets what looks names up, given name and port. Default: the operating system.
    ///
    /// An empty answer counts as one: the name exists and has no address.
    #[must_use]
    pub fn resolver<F, R>(mut self, resolve: F) -> Self
    where
        F: Fn(&str, u16) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<SocketAddr>, BoxError>> + Send + 'static,
    {
        self.resolver = Arc::new(move |name, port| resolve(name, port).boxed());
        self
    }

    /// Sets where the jitter comes from. Default: seeded by the operating system.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }
}

/// A host, IPv6 with or without brackets, and a port.
impl From<(&str, u16)> for LookupHost {
    fn from((host, port): (&str, u16)) -> Self {
        let target = address::target(host, port);
        Self::of(target.map_err(|allowed| {
            let host = address::shown(host);
            InvalidSetting::new("host and port", format!("{host} and {port}"), allowed)
        }))
    }
}

impl Discover for LookupHost {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        match (&self.target, self.check()) {
            (_, Err(refused)) => stream::iter([Err(refused.into())]).boxed(),
            (Err(refused), _) => stream::iter([Err(refused.clone().into())]).boxed(),
            (Ok(Target::Address(address)), _) => {
                stream::iter([Ok(vec![Endpoint::new(*address)])]).boxed()
            }
            (Ok(Target::Name(name, port)), _) => {
                stream::unfold(Lookups::new(self, name.clone(), *port), Lookups::next).boxed()
            }
        }
    }

    fn fixed(&self) -> Option<Vec<Endpoint>> {
        match self.target {
            Ok(Target::Address(address)) => Some(vec![Endpoint::new(address)]),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), InvalidSetting> {
        if let Err(refused) = &self.target {
            return Err(refused.clone());
        }
        if self.every < schedule::SHORTEST {
            let allowed = "at least 1s, or Duration::MAX for never again";
            return Err(InvalidSetting::new(
                "LookupHost::refresh_every",
                format!("{:?}", self.every),
                allowed,
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for LookupHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, every, .. } = self;
        f.debug_struct("LookupHost")
            .field("target", target)
            .field("every", every)
            .finish_non_exhaustive()
    }
}

/// A lookup that gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up {name}")]
struct LookupFailed {
    name: Box<str>,
    source: BoxError,
}

/// One watch: waits, asks, says what came back.
struct Lookups {
    name: Box<str>,
    port: u16,
    every: Duration,
    random: Random,
    resolver: Resolver,
    timer: LazyTimer,
    failures: u32,
    next: Next,
}

enum Next {
    Now,
    At(Deadline),
    Never,
}

impl Lookups {
    fn new(source: &LookupHost, name: Box<str>, port: u16) -> Self {
        let LookupHost {
            every,
            random,
            resolver,
            ..
        } = source;
        Self {
            name,
            port,
            every: *every,
            random: random.clone(),
            resolver: Arc::clone(resolver),
            timer: LazyTimer::default(),
            failures: 0,
            next: Next::Now,
        }
    }

    async fn next(mut self) -> Option<(Result<Vec<Endpoint>, BoxError>, Self)> {
        match self.next {
            Next::Now => {}
            Next::At(at) => poll_fn(|cx| self.timer.poll_until(at, cx)).await,
            Next::Never => return None,
        }
        let answer = self.ask().await;
        self.plan(answer.is_ok());
        let named = |source| {
            BoxError::from(LookupFailed {
                name: self.name.clone(),
                source,
            })
        };
        Some((answer.map_err(named), self))
    }

    async fn ask(&mut self) -> Result<Vec<Endpoint>, BoxError> {
        let limit = Deadline::after(clock::now(), LOOKUP_LIMIT);
        let mut lookup = AssertUnwindSafe(self.lookup()).catch_unwind();
        let timer = &mut self.timer;
        let found = poll_fn(|cx| match lookup.poll_unpin(cx) {
            Poll::Pending => timer.poll_until(limit, cx).map(|()| Err(too_slow())),
            Poll::Ready(Err(_)) => Poll::Ready(Err("the resolver panicked".into())),
            Poll::Ready(Ok(found)) => Poll::Ready(found),
        });
        let set = alternate(found.await?)
            .into_iter()
            .map(Endpoint::new)
            .collect();
        Ok(distinct(set)?)
    }

    /// A resolver that panics, in the call or in its future, has failed; the watch outlives it.
    fn lookup(&self) -> BoxFuture<'static, Result<Vec<SocketAddr>, BoxError>> {
        let call = || (self.resolver)(&self.name, self.port);
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| future::ready(Err("the resolver panicked".into())).boxed())
    }

    fn plan(&mut self, answered: bool) {
        let unit = self.random.unit();
        self.failures = if answered {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let delay = match self.failures {
            0 => schedule::after_success(self.every, unit),
            failures => Some(schedule::after_failure(self.every, failures, unit)),
        };
        self.next = delay.map_or(Next::Never, |delay| {
            Next::At(Deadline::after(clock::now(), delay))
        });
    }
}

fn ask_the_system(name: &str, port: u16) -> BoxFuture<'static, Result<Vec<SocketAddr>, BoxError>> {
    let name = name.to_owned();
    async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }.boxed()
}

fn too_slow() -> BoxError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer within {LOOKUP_LIMIT:?}"),
    )
    .into()
}

/// Lets the families take turns, so that neither fills the front of the set; the one that came first stays first.
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    iter::from_fn(|| {
        Some([first.next(), second.next()]).filter(|pair| pair.iter().any(Option::is_some))
    })
    .flatten()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests;
