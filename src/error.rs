//! The one error of all layers.

use std::{error::Error as StdError, fmt, time::Duration};

use tower::load_shed::error::Overloaded;

use crate::{
    call::{Disposition, Report, Short},
    classify::{Evidence, chain},
};

pub use crate::setting::InvalidSetting;

/// A boxed error of the services below.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
///
/// [`kind`](Self::kind) is the last cause, [`disposition`](Self::disposition) the worst over all attempts,
/// [`report`](Self::report) the whole story, and `Display` one line to act on. The error of the service below
/// stays reachable by [`source`](StdError::source). A response of any status is never an error of ours.
pub struct Error(Repr);

/// A rejection has nothing to say but its kind, and is made when there is no time to lose: it allocates nothing.
enum Repr {
    Bare(ErrorKind),
    Told(Box<Inner>),
}

static NO_STORY: Report = Report::empty();

struct Inner {
    kind: ErrorKind,
    disposition: Disposition,
    /// What the edge that saw it happen read off it.
    evidence: Option<Evidence>,
    /// The service below was not even called.
    unready: bool,
    report: Report,
    source: Option<BoxError>,
    /// What the line says of the causes, where the source is no longer what it was.
    causes: Option<Box<str>>,
}

/// The last cause of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call's deadline passed.
    DeadlineExceeded,
    /// An attempt took longer than its limit.
    AttemptTimeout,
    /// The response body was silent for longer than its idle limit.
    BodyIdle,
    /// The circuit breaker is open.
    CircuitOpen {
        /// When it will probe, if that is known.
        retry_in: Option<Duration>,
    },
    /// There is no endpoint to call.
    NoEndpoints,
    /// Every endpoint has as many calls in flight as it may have, or tower's `LoadShed` turned the call away.
    Overloaded,
    /// The service below failed: see the source.
    Upstream,
    /// The call itself is wrong and was not sent: see the source.
    InvalidCall,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        let bare = Self(Repr::Bare(kind));
        match kind.times_out() {
            true => bare.with_source(timed_out()),
            false => bare,
        }
    }

    fn inner(&self) -> Option<&Inner> {
        match &self.0 {
            Repr::Bare(_) => None,
            Repr::Told(inner) => Some(inner),
        }
    }

    fn with(self, tell: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match self.0 {
            Repr::Told(inner) => inner,
            Repr::Bare(kind) => Box::new(Inner {
                kind,
                disposition: Disposition::NotSent,
                evidence: None,
                unready: false,
                report: Report::empty(),
                source: None,
                causes: None,
            }),
        };
        tell(&mut inner);
        Self(Repr::Told(inner))
    }

    /// Takes an error of the service below; one of ours passes through as it is.
    #[cold]
    pub(crate) fn from_inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::around(other),
        }
    }

    /// Around one of ours, as layers of others make it, the kind and the story stay: an open circuit is one
    /// whatever it is wrapped in.
    fn around(other: BoxError) -> Self {
        let causes = || chain(&*other);
        let error = if let Some(ours) = causes().find_map(|cause| cause.downcast_ref::<Self>()) {
            Self(Repr::Bare(ours.kind())).with(|inner| {
                inner.disposition = ours.disposition();
                inner.evidence = ours.evidence();
                inner.unready = ours.is_unsent();
                inner.report = ours.report().clone();
            })
        } else if causes().any(|cause| cause.is::<Overloaded>()) {
            Self::new(ErrorKind::Overloaded)
        } else {
            let evidence = Evidence::from_io(&*other).unwrap_or(Evidence::Unknown);
            Self::new(ErrorKind::Upstream).with_disposition(evidence.verdict().disposition)
        };
        error.with_source(other)
    }

    pub(crate) fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.with(|inner| inner.source = Some(source.into()))
    }

    /// Puts what callers of a transport look for into the source chain, with the source so far below it. The line
    /// says what it said before.
    pub(crate) fn retold<E: Into<BoxError>>(
        self,
        retell: impl FnOnce(&Self, Option<BoxError>) -> E,
    ) -> Self {
        let causes = Cause(&self).to_string().into();
        let mut source = None;
        let bared = self.with(|inner| {
            inner.causes = Some(causes);
            source = inner.source.take();
        });
        let retold = retell(&bared, source).into();
        bared.with_source(retold)
    }

    /// An error of the service below, and what it proves.
    pub(crate) fn witnessed(source: impl Into<BoxError>, evidence: Evidence) -> Self {
        Self::new(ErrorKind::Upstream).with(|inner| {
            inner.source = Some(source.into());
            inner.disposition = evidence.verdict().disposition;
            inner.evidence = Some(evidence);
        })
    }

    pub(crate) fn evidence(&self) -> Option<Evidence> {
        self.inner()?.evidence
    }

    pub(crate) fn with_disposition(self, disposition: Disposition) -> Self {
        if self.disposition() == disposition {
            return self;
        }
        self.with(|inner| inner.disposition = disposition)
    }

    /// An error of a service that was never called; one of ours knows better.
    pub(crate) fn unsent(self) -> Self {
        if self.kind() != ErrorKind::Upstream {
            return self;
        }
        self.with(|inner| {
            inner.unready = true;
            inner.disposition = Disposition::NotSent;
        })
    }

    /// Whether the service below was not called, whatever its error looks like.
    pub(crate) fn is_unsent(&self) -> bool {
        self.inner().is_some_and(|inner| inner.unready)
    }

    /// Adds the story; the worst that it knows becomes the error's disposition.
    pub(crate) fn with_report(self, report: Report) -> Self {
        self.with(|inner| {
            inner.disposition = inner.disposition.max(report.disposition());
            inner.report = report;
            inner.report.worsen(inner.disposition);
        })
    }

    /// The last cause.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Repr::Bare(kind) => *kind,
            Repr::Told(inner) => inner.kind,
        }
    }

    /// What is known of the call's effect: the worst over all attempts.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let told = self.inner().map(|inner| inner.disposition);
        told.unwrap_or(Disposition::NotSent)
    }

    /// Whether the other side may have acted on the call: it was sent, and no answer came.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.disposition().may_have_happened()
    }

    /// What happened: attempts, pauses, and why there was no further attempt.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.inner().map_or(&NO_STORY, |inner| &inner.report)
    }

    /// Whether time ran out: the deadline's, an attempt's or a silent body's.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind().times_out()
    }
}

