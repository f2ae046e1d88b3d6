//! Our errors as a status of gRPC.

use std::{error::Error as StdError, io, sync::Arc};

use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use tonic::{Code, ConnectError, Status, metadata::MetadataMap};

use crate::{
    call::{Disposition, Report, first_of},
    classify::{Evidence, chain, status_of_foreign},
    error::{BoxError, Error, ErrorKind},
};

static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Puts the status into the error's source chain, where generated clients look for it; the causes stand below it. One
/// that is there already and says something stays the only one.
pub(super) fn told(error: Error) -> Error {
    let theirs = chain(&error).find_map(|cause| cause.downcast_ref::<Status>());
    let code = match theirs {
        Some(theirs) => of_unknown(theirs, &error),
        None => Some(code(&error)),
    };
    match code {
        Some(code) => error.retold(|error, cause| status(code, error.to_string(), cause)),
        None => error,
    }
}

/// The error as generated clients show it: with its code, the line as message, and itself as source.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::from_error(told(error).into())
    }
}

/// Drops details that are no base64, over which tonic would panic when it reads the status.
pub(super) fn sane(headers: &mut HeaderMap) {
    let Some(details) = first_of(headers, &DETAILS) else {
        return;
    };
    let given = (DETAILS.clone(), details.clone());
    let metadata = MetadataMap::from_headers([given].into_iter().collect());
    let details = metadata.get_bin(DETAILS.as_str());
    if details.is_none_or(|details| details.to_bytes().is_err()) {
        headers.remove(&DETAILS);
    }
}

/// The error of a response body: one of ours gets its status, and a connection that broke is no unknown error.
pub(super) fn told_of_body(error: BoxError) -> BoxError {
    let error = match error.downcast::<Error>() {
        Ok(ours) => return told(*ours).into(),
        Err(other) => other,
    };
    let theirs = error.downcast_ref::<Status>();
    let known = theirs.and_then(|theirs| Some((of_unknown(theirs, theirs)?, theirs.message())));
    match known.map(|(code, message)| (code, message.to_owned())) {
        Some((code, message)) => status(code, message, Some(error)).into(),
        None => error,
    }
}

/// What broke, where tonic calls it unknown.
fn of_unknown(theirs: &Status, error: &(dyn StdError + 'static)) -> Option<Code> {
    let unknown = theirs.code() == Code::Unknown;
    of_transport(error).filter(|code| unknown && *code != Code::Unknown)
}

/// The caller's own request stream failed after the head: its status, if it has one.
pub(super) fn of_upload(failure: BoxError) -> Status {
    let own = chain(&*failure).find_map(|cause| cause.downcast_ref::<Status>());
    let (code, message) = match own {
        Some(own) => (own.code(), own.message().to_owned()),
        None => (Code::Unknown, failure.to_string()),
    };
    status(code, message, Some(failure))
}

/// Gives the head of an answer that is not gRPC's, such as a proxy's page, the status that stands for it, so that
/// nobody takes its body for messages; `true` if it was one.
pub(super) fn stand_in<B>(response: &mut Response<B>) -> bool {
    let Some(code) = status_of_foreign(response.status(), response.headers()) else {
        return false;
    };
    let media = response.headers().get(CONTENT_TYPE);
    let media = media.and_then(|media| media.to_str().ok());
    let status = response.status();
    let message = format!(
        "the answer is not gRPC's: {status}, {}",
        media.unwrap_or("no content-type")
    );
    // It goes percent-encoded, and none of this needs to be.
    let message: String = message.chars().filter(|letter| *letter != '%').collect();
    let headers = response.headers_mut();
    headers.insert("grpc-status", u16::from(code).into());
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    true
}

/// A status that the server gave at once, after attempts that failed: an error that carries it and the story, which
/// the status alone has no place for.
pub(super) fn answered<B>(response: &Response<B>) -> Option<Error> {
    let report = response.extensions().get::<Report>()?;
    let status = Status::from_header_map(response.headers())?;
    (status.code() != Code::Ok).then(|| {
        Error::new(ErrorKind::Upstream)
            .with_source(status)
            .with_disposition(Disposition::Answered)
            .with_report(report.clone())
    })
}

fn status(code: Code, message: String, cause: Option<BoxError>) -> Status {
    let mut status = Status::new(code, message);
    if let Some(cause) = cause {
        status.set_source(Arc::from(cause));
    }
    status
}

fn code(error: &Error) -> Code {
    match (error.kind(), error.evidence()) {
        (kind, _) if kind.times_out() => Code::DeadlineExceeded,
        (ErrorKind::Overloaded, _) => Code::ResourceExhausted,
        (ErrorKind::InvalidCall, _) => Code::InvalidArgument,
        (ErrorKind::Upstream, None | Some(Evidence::Unknown | Evidence::BrokenUpload)) => {
            of_transport(error).unwrap_or(Code::Unknown)
        }
        _ => Code::Unavailable,
    }
}

/// What a broken connection or stream means, whichever features tonic was built with; `None` if neither broke.
fn of_transport(error: &(dyn StdError + 'static)) -> Option<Code> {
    let reset = |h2: &h2::Error| h2.is_reset().then(|| h2.reason().map(of_reset)).flatten();
    let mut broken = None;
    for cause in chain(error) {
        if let Some(code) = cause.downcast_ref::<h2::Error>().and_then(reset) {
            return Some(code);
        }
        let transport = cause.is::<hyper::Error>() || cause.is::<h2::Error>();
        if transport || cause.is::<ConnectError>() || cause.is::<io::Error>() {
            broken = Some(Code::Unavailable);
        }
    }
    broken
}

/// The mapping of gRPC over HTTP/2, section "Errors".
fn of_reset(reason: Reason) -> Code {
    match reason {
        Reason::REFUSED_STREAM => Code::Unavailable,
        Reason::CANCEL => Code::Cancelled,
        Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        Reason::STREAM_CLOSED | Reason::HTTP_1_1_REQUIRED => Code::Unknown,
        _ => Code::Internal,
    }
}
