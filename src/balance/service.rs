//! The balancer: one service over many, and the task that keeps its set up to date.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Body;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};
use tower::Service;

use super::{
    body::{Attempt, Discovering, Hub, InFlight},
    config::Make,
    error::Cause,
    future::ResponseFuture,
    policy::{Answer, Change, EndpointStatus, Made, Roster, Snapshot, caller},
};
use crate::{
    call::{self, Call},
    clock,
    discover::{Discover, Endpoint, distinct},
    error::{BoxError, Error},
    guarded::Guarded,
};

/// A service over the endpoints that a [`Discover`] source finds: a fresh pick per attempt.
///
/// It is always ready. The readiness of the endpoint that was picked is waited for inside the call, under the call's
/// deadline; one that is not ready is passed over if another one is. Clones share everything. Discovery starts with
/// the first call and ends with the last clone; until its first answer calls wait, as long as their deadline lets them.
///
/// ```
/// use std::convert::Infallible;
/// use evenkeel::{Body, balance::Balancer, discover::Fixed};
/// use http::{Request, Response};
///
/// let addresses = Fixed::new(["10.0.0.1:8443", "10.0.0.2:8443"]);
/// let balancer = Balancer::builder(addresses).build(|endpoint| {
///     let address = endpoint.address();
///     Ok(tower::service_fn(move |_request: Request<Body>| async move {
///         Ok::<_, Infallible>(Response::new(Body::from(address.to_string())))
///     }))
/// })?;
/// assert_eq!(balancer.endpoints().len(), 2);
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
pub struct Balancer<S> {
    core: Arc<Core<S>>,
}

impl<S> Clone for Balancer<S> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

/// What all clones share.
pub(crate) struct Core<S> {
    hub: Arc<Hub<S>>,
    roster: Mutex<Roster<S>>,
    /// `None` once it has said all that it will.
    source: ArcSwapOption<Box<dyn Discover>>,
    make: Arc<Make<S>>,
    trust_empty: bool,
    running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
    this: Weak<Self>,
}

impl<S> Balancer<S> {
    pub(crate) fn new(core: Arc<Core<S>>) -> Self {
        Self { core }
    }
}

impl<S: Clone + Send + Sync + 'static> Balancer<S> {
    /// How every endpoint of the last answer of discovery stands, those without a service included.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let now = clock::now();
        self.core.roster().status(&self.core.hub.common.shared, now)
    }

    /// Brings every ejected endpoint back at once.
    pub fn clear_ejections(&self) {
        let shared = &self.core.hub.common.shared;
        let tick = shared.tick(clock::recent());
        for seat in shared.set.load().seats.iter() {
            if seat.stats.health.clear(&shared.ejected) == Change::Readmitted {
                seat.stats.load.reset(tick);
            }
        }
    }
}

impl<S, B, RB> Service<Request<B>> for Balancer<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    RB: Body,
    B: 'static,
{
    type Response = Response<Guarded<RB, InFlight>>;
    type Error = Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let _scope = clock::enter();
        let joined = match call::join(&mut request, clock::recent) {
            Ok(joined) => joined,
            Err(error) => return ResponseFuture::refused(error),
        };
        // Without a runtime here there may be one where the future is polled: it asks again while it waits.
        let _ = self.core.ensure();
        let attempt = self.core.attempt(&request, joined);
        ResponseFuture::new(attempt, request)
    }
}

