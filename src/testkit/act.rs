use std::{fmt, io, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::step::Step;

/// What a scripted service does with one call: after a while a head and a body, an error, or nothing at all.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::testkit::{Act, Step};
///
/// let slow_and_cut_short = Act::status(200)
///     .after(Duration::from_millis(300))
///     .header("x-served-by", "a")
///     .body([Step::data("the first part"), Step::fail(std::io::ErrorKind::ConnectionReset)]);
/// # let _ = slow_and_cut_short;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Act {
    pub(crate) after: Duration,
    pub(crate) reads: bool,
    pub(crate) outcome: Outcome,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<Step>,
}

/// What it comes to.
#[derive(Clone)]
pub(crate) enum Outcome {
    Head(StatusCode),
    Fail(Arc<Failure>),
    Hang,
    Panic,
    PanicInCall,
}

pub(crate) type Failure = dyn Fn() -> io::Error + Send + Sync;

impl Act {
    /// Answers 200.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Answers with this status and an empty body.
    ///
    /// # Panics
    /// If it is none.
    pub fn status(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status) => Self::new(Outcome::Head(status)),
            Err(_) => panic!("{status} is no status"),
        }
    }

    /// Fails with an error of this kind.
    pub fn fail(kind: io::ErrorKind) -> Self {
        Self::fail_with(move || kind.into())
    }

    /// Fails with the error that this makes.
    pub fn fail_with(make: impl Fn() -> io::Error + Send + Sync + 'static) -> Self {
        Self::new(Outcome::Fail(Arc::new(make)))
    }

    /// Refuses the connection: the request is known not to have been sent, and its body is not touched.
    pub fn refuse() -> Self {
        Self::fail(io::ErrorKind::ConnectionRefused).unread()
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::new(Outcome::Hang)
    }

    /// Panics where it would have answered.
    pub fn panic() -> Self {
        Self::new(Outcome::Panic)
    }

    /// Panics in `call`, before there is a future.
    pub fn panic_in_call() -> Self {
        Self::new(Outcome::PanicInCall)
    }

    fn new(outcome: Outcome) -> Self {
        Self {
            after: Duration::ZERO,
            reads: true,
            outcome,
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    /// Takes so long, from the end of the request body on. Default: no time.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Does not read the request body. Default: reads it to its end first.
    pub fn unread(mut self) -> Self {
        self.reads = false;
        self
    }

    /// Adds a header to the response.
    ///
    /// # Panics
    /// If name or value are none.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.headers.append(HeaderName::from_static(name), value),
            Err(_) => panic!("{value:?} is no header value"),
        };
        self
    }

    /// The steps of the response body. Default: an empty one.
    pub fn body(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.body = steps.into_iter().collect();
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(status) => write!(f, "{}", status.as_str()),
            Self::Fail(make) => write!(f, "{}", make()),
            Self::Hang => f.write_str("hang"),
            Self::Panic => f.write_str("panic"),
            Self::PanicInCall => f.write_str("panic in call"),
        }
    }
}
