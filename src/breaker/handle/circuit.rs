use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::config::BreakerConfig;
use super::super::policy::{
    Admission, Change, Finished, Journal, Machine, Pass, Settled, State, check,
};
use super::permit::Permit;
use super::snapshot::{Counters, Snapshot};
use super::transitions::Transitions;
use crate::classify::{Class, Classifier};
use crate::clock;
use crate::error::{BoxError, Error, ErrorKind, InvalidSetting};
use crate::rng::Random;

/// A circuit breaker: clones share one circuit.
///
/// Give it to a [`CircuitBreakerLayer`](crate::CircuitBreakerLayer), wrap any future with
/// [`run`](Self::run), or take permits by hand with [`try_acquire`](Self::try_acquire).
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # async fn query() -> Result<u32, std::io::Error> { Ok(1) }
/// use std::time::Duration;
/// use evenkeel::Breaker;
///
/// let breaker = Breaker::count(5, Duration::from_secs(10))?;
/// let rows = breaker.run(query()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

/// On lines of its own: handles are counted beside it, and every permit is one, while all read the state.
#[repr(align(64))]
struct Shared {
    machine: Machine,
    random: Random,
    journal: Arc<Journal>,
    opened: Arc<AtomicU64>,
    counters: Counters,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.journal.close();
    }
}

impl BreakerConfig {
    /// Builds the breaker, closed. Needs no runtime.
    ///
    /// # Errors
    /// If no rule is set or a setting is out of range; the error names it.
    pub fn build(self) -> Result<Breaker, InvalidSetting> {
        check(&self)?;
        Ok(Breaker(Arc::new(Shared {
            machine: Machine::new(&self, clock::now()),
            random: self.random.unwrap_or_default(),
            journal: Arc::default(),
            opened: Arc::default(),
            counters: Counters::default(),
        })))
    }

    /// Draws from where the rest of the stack does, unless it was told where.
    pub(crate) fn random_unless_set(self, random: &Random) -> Self {
        match self.random {
            None => self.random(random.clone()),
            Some(_) => self,
        }
    }
}

impl Breaker {
    /// Settings without a rule: name at least one, then `build`.
    #[must_use]
    pub const fn builder() -> BreakerConfig {
        BreakerConfig::new()
    }

    /// The textbook breaker: `failures` within `window` open it for 30 s, one good probe closes it.
    ///
    /// It misfires above `failures / (window * p)` calls per second if a share `p` of the calls
    /// fails all the time: with five in ten seconds and 1 % errors, from 50 calls per second on.
    /// [`BreakerConfig::count`] has the same settings to change.
    ///
    /// # Errors
    /// If `failures` is not 1 to 10 000 or `window` is below 1 ms.
    pub fn count(failures: u32, window: Duration) -> Result<Self, InvalidSetting> {
        BreakerConfig::count(failures, window).build()
    }

