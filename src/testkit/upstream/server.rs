use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tokio::sync::{Semaphore, oneshot};
use tower::Service;

use super::{
    fault::{Fault, Kind, frozen},
    service_time::ServiceTime,
};
use crate::{
    clock,
    rng::Random,
    testkit::{
        pause::pause,
        recorder::{Ending, Entry, Recorder},
    },
};

type Answer = io::Result<Response<Full<Bytes>>>;

/// A virtual server for paused time: so many workers, a first-in-first-out queue before them, service times and
/// faults by seed and schedule. Clones are the same server.
///
/// It is meant for questions such as how a client's settings take an outage, where a
/// [`Scripted`](crate::testkit::Scripted) service would have to say what it answers to each call. As a server of HTTP
/// mostly does, it works on a call even if the caller has gone.
///
/// ```
/// # tokio_test::block_on(async {
/// use evenkeel::testkit::{Fault, ServiceTime, Upstream};
/// use evenkeel::{Body, Retry, RetryLayer};
/// use std::time::Duration;
/// use tower::{Layer, ServiceExt};
///
/// tokio::time::pause();
/// let second = Duration::from_secs(1);
/// let server = Upstream::new(8)
///     .service_time(ServiceTime::exponential(Duration::from_millis(10)))
///     .seed(1)
///     .fault(Fault::fail(Duration::ZERO..second, 503, 0.5));
/// let service = RetryLayer::new(Retry::default().build().unwrap()).layer(server.clone());
/// for _ in 0..10 {
///     let request = http::Request::get("/").body(Body::empty()).unwrap();
///     let _ = service.clone().oneshot(request).await;
/// }
/// assert!(server.recorder().len() > 10);
/// # });
/// ```
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    free: Arc<Semaphore>,
    settings: Arc<Settings>,
    recorder: Recorder,
    tally: Arc<Tally>,
}

#[derive(Clone, Debug)]
struct Settings {
    workers: usize,
    time: ServiceTime,
    random: Random,
    queue: usize,
    distance: Duration,
    notices: bool,
    faults: Vec<Fault>,
    start: Instant,
}

#[derive(Debug, Default)]
struct Tally {
    /// Calls that wait or are worked on.
    inside: AtomicUsize,
    worked: AtomicUsize,
    wasted: AtomicUsize,
}

impl Upstream {
    /// So many workers, 10 ms for each call.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(workers: usize) -> Self {
        assert!(workers > 0, "a server without workers never answers");
        Self {
            free: Arc::new(Semaphore::new(workers)),
            settings: Arc::new(Settings {
                workers,
                time: ServiceTime::constant(Duration::from_millis(10)),
                random: Random::seeded(0),
                queue: usize::MAX,
                distance: Duration::ZERO,
                notices: false,
                faults: Vec::new(),
                start: clock::now(),
            }),
            recorder: Recorder::new(),
            tally: Arc::default(),
        }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// How long it works on a call. Default: 10 ms.
    pub fn service_time(self, time: ServiceTime) -> Self {
        self.set(|settings| settings.time = time)
    }

    /// Where service times and shares of faults are drawn from. Default: 0.
    pub fn seed(self, seed: u64) -> Self {
        self.set(|settings| settings.random = Random::seeded(seed))
    }

    /// How many calls may wait for a worker; others are answered 503. Default: any number.
    pub fn queue(self, calls: usize) -> Self {
        self.set(|settings| settings.queue = calls)
    }

    /// How long the way to it takes, and as long back. Default: no time.
    pub fn distance(self, one_way: Duration) -> Self {
        self.set(|settings| settings.distance = one_way)
    }

    /// It notices that a caller has gone: the call leaves the queue, or its worker. Default: it does not.
    pub fn notices_cancelled_calls(self) -> Self {
        self.set(|settings| settings.notices = true)
    }

    /// Something is wrong with it for a while.
    pub fn fault(self, fault: Fault) -> Self {
        self.set(|settings| settings.faults.push(fault))
    }