impl<S: Clone + Send + Sync + 'static> Core<S> {
    pub(crate) fn new(
        hub: Hub<S>,
        source: Box<dyn Discover>,
        make: Make<S>,
        trust_empty: bool,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            hub: Arc::new(hub),
            roster: Mutex::default(),
            source: ArcSwapOption::from_pointee(source),
            make: Arc::new(make),
            trust_empty,
            running: Arc::default(),
            task: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    /// Takes a set that never changes. One in which every endpoint got a service needs no task.
    pub(crate) fn fix(&self, set: Vec<Endpoint>) {
        // One that no call can be sent to is an empty one.
        let set = distinct(set).unwrap_or_default();
        let made = make_all(&self.make, set.clone());
        let complete = made.iter().all(|(_, service)| service.is_ok());
        self.update(&set, made);
        self.running.store(complete, Ordering::Relaxed);
        if complete {
            self.source.store(None);
        }
    }

    fn attempt<B: 'static>(&self, request: &Request<B>, joined: call::Joined) -> Attempt<S> {
        let facts = call::attempt(request);
        let call: &Call = &joined.call;
        let limit = facts.and_then(|facts| facts.limit);
        let awaited = self.hub.awaited.load(Ordering::Relaxed);
        let discovery = awaited.then(|| self.this.upgrade()).flatten();
        Attempt {
            hub: Arc::clone(&self.hub),
            number: facts.map_or(1, |facts| facts.number),
            limit: limit.or_else(|| call.policy().attempt_timeout_given()),
            caller: caller(request.method(), call),
            discovery: discovery.map(|core| core as Arc<dyn Discovering>),
            call: joined.call,
            opened: joined.opened,
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster<S>> {
        // An update that panicked (in a clone of a service) left a set that the next answer corrects.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an answer of discovery.
    async fn take(&self, answer: Result<Vec<Endpoint>, BoxError>) {
        let (set, new) = match answer.and_then(|set| Ok(self.roster().look_at(set)?)) {
            Ok(looked) => looked,
            Err(error) => return self.trouble(Cause::because_of("discovery failed", error)),
        };
        if set.is_empty() && !self.trust_empty {
            return self.lack("discovery answered with an empty set");
        }
        let made = self.make_all(new).await;
        self.update(&set, made);
    }

    fn update(&self, set: &[Endpoint], made: Vec<Made<S>>) {
        let mut roster = self.roster();
        let snapshot = roster.update(set, made, &self.hub.common.shared, clock::now());
        let gone = roster.take_gone();
        drop(roster);
        if let Some(snapshot) = snapshot {
            self.hub.common.shared.set.store(Arc::clone(&snapshot.set));
            self.show(snapshot);
        }
        drop(gone);
    }

    /// No set could be learnt: the last one stays, and who waits for the first one waits on.
    fn trouble(&self, cause: Cause) {
        if self.hub.snapshot.load().is_awaited() {
            let snapshot = Snapshot::awaited(Some(cause));
            self.hub.snapshot.store(Arc::new(snapshot));
        }
    }

    /// There is no set: if there never was one, calls need not wait.
    fn lack(&self, why: &'static str) {
        let snapshot = self.hub.snapshot.load();
        if let Answer::Awaited(trouble) = &snapshot.answer {
            let cause = trouble.clone().unwrap_or_else(|| Cause::new(why));
            self.show(Snapshot::lacking(cause));
        }
    }

    fn show(&self, snapshot: Snapshot<S>) {
        self.hub.snapshot.store(Arc::new(snapshot));
        self.hub.awaited.store(false, Ordering::Relaxed);
        self.hub.changed.notify_waiters();
    }

    async fn make_all(&self, endpoints: Vec<Endpoint>) -> Vec<Made<S>> {
        if endpoints.is_empty() || !self.make.blocks {
            return make_all(&self.make, endpoints);
        }
        let (make, given) = (Arc::clone(&self.make), endpoints.clone());
        let made = tokio::task::spawn_blocking(move || make_all(&make, given)).await;
        made.unwrap_or_else(|_stopped| {
            let cause = Cause::new("the runtime stopped while services were made");
            let none = |endpoint| (endpoint, Err(cause.clone()));
            endpoints.into_iter().map(none).collect()
        })
    }
}

/// Calls the user's function for each; a panic in it is a failure like any other.
fn make_all<S>(make: &Make<S>, endpoints: Vec<Endpoint>) -> Vec<Made<S>> {
    let made = endpoints.into_iter().map(|endpoint| {
        let what = || format!("no service for {endpoint}");
        let service = match catch_unwind(AssertUnwindSafe(|| (make.make)(&endpoint))) {
            Ok(Ok(service)) => Ok(service),
            Ok(Err(error)) => Err(Cause::because_of(what(), error)),
            Err(_panic) => Err(Cause::new(format!("{}: its function panicked", what()))),
        };
        (endpoint, service)
    });
    made.collect()
}

impl<S: Clone + Send + Sync + 'static> Discovering for Core<S> {
    fn ensure(&self) -> bool {
        if self.running.load(Ordering::Relaxed) {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        if self.running.swap(true, Ordering::AcqRel) {
            return true;
        }
        let running = Running {
            running: Arc::clone(&self.running),
            changed: Arc::clone(&self.hub.changed),
            complete: false,
        };
        let task = runtime.spawn(watch(Weak::clone(&self.this), running));
        *self.task() = Some(task.abort_handle());
        true
    }
}

impl<S> Core<S> {
    fn task(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for Core<S> {
    fn drop(&mut self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }
}

/// Says that discovery runs. If its task ends before the source does (its runtime is gone, it panicked), the next call
/// starts another one, and so do those that wait.
struct Running {
    running: Arc<AtomicBool>,
    changed: Arc<Notify>,
    /// The source has said its last word: nothing is to be started again.
    complete: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        self.running.store(false, Ordering::Release);
        // A source that panics whenever it is asked would otherwise be asked without a pause.
        if !std::thread::panicking() {
            self.changed.notify_waiters();
        }
    }
}

/// Follows the source. It keeps no clone alive, so it ends with the last one.
async fn watch<S: Clone + Send + Sync + 'static>(core: Weak<Core<S>>, mut running: Running) {
    // Here and not in the call that starts it: a source that panics ends this task and no call.
    let source = core.upgrade().and_then(|core| core.source.load_full());
    let Some(mut sets) = source.map(|source| source.watch()) else {
        return;
    };
    while let Some(answer) = sets.next().await {
        let Some(core) = core.upgrade() else { return };
        core.take(answer).await;
    }
    if let Some(core) = core.upgrade() {
        core.lack("discovery ended without an answer");
    }
    running.complete = true;
}

impl<S> fmt::Debug for Balancer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.core.hub.common.shared.set.load().len();
        write!(f, "Balancer({size} endpoints)")
    }
}