impl ErrorKind {
    pub(crate) const fn times_out(self) -> bool {
        matches!(
            self,
            Self::DeadlineExceeded | Self::AttemptTimeout | Self::BodyIdle
        )
    }
}

/// What checks such as reqwest's `is_timeout` look for in a source chain.
fn timed_out() -> BoxError {
    Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind(), Cause(self))?;
        if !self.report().attempts().is_empty() {
            write!(f, "; {}", self.report())?;
        }
        f.write_str(match self.disposition() {
            Disposition::NotSent => "; it was not sent",
            Disposition::Refused => "; the server did not process it",
            Disposition::Answered => "; the server answered",
            Disposition::Unknown => "; it was sent without an answer and may have happened",
        })
    }
}

impl ErrorKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "deadline exceeded",
            Self::AttemptTimeout => "attempt timed out",
            Self::BodyIdle => "response body was silent for too long",
            Self::CircuitOpen { .. } => "circuit breaker is open",
            Self::NoEndpoints => "no endpoints",
            Self::Overloaded => "as many calls are in flight as may be",
            Self::Upstream => "upstream failed",
            Self::InvalidCall => "invalid call",
        }
    }
}

/// What the line says of an error's causes.
struct Cause<'a>(&'a Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Inner { source, causes, .. }) = self.0.inner() else {
            return Ok(());
        };
        match (causes, source) {
            (Some(causes), _) => f.write_str(causes),
            (None, Some(source)) if !self.0.is_timeout() => write!(f, ": {}", Causes(&**source)),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    /// The kind and the line: the whole story stands in it once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.to_string();
        f.debug_tuple("Error")
            .field(&self.kind())
            .field(&line)
            .finish()
    }
}

/// An error and its sources down to the root, which is what a person has to know; none said twice.
struct Causes<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        // What one of ours would say is told by the error around it.
        let theirs = chain(self.0)
            .skip(1)
            .take_while(|cause| !cause.is::<Error>());
        for cause in theirs.map(ToString::to_string) {
            if !said.contains(&cause) {
                write!(f, ": {cause}")?;
                said.push_str(&cause);
            }
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::CircuitOpen {
                retry_in: Some(wait),
            } => write!(f, ", next probe in {}", Short(*wait)),
            _ => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner()?.source.as_deref();
        source.map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests;