    /// What reached it.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Calls that wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let inside = self.tally.inside.load(Relaxed);
        inside.saturating_sub(self.settings.workers)
    }

    /// Calls that it has worked on to the end.
    #[must_use]
    pub fn worked(&self) -> usize {
        self.tally.worked.load(Relaxed)
    }

    /// Of those that it worked on, how many nobody waited for any more.
    #[must_use]
    pub fn wasted(&self) -> usize {
        self.tally.wasted.load(Relaxed)
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.settings.start)
    }

    fn faults(&self) -> impl Iterator<Item = Kind> {
        let now = self.now();
        self.settings
            .faults
            .iter()
            .filter_map(move |fault| fault.at(now))
    }

    fn hits(&self, share: f64) -> bool {
        self.settings.random.unit() < share
    }

    /// What happens at the door.
    ///
    /// # Errors
    /// With the answer of a call that does not get through it.
    async fn admit(&self) -> Result<Inside, Answer> {
        pause(self.settings.distance).await;
        for fault in self.faults() {
            match fault {
                Kind::Refuse => return Err(Err(io::ErrorKind::ConnectionRefused.into())),
                Kind::Hang => std::future::pending().await,
                Kind::Fail(status, share) if self.hits(share) => return Err(Ok(answer(status))),
                Kind::Fail(..) | Kind::Freeze | Kind::Slow(_) | Kind::Reset(_) => {}
            }
        }
        let places = self.settings.workers.saturating_add(self.settings.queue);
        match self.tally.inside.load(Relaxed) < places {
            true => Ok(Inside::new(Arc::clone(&self.tally))),
            false => Err(Ok(answer(StatusCode::SERVICE_UNAVAILABLE))),
        }
    }

    async fn work(&self, _inside: Inside) -> Answer {
        let _worker = self.free.acquire().await.map_err(io::Error::other)?;
        let slower = |work: Duration, fault| match fault {
            Kind::Slow(factor) => work.mul_f64(factor),
            _ => work,
        };
        let drawn = self.settings.time.draw(&self.settings.random);
        let work = self.faults().fold(drawn, slower);
        let breaks = self
            .faults()
            .any(|fault| matches!(fault, Kind::Reset(share) if self.hits(share)));
        let frozen = frozen(&self.settings.faults, self.now(), work);
        pause(work.saturating_add(frozen)).await;
        self.tally.worked.fetch_add(1, Relaxed);
        match breaks {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(answer(StatusCode::OK)),
        }
    }

    async fn serve(self, inside: Inside, caller: oneshot::Sender<Answer>) {
        let answer = self.work(inside).await;
        if caller.send(answer).is_err() {
            self.tally.wasted.fetch_add(1, Relaxed);
        }
    }

    async fn handle(self) -> Answer {
        let distance = self.settings.distance;
        let answer = match self.admit().await {
            Err(answer) => answer,
            Ok(inside) if self.settings.notices => self.work(inside).await,
            Ok(inside) => {
                let (caller, answer) = oneshot::channel();
                tokio::spawn(self.serve(inside, caller));
                let gone = |_| Err(io::ErrorKind::ConnectionReset.into());
                answer.await.unwrap_or_else(gone)
            }
        };
        pause(distance).await;
        answer
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Counts a call until it is worked off.
struct Inside(Arc<Tally>);

impl Inside {
    fn new(tally: Arc<Tally>) -> Self {
        tally.inside.fetch_add(1, Relaxed);
        Self(tally)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Relaxed);
    }
}

impl<B: Body> Service<Request<B>> for Upstream {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = UpstreamFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> UpstreamFuture {
        let (parts, body) = request.into_parts();
        UpstreamFuture {
            entry: self.recorder.enter(&parts, body.size_hint().exact()),
            answer: Box::pin(self.clone().handle()),
        }
    }
}

/// A call of an [`Upstream`] on its way.
pub struct UpstreamFuture {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    entry: Entry,
}

impl Future for UpstreamFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        self.entry.end(Ending::of(&answer));
        Poll::Ready(answer)
    }
}

impl fmt::Debug for UpstreamFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamFuture")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("settings", &self.settings)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