    /// What it does with calls now: half-open once the break is over, traffic or not.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.machine.state(clock::now())
    }

    /// Rejects every call until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    pub fn force_open(&self) {
        let now = clock::now();
        self.note(self.0.machine.force_open(now), now);
    }

    /// Lets every call through, whatever comes back, until [`reset`](Self::reset) or
    /// [`force_open`](Self::force_open).
    pub fn force_closed(&self) {
        let now = clock::now();
        self.note(self.0.machine.force_closed(now), now);
    }

    /// Closes it and forgets all that it has seen; calls under way count no more.
    pub fn reset(&self) {
        let now = clock::now();
        self.note(self.0.machine.reset(now), now);
    }

    /// How often it opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Relaxed)
    }

    /// The counter behind [`opened`](Self::opened), for those who act when it moves.
    pub(crate) fn opened_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.opened)
    }

    /// The transitions from now on, in the order in which they happen.
    ///
    /// A watcher that is more than 256 transitions behind misses the oldest ones and is told how
    /// many. Nothing of a watcher runs under a lock, so it may call every method of the breaker. A
    /// break that ends without a call is no transition yet: [`state`](Self::state) tells of it.
    #[must_use]
    pub fn watch(&self) -> Transitions {
        Transitions::new(Arc::clone(&self.0.journal))
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let view = self.0.machine.view(clock::now());
        Snapshot::new(&view, self.opened(), &self.0.counters)
    }

    /// Asks for one call to be let through.
    ///
    /// # Errors
    /// [`ErrorKind::CircuitOpen`] if it is open, or half-open with all probes under way.
    pub fn try_acquire(&self) -> Result<Permit, Error> {
        let pass = self.admit(None)?;
        let started = self.is_timed().then(clock::recent);
        Ok(Permit::new(self.clone(), pass, started))
    }

    /// Runs a future under the breaker; dropped early, it counts as abandoned.
    ///
    /// An `Err` is a failure, save for our own rejections (an open breaker or a full balancer
    /// below), which are neutral. The permit is taken at the first poll.
    ///
    /// # Errors
    /// [`ErrorKind::CircuitOpen`] without running it; else the future's error, reachable as the
    /// source, or as it is if it is one of ours.
    pub fn run<F, T, E>(&self, future: F) -> impl Future<Output = Result<T, Error>> + use<F, T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<BoxError>,
    {
        let breaker = self.clone();
        async move {
            let permit = breaker.try_acquire()?;
            let result = future.await.map_err(Error::from_inner);
            permit.finish(class_of(&result));
            result
        }
    }

    /// Runs a future under the breaker and lets `classify` say what its result means.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with<F, T, E, C>(
        &self,
        future: F,
        classify: C,
    ) -> impl Future<Output = Result<T, Error>> + use<F, T, E, C>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<BoxError>,
        C: FnOnce(&Result<T, E>) -> Class,
    {
        let breaker = self.clone();
        async move {
            let permit = breaker.try_acquire()?;
            let result = future.await;
            permit.finish(classify(&result));
            result.map_err(Error::from_inner)
        }
    }

    /// Lets one call through; a probe is waited for at least as long as `limit`.
    pub(crate) fn admit(&self, limit: Option<Duration>) -> Result<Pass, Error> {
        let shared = &*self.0;
        let (admission, change) = shared
            .machine
            .acquire(limit, clock::recent, || shared.random.unit());
        if change.is_some() {
            self.note(change, clock::recent());
        }
        match admission {
            Admission::Admitted(pass) => Ok(pass),
            Admission::Rejected { retry_in } => {
                shared.counters.count_rejected();
                Err(Error::new(ErrorKind::CircuitOpen { retry_in }))
            }
        }
    }

    /// Whether a rule asks how long calls take.
    pub(crate) fn is_timed(&self) -> bool {
        self.0.machine.is_timed()
    }

    /// Whether a rule asks where calls fail.
    pub(crate) fn asks_for_endpoints(&self) -> bool {
        self.0.machine.asks_for_endpoints()
    }

    /// Whether calls are let through, without a look at the clock.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.machine.is_closed()
    }

    /// The median of recent successes.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.0.machine.median()
    }

    /// A call got a good head, which is not its end.
    pub(crate) fn answered(&self, pass: Pass, now: Instant) {
        if pass.probe {
            self.0.machine.answered(pass, now);
        }
    }

    pub(crate) fn settle(&self, pass: Pass, end: &Finished, now: Instant) {
        let shared = &*self.0;
        let settled = shared
            .machine
            .settle(pass, end, now, || shared.random.unit());
        shared.counters.count(end.outcome, settled);
        if let Settled::Changed(change) = settled {
            self.note(Some(change), now);
        }
    }

    fn note(&self, change: Option<Change>, at: Instant) {
        let Some(change) = change else { return };
        if change.opens() {
            self.0.opened.fetch_add(1, Relaxed);
        }
        self.0.journal.note(change, at);
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.state()).finish()
    }
}

/// What the end of a future means where nobody says more.
fn class_of<T>(result: &Result<T, Error>) -> Class {
    match result {
        Ok(_) => Class::Success,
        Err(error) => Classifier::default().error(error).class,
    }
}
