use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, request::Parts};

use crate::clock;

/// What reached a service: one entry for each attempt, with assertions on how many there were, when, and what they
/// had in common.
///
/// Every [`Scripted`](super::Scripted) service and [`Upstream`](super::Upstream) has one. It is also a layer: put
/// where it is to listen, below a retry for its attempts, around any service over `http` types.
///
/// ```
/// use evenkeel::testkit::Recorder;
/// use tower::ServiceBuilder;
/// # let client = tower::service_fn(|_: http::Request<evenkeel::Body>| async {
/// #     Ok::<_, std::io::Error>(http::Response::new(evenkeel::Body::empty()))
/// # });
/// let attempts = Recorder::new();
/// let service = ServiceBuilder::new()
///     // ... the layers under test ...
///     .layer(attempts.clone())
///     .service(client);
/// # let _ = service;
/// attempts.assert_attempts(0);
/// ```
#[derive(Clone)]
pub struct Recorder {
    log: Arc<Mutex<Vec<Seen>>>,
    start: Instant,
}

/// One attempt that reached a service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Counts from 1.
    pub number: usize,
    /// When it came, from the making of the recorder on.
    pub at: Duration,
    /// Its method.
    pub method: Method,
    /// Its URI.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// What the body said of its length when it came.
    pub announced: Option<u64>,
    /// The request body, if the service read it to its end; else empty.
    pub body: Bytes,
    /// The request's trailers.
    pub trailers: Option<HeaderMap>,
    /// When it ended, from the making of the recorder on, and how; `None` while it runs.
    pub ended: Option<(Duration, Ending)>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a response head of this status.
    Head(StatusCode),
    /// With an error.
    Failed,
    /// Its future was dropped first.
    Dropped,
}

impl Ending {
    pub(crate) fn of<B, E>(answer: &Result<Response<B>, E>) -> Self {
        answer
            .as_ref()
            .map_or(Self::Failed, |response| Self::Head(response.status()))
    }
}

impl Recorder {
    /// Nothing yet; its time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            log: Arc::default(),
            start: clock::now(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, parts: &Parts, announced: Option<u64>) -> Entry {
        let at = clock::now().saturating_duration_since(self.start);
        let mut log = self.log();
        let number = log.len() + 1;
        log.push(Seen {
            number,
            at,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            announced,
            body: Bytes::new(),
            trailers: None,
            ended: None,
        });
        drop(log);
        Entry {
            recorder: self.clone(),
            number,
        }
    }

    /// What came so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.log().clone()
    }

    /// How many came so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.log().len()
    }

    /// Whether none came so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When they came, in milliseconds from the making of the recorder on.
    #[must_use]
    pub fn times(&self) -> Vec<u128> {
        self.log().iter().map(|seen| seen.at.as_millis()).collect()
    }

    /// How long it was from each to the next.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        let log = self.log();
        log.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }

    /// Asserts how many attempts there were.
    ///
    /// # Panics
    /// With all of them, if that is not so.
    #[track_caller]
    pub fn assert_attempts(&self, count: usize) {
        let found = self.len();
        assert!(
            found == count,
            "{count} attempts expected, there were {found}: {self:?}"
        );
    }

    /// Asserts when they came, in milliseconds from the making of the recorder on.
    ///
    /// # Panics
    /// With all attempts, if that is not so.
    #[track_caller]
    pub fn assert_times<const N: usize>(&self, millis: [u128; N]) {
        let found = self.times();
        assert!(
            found == millis,
            "attempts expected at {millis:?} ms: {self:?}"
        );
    }

    /// Asserts that the time from each attempt to the next lies in a range.
    ///
    /// # Panics
    /// With all attempts, if one does not.
    #[track_caller]
    pub fn assert_gaps(&self, range: impl RangeBounds<Duration> + Debug) {
        let outside = self.gaps().into_iter().find(|gap| !range.contains(gap));
        assert!(
            outside.is_none(),
            "a gap of {outside:?} is not in {range:?}: {self:?}"
        );
    }

    /// Asserts that all attempts carried this header, once and with the same value.
    ///
    /// # Panics
    /// With the values, if that is not so.
    #[track_caller]
    pub fn assert_same_header(&self, name: &str) {
        let log = self.log();
        let values = |seen: &Seen| {
            let values = seen.headers.get_all(name).into_iter();
            values.map(|value| format!("{value:?}")).collect::<Vec<_>>()
        };
        let values = log.iter().map(values).collect::<Vec<_>>();
        drop(log);
        let alike = values.iter().collect::<BTreeSet<_>>().len() == 1;
        assert!(
            alike && values[0].len() == 1,
            "one `{name}` for all attempts expected: {values:?}"
        );
    }

    /// Asserts that all attempts carried the same request body to its end.
    ///
    /// # Panics
    /// With the bodies, if that is not so.
    #[track_caller]
    pub fn assert_same_body(&self) {
        let bodies: Vec<Bytes> = self.log().iter().map(|seen| seen.body.clone()).collect();
        let alike = bodies.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(alike, "one body for all attempts expected: {bodies:?}");
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// One attempt while it runs.
#[derive(Debug)]
pub(crate) struct Entry {
    recorder: Recorder,
    number: usize,
}

impl Entry {
    pub(crate) const fn number(&self) -> usize {
        self.number
    }

    fn with(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.recorder.log().get_mut(self.number - 1) {
            change(seen);
        }
    }

    pub(crate) fn uploaded(&self, body: Bytes, trailers: Option<HeaderMap>) {
        self.with(|seen| (seen.body, seen.trailers) = (body, trailers));
    }

    /// Only the first word counts.
    pub(crate) fn end(&self, ending: Ending) {
        let at = clock::now().saturating_duration_since(self.recorder.start);
        self.with(|seen| {
            seen.ended.get_or_insert((at, ending));
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(Ending::Dropped);
    }
}

impl Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for seen in self.log().iter() {
            let Seen { number, at, .. } = seen;
            let ended = match &seen.ended {
                Some((end, how)) => format!("{how:?} at {end:?}"),
                None => "running".to_owned(),
            };
            let head = (&seen.method, seen.uri.path());
            list.entry(&format_args!(
                "#{number} {} {} at {at:?}: {ended}",
                head.0, head.1
            ));
        }
        list.finish()
    }
}
