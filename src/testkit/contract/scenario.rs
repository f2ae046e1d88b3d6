use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;

use crate::{
    call::{Body, CallPolicy},
    testkit::{act::Act, pause::quiet_panic, readiness::Readiness, scripted::Scripted, step::Step},
};

const WHILE: Duration = Duration::from_millis(20);

/// What the service does with a call.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    acts: Vec<Act>,
    readiness: Readiness,
    /// Left alone by the layer, the call comes to an end.
    pub(super) ends: bool,
}

impl Scenario {
    fn new(name: &'static str, acts: impl IntoIterator<Item = Act>) -> Self {
        Self {
            name,
            acts: acts.into_iter().collect(),
            readiness: Readiness::Always,
            ends: true,
        }
    }

    const fn ready(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    const fn endless(mut self) -> Self {
        self.ends = false;
        self
    }

    pub(super) fn service(&self) -> Scripted {
        Scripted::new(self.acts.clone()).readiness(self.readiness)
    }

    /// The same after a call that gets this.
    pub(super) fn service_after(&self, first: Act) -> Scripted {
        let acts = std::iter::once(first).chain(self.acts.iter().cloned());
        Scripted::new(acts).readiness(self.readiness)
    }

    /// All that calls can meet.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Self::answered();
        all.extend(Self::failing());
        all.extend(Self::waiting());
        all
    }

    /// Those in which the service answers 200 in the end, whatever the layer is.
    pub(super) fn answered() -> Vec<Self> {
        let body = [
            Step::data("one"),
            Step::pause(WHILE),
            Step::data("two"),
            Step::pause(WHILE),
            Step::trailers([("x-sum", "2")]),
        ];
        vec![
            Self::new("a call answered at once", [Act::ok()]),
            Self::new("a call answered after 20 ms", [Act::ok().after(WHILE)]),
            Self::new("a body in parts, with trailers", [Act::ok().body(body)]),
            Self::new(
                "a body that ends late",
                [Act::ok().body([Step::pause(WHILE)])],
            ),
            Self::new("a service pending for two polls", []).ready(Readiness::Polls(2)),
            Self::new("a service ready after 20 ms", [Act::ok().after(WHILE)])
                .ready(Readiness::After(WHILE)),
            Self::new("a service of one place", [Act::ok().after(WHILE)])
                .ready(Readiness::Slots(1)),
        ]
    }

    /// Those in which an attempt fails.
    pub(super) fn failing() -> Vec<Self> {
        let broken = [
            Step::data("one"),
            Step::pause(WHILE),
            Step::fail(io::ErrorKind::ConnectionReset),
        ];
        let reset = || Act::fail(io::ErrorKind::ConnectionReset);
        let bad_at_once = Act::status(503).body([Step::data("bad")]);
        let bad = Act::status(503).body([Step::data("bad"), Step::pause(WHILE)]);
        vec![
            Self::new("a 503 first", [bad, Act::ok().after(WHILE)]),
            Self::new("a reset first", [reset().after(WHILE), Act::ok()]),
            Self::new("a refusal first", [Act::refuse(), Act::ok().after(WHILE)])
                .ready(Readiness::After(WHILE)),
            Self::new(
                "a 503 first from a service of one place",
                [bad_at_once, Act::ok()],
            )
            .ready(Readiness::Slots(1)),
            Self::new(
                "a reset first from a service pending for two polls",
                [reset(), Act::ok()],
            )
            .ready(Readiness::Polls(2)),
            Self::new("resets alone", std::iter::repeat_with(reset).take(100)),
            Self::new("a body that breaks off", [Act::ok().body(broken)]),
        ]
    }

    /// Those in which the service never answers.
    pub(super) fn waiting() -> Vec<Self> {
        let stall = [Step::data("one"), Step::stall()];
        let hangs = std::iter::repeat_with(Act::hang).take(100);
        vec![
            Self::new("a service that never answers", hangs).endless(),
            Self::new("a service that is never ready", [])
                .ready(Readiness::Never)
                .endless(),
            Self::new("a body that stalls", [Act::ok().body(stall)]).endless(),
        ]
    }
}

/// A request that may be repeated, with a body in memory.
pub(super) fn request() -> Request<Body> {
    with_body(Body::from("up"))
}

pub(super) fn with_body(body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::PUT;
    *request.uri_mut() = http::Uri::from_static("/contract?of=layers");
    request
}

/// A request that layers of this crate refuse.
pub(super) fn invalid() -> Request<Body> {
    let mut request = request();
    let invalid = CallPolicy::new().deadline(Duration::ZERO);
    request.extensions_mut().insert(invalid);
    request
}

const TRAILER: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-parts"),
    HeaderValue::from_static("2"),
);

/// A streamed request body that is counted while it lives.
pub(super) struct Upload {
    alive: Arc<AtomicUsize>,
    frames: usize,
}

impl Upload {
    pub(super) fn body(alive: &Arc<AtomicUsize>) -> Body {
        alive.fetch_add(1, SeqCst);
        Body::stream(Self {
            alive: Arc::clone(alive),
            frames: 3,
        })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(left) = self.frames.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.frames = left;
        Poll::Ready(Some(Ok(match left {
            0 => Frame::trailers(HeaderMap::from_iter([TRAILER])),
            _ => Frame::data(Bytes::from_static(b"up")),
        })))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
    }
}

/// A request body that panics when it is read.
pub(super) struct PanickingUpload;

impl http_body::Body for PanickingUpload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        quiet_panic("the request body panics")
    }
}
