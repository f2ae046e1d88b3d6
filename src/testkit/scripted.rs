use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tower::Service;

use super::{
    act::{Act, Outcome},
    answer::Answer,
    body::ScriptedBody,
    ledger::Ledger,
    pause::{Pause, quiet_panic},
    readiness::Readiness,
    recorder::{Recorder, Seen},
};

type Plan = dyn FnMut(usize) -> Act + Send;

/// A service that does what its script says, for tests under paused time; clones share everything.
///
/// As a concurrency limit does, an instance holds a place from its `poll_ready` on until it is called or dropped,
/// and it panics when called without: who puts a layer over it finds out whether the layer calls the instance
/// that was ready. It counts what lives, and its [`recorder`](Self::recorder) keeps what it was sent.
///
/// ```
/// # tokio_test::block_on(async {
/// use evenkeel::testkit::{Act, Scripted};
/// use evenkeel::{Body, Retry, RetryLayer};
/// use tower::{Layer, ServiceExt};
///
/// tokio::time::pause();
/// let server = Scripted::new([Act::status(503), Act::ok()]);
/// let service = RetryLayer::new(Retry::default().build().unwrap()).layer(server.clone());
/// let request = http::Request::get("/").body(Body::empty()).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
/// server.recorder().assert_attempts(2);
/// assert_eq!(server.in_flight(), 0);
/// # });
/// ```
pub struct Scripted {
    ledger: Ledger,
    plan: Arc<Mutex<Box<Plan>>>,
    recorder: Recorder,
    polls: u32,
    pause: Pause,
    ready: bool,
}

impl Scripted {
    /// Does this, call by call; what comes after the last is 200 at once.
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self::by(in_turn(acts))
    }

    /// Does with call n, from 1, what this says.
    pub fn by(plan: impl FnMut(usize) -> Act + Send + 'static) -> Self {
        let ledger = Ledger::default();
        ledger.with(|state| state.instances = 1);
        Self {
            ledger,
            plan: Arc::new(Mutex::new(Box::new(plan))),
            recorder: Recorder::new(),
            polls: 0,
            pause: Pause::default(),
            ready: false,
        }
    }

    /// Answers with these statuses in turn, with the last one for ever.
    pub fn statuses<const N: usize>(statuses: [u16; N]) -> Self {
        Self::by(move |number| {
            let status = statuses.get(number - 1).or_else(|| statuses.last());
            Act::status(status.copied().unwrap_or(200))
        })
    }

    /// Does this from now on, whatever it was to do before; what comes after the last is 200 at once.
    pub fn set_acts(&self, acts: impl IntoIterator<Item = Act>) {
        let plan = in_turn(acts);
        // The old one is somebody else's code: it is not dropped under the lock.
        let old = std::mem::replace(&mut *self.plan(), Box::new(plan));
        drop(old);
    }

    fn plan(&self) -> MutexGuard<'_, Box<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how its instances become ready. Default: always.
    #[must_use]
    pub fn readiness(self, readiness: Readiness) -> Self {
        self.set_readiness(readiness);
        self
    }

    /// Sets from now on, for all clones, how they become ready, and wakes who waits.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.ledger.release(|state| state.readiness = readiness);
    }

    /// Sets how they become ready, and says how they did before.
    pub(crate) fn now_ready(&self, readiness: Readiness) -> Readiness {
        let before = self.ledger.with(|state| state.readiness);
        self.set_readiness(readiness);
        before
    }

    /// The next clone of any instance panics.
    pub fn panic_at_next_clone(&self) {
        self.ledger.with(|state| state.clone_panics = true);
    }

    /// No clone panics from now on.
    pub(crate) fn calm_clones(&self) {
        self.ledger.with(|state| state.clone_panics = false);
    }

    /// What it was sent, with assertions.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The calls so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.recorder.seen()
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.recorder.len()
    }

    /// How often any instance was asked whether it is ready.
    #[must_use]
    pub fn ready_polls(&self) -> usize {
        self.ledger.with(|state| state.ready_polls)
    }

    /// Instances that live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.ledger.with(|state| state.instances)
    }

    /// Instances that were polled ready and neither called nor dropped.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.ledger.with(|state| state.reserved)
    }

    /// Calls whose future lives.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ledger.with(|state| state.in_flight)
    }

    /// The most calls whose futures lived at the same time.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.ledger.with(|state| state.most_in_flight)
    }

    /// Calls whose future was dropped before its answer.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.ledger.with(|state| state.dropped)
    }

    /// Response bodies that live.
    #[must_use]
    pub fn bodies(&self) -> usize {
        self.ledger.with(|state| state.bodies)
    }

    /// Calls of an instance that was not ready; each of them panicked.
    #[must_use]
    pub fn unready_calls(&self) -> usize {
        self.ledger.with(|state| state.unready_calls)
    }

    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let readiness = self.ledger.with(|state| {
            state.ready_polls += 1;
            state.readiness
        });
        match readiness {
            _ if self.ready => Poll::Ready(Ok(())),
            Readiness::Always => Poll::Ready(Ok(())),
            Readiness::Polls(pending) if self.polls < pending => {
                self.polls += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Readiness::Polls(_) => Poll::Ready(Ok(())),
            Readiness::After(delay) => self.pause.poll(delay, cx).map(Ok),
            Readiness::Never => {
                self.ledger.with(|state| state.wait(cx.waker()));
                Poll::Pending
            }
            Readiness::Fail(kind) => Poll::Ready(Err(kind.into())),
            Readiness::Slots(slots) => {
                let free = self.ledger.with(|state| state.claim(slots, cx.waker()));
                self.ready = free;
                if free {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
            Readiness::Panic => quiet_panic("the script panics in poll_ready"),
        }
    }

    /// Gives up its place for a call.
    fn take_place(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        (self.polls, self.pause) = (0, Pause::default());
        self.ledger.with(|state| {
            state.reserved -= usize::from(ready);
            state.unready_calls += usize::from(!ready);
        });
        assert!(ready, "called on an instance that was not polled ready");
    }
}

fn in_turn(acts: impl IntoIterator<Item = Act>) -> impl FnMut(usize) -> Act + Send + 'static {
    let mut acts = acts.into_iter().collect::<VecDeque<_>>();
    move |_| acts.pop_front().unwrap_or_else(Act::ok)
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        let panics = self.ledger.with(|state| {
            state.instances += usize::from(!state.clone_panics);
            std::mem::take(&mut state.clone_panics)
        });
        if panics {
            quiet_panic("the script panics in clone");
        }
        Self {
            ledger: self.ledger.clone(),
            plan: Arc::clone(&self.plan),
            recorder: self.recorder.clone(),
            polls: 0,
            pause: Pause::default(),
            ready: false,
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let ready = self.ready;
        self.ledger.release(|state| {
            state.instances -= 1;
            state.reserved -= usize::from(ready);
        });
    }
}

impl<B> Service<Request<B>> for Scripted
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = http::Response<ScriptedBody>;
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_slot(cx))?;
        if !std::mem::replace(&mut self.ready, true) {
            self.ledger.with(|state| state.reserved += 1);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        self.take_place();
        let (parts, body) = request.into_parts();
        let entry = self.recorder.enter(&parts, body.size_hint().exact());
        let act = (self.plan())(entry.number());
        if matches!(act.outcome, Outcome::PanicInCall) {
            self.ledger.release(|_| ());
            quiet_panic("the script panics in call");
        }
        Answer::new(&self.ledger, entry, act, body)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("ready", &self.ready)
            .field("shared", &self.ledger)
            .finish_non_exhaustive()
    }
}
