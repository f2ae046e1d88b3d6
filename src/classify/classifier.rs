use std::{error::Error as StdError, fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, Response, StatusCode};

use super::{
    evidence::{self, Evidence},
    grpc::{self, Code},
    http as http_status,
    verdict::{Awaited, Class, Credit, Verdict},
};
use crate::{
    call::{Disposition, Outcome},
    error::Error,
};

type ReadError = dyn Fn(&(dyn StdError + 'static)) -> Option<Evidence> + Send + Sync;
type ReadHead = dyn Fn(StatusCode, &HeaderMap) -> Option<Verdict> + Send + Sync;

/// Reads responses and errors into verdicts; the same one serves retry, breaker and balancer.
///
/// The default goes by HTTP status and by the io kinds in an error's source chain. Closures may know
/// better; where they answer `None` the default decides.
///
/// ```
/// use evenkeel::classify::{Classifier, Verdict};
///
/// // A service that answers 404 while it replicates.
/// let classifier = Classifier::default()
///     .response(|status, _headers| (status == 404).then(|| Verdict::FAILURE));
/// ```
#[derive(Clone, Default)]
pub struct Classifier {
    readers: Arc<Readers>,
}

/// Which protocol's words are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Http,
    Grpc,
}

/// The first one that knows decides.
#[derive(Clone, Default)]
struct Readers {
    protocol: Protocol,
    errors: Vec<Arc<ReadError>>,
    heads: Vec<Arc<ReadHead>>,
}

impl Classifier {
    /// Reads gRPC: the status in the head or in the trailers, or a proxy's HTTP status where there is none.
    ///
    /// UNAVAILABLE may pass, RESOURCE_EXHAUSTED if the server says when; UNKNOWN, INTERNAL, DATA_LOSS and
    /// DEADLINE_EXCEEDED are failures that are not repeated; every other code is the server doing its work. A
    /// number that is no code is UNKNOWN, and so is a stream that ends without one. An answer that is not of gRPC, as
    /// a proxy gives it, is mapped [as published]; its `Retry-After` is read, gRPC's own is `grpc-retry-pushback-ms`.
    ///
    /// A status in the trailers counts when they come. A head that says OK is a success unless trailers after it
    /// say otherwise.
    ///
    /// ```
    /// use evenkeel::classify::{Classifier, Verdict};
    ///
    /// // A service whose ABORTED may be sent again as it is.
    /// let aborted = |headers: &http::HeaderMap| headers.get("grpc-status").is_some_and(|code| code == "10");
    /// let classifier = Classifier::grpc()
    ///     .response(move |_, headers| aborted(headers).then_some(Verdict::FAILURE));
    /// ```
    ///
    /// [as published]: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
    #[must_use]
    pub fn grpc() -> Self {
        let protocol = Protocol::Grpc;
        let readers = Arc::new(Readers {
            protocol,
            ..Readers::default()
        });
        Self { readers }
    }

    /// Adds a reader of errors; it is asked before those added earlier.
    #[must_use]
    pub fn evidence<F>(mut self, read: F) -> Self
    where
        F: Fn(&(dyn StdError + 'static)) -> Option<Evidence> + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.readers)
            .errors
            .insert(0, Arc::new(read));
        self
    }

    /// Adds a reader of response heads; it is asked before those added earlier.
    ///
    /// One of gRPC is asked about trailers too, which come with the status of their head: 200.
    #[must_use]
    pub fn response<F>(mut self, read: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> Option<Verdict> + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.readers)
            .heads
            .insert(0, Arc::new(read));
        self
    }

    /// Asks another one where this one does not know.
    pub(crate) fn over(mut self, below: &Self) -> Self {
        let readers = Arc::make_mut(&mut self.readers);
        if readers.protocol == Protocol::default() {
            readers.protocol = below.readers.protocol;
        }
        readers
            .errors
            .extend(below.readers.errors.iter().map(Arc::clone));
        readers
            .heads
            .extend(below.readers.heads.iter().map(Arc::clone));
        self
    }

    fn read(&self, status: StatusCode, headers: &HeaderMap) -> Option<Verdict> {
        let mut readers = self.readers.heads.iter();
        readers.find_map(|read| read(status, headers))
    }

    /// The verdict on a response head; `wall` is asked for only where a date may have to be read.
    pub(crate) fn head<B>(
        &self,
        response: &Response<B>,
        wall: impl FnOnce() -> SystemTime,
    ) -> Verdict {
        self.judge(response, wall).0
    }

    /// The verdict on a response head, and what it leaves to the trailers.
    pub(crate) fn judge<B>(
        &self,
        response: &Response<B>,
        wall: impl FnOnce() -> SystemTime,
    ) -> (Verdict, Option<Awaited>) {
        let (status, headers) = (response.status(), response.headers());
        let head = self.grpc_head(response);
        let of_protocol = || match head {
            Some(head) => head.verdict(status, headers, wall),
            None if status.as_u16() < 400 => Verdict::SUCCESS,
            None => http_status::head(status, headers, wall()),
        };
        let verdict = self.read(status, headers).unwrap_or_else(of_protocol);
        (verdict, head.and_then(grpc::Head::awaited))
    }

    /// Whether it reads gRPC.
    pub(crate) fn is_grpc(&self) -> bool {
        self.readers.protocol == Protocol::Grpc
    }

    /// What a good head leaves to the trailers.
    pub(crate) fn awaited<B>(&self, response: &Response<B>) -> Option<Awaited> {
        self.grpc_head(response)?.awaited()
    }

    fn grpc_head<B>(&self, response: &Response<B>) -> Option<grpc::Head> {
        self.is_grpc()
            .then(|| grpc::Head::read(response.status(), response.headers()))
    }

    /// The verdict on the end of a body whose head left this to it.
    pub(crate) fn trailers(&self, awaited: Awaited, trailers: Option<&HeaderMap>) -> Verdict {
        let known = |trailers| self.read(StatusCode::OK, trailers);
        let verdict = trailers.and_then(known);
        verdict.unwrap_or_else(|| grpc::at_end(awaited, trailers).1)
    }

    /// What a head is to a budget that counts ends; nothing while the trailers are awaited.
    pub(crate) fn credit<B>(&self, response: &Response<B>, verdict: &Verdict) -> Credit {
        let success = match self.grpc_head(response) {
            Some(head) if verdict.class.is_success() && head.awaited().is_some() => {
                return Credit::None;
            }
            Some(_) => false,
            None => verdict.class.is_success(),
        };
        Credit::of(verdict, success)
    }

    /// What the end of a body is to a budget that counts ends, whose head left this to it.
    pub(crate) fn credit_at_end(&self, awaited: Awaited, trailers: Option<&HeaderMap>) -> Credit {
        let verdict = self.trailers(awaited, trailers);
        let ok = grpc::at_end(awaited, trailers).0.is_ok();
        Credit::of(&verdict, ok && verdict.class.is_success())
    }

    /// How a report names a response; an open head is OK until its trailers say otherwise.
    pub(crate) fn answer<B>(&self, response: &Response<B>) -> Outcome {
        match self.grpc_head(response) {
            Some(head) => Outcome::Grpc(head.code().unwrap_or(Code::OK).as_str()),
            None => Outcome::Status(response.status()),
        }
    }

    /// The verdict on an error.
    pub(crate) fn error(&self, error: &Error) -> Verdict {
        evidence::ours(error).unwrap_or_else(|| self.upstream(error).verdict())
    }

    /// What an error of the service below proves; what is known to be unsent or refused stays so.
    fn upstream(&self, error: &Error) -> Evidence {
        let Some(source) = StdError::source(error) else {
            return Evidence::Unknown;
        };
        let known = Evidence::marked(source)
            .or_else(|| self.readers.errors.iter().find_map(|read| read(source)));
        let read = known
            .or_else(|| error.evidence())
            .or_else(|| Evidence::from_io(source))
            .unwrap_or(Evidence::Unknown);
        match (read, error.disposition()) {
            // A reader sees what the error is, not that it came of asking for readiness.
            (Evidence::Unknown, _) if error.is_unsent() => Evidence::NotSent,
            (Evidence::Unknown, Disposition::NotSent) if known.is_none() => Evidence::NotSent,
            (Evidence::Unknown, Disposition::Refused) if known.is_none() => Evidence::Refused,
            (evidence, _) => evidence,
        }
    }

    /// How a report names the end of an attempt.
    pub(crate) fn outcome(&self, error: &Error) -> Outcome {
        match error.kind() {
            crate::error::ErrorKind::Upstream => Outcome::Failed(self.upstream(error).as_str()),
            kind => Outcome::Failed(kind.as_str()),
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Classifier({} error readers, {} head readers)",
            self.readers.errors.len(),
            self.readers.heads.len()
        )
    }
}

impl Class {
    /// Whether an endpoint that ended an attempt so did its work.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Success)
    }
}
