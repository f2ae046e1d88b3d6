use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use crate::call::{Deadline, DeadlineHeader, is_grpc};

/// Codes of gRPC.
const DEADLINE_EXCEEDED: u16 = 4;
const INTERNAL: u16 = 13;

/// Why a request is not given to the handler.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    grpc: bool,
    why: Why,
}

#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// Its caller waits no more.
    Late,
    /// Nobody can say how long its caller waits.
    Malformed(String),
}

/// By when a request that came `now` has to be answered, by `header` if it is not gRPC's.
///
/// # Errors
/// If that is over, or cannot be read.
pub(crate) fn deadline(
    headers: &HeaderMap,
    header: Option<&DeadlineHeader>,
    now: Instant,
) -> Result<Deadline, Refusal> {
    let grpc = is_grpc(headers);
    let own = DeadlineHeader::grpc();
    let Some(header) = (if grpc { Some(&own) } else { header }) else {
        return Ok(Deadline::NEVER);
    };
    let refuse = |why| Refusal { grpc, why };
    match header.read(headers) {
        Ok(None) => Ok(Deadline::NEVER),
        Ok(Some(left)) if left.is_zero() => Err(refuse(Why::Late)),
        Ok(Some(left)) => Ok(Deadline::after(now, left)),
        Err(malformed) => Err(refuse(Why::Malformed(malformed.to_string()))),
    }
}

impl Refusal {
    /// The answer in the words of its protocol; gRPC's is its head alone.
    pub(crate) fn answer(self) -> Response<Bytes> {
        let (status, code) = match self.why {
            Why::Late => (StatusCode::GATEWAY_TIMEOUT, DEADLINE_EXCEEDED),
            Why::Malformed(_) => (StatusCode::BAD_REQUEST, INTERNAL),
        };
        let message = match self.why {
            Why::Late => Bytes::from_static(b"no time was left when the request came"),
            Why::Malformed(why) => Bytes::from(why),
        };
        let mut response = Response::new(Bytes::new());
        if !self.grpc {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            *response.status_mut() = status;
            *response.body_mut() = message;
            response.headers_mut().insert(CONTENT_TYPE, text);
            return response;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", code.into());
        // All of it is plain text, which needs no escapes.
        if let Ok(message) = HeaderValue::from_maybe_shared(message) {
            headers.insert("grpc-message", message);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers<const N: usize>(headers: [(&'static str, &'static str); N]) -> HeaderMap {
        let parsed = headers.map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        parsed.into_iter().collect()
    }

    fn millis() -> DeadlineHeader {
        DeadlineHeader::millis("x-timeout-ms").expect("a header name")
    }

    fn answer(refused: Result<Deadline, Refusal>) -> Response<Bytes> {
        refused.expect_err("refused").answer()
    }

    #[test]
    fn each_protocol_has_its_header_and_the_other_ones_means_nothing() {
        let now = Instant::now();
        let both = [("grpc-timeout", "1S"), ("x-timeout-ms", "2000")];
        let http = headers(both);
        let mut grpc = headers(both);
        let kind = HeaderValue::from_static("application/grpc+proto");
        grpc.insert(CONTENT_TYPE, kind);
        let millis = millis();
        for (request, header, deadline_of_it) in [
            (&grpc, None, Deadline::at(now + SECOND)),
            (&grpc, Some(&millis), Deadline::at(now + SECOND)),
            (&http, Some(&millis), Deadline::at(now + SECOND * 2)),
            (&http, None, Deadline::NEVER),
        ] {
            assert_eq!(deadline(request, header, now), Ok(deadline_of_it));
        }
        let silent = headers([("content-type", "application/grpc")]);
        assert_eq!(deadline(&silent, None, now), Ok(Deadline::NEVER));
    }

    #[test]
    fn grpc_is_refused_by_a_head_with_a_status() {
        for (timeout, code, message) in [
            ("0n", "4", "no time was left"),
            ("1s", "13", "grpc-timeout"),
            ("-1S", "13", "1 to 8 digits"),
        ] {
            let kind = ("content-type", "application/grpc");
            let headers = headers([kind, ("grpc-timeout", timeout)]);
            let response = answer(deadline(&headers, None, Instant::now()));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["grpc-status"], code);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
            let said = response.headers()["grpc-message"].to_str().expect("text");
            assert!(said.contains(message) && !said.contains('%'), "{said}");
            assert!(response.body().is_empty());
        }
    }

    #[test]
    fn others_are_refused_by_a_status_and_a_line() {
        for (left, status, line) in [
            ("0", 504, "no time was left"),
            ("soon", 400, "x-timeout-ms"),
            ("1.5", 400, "whole number of milliseconds"),
        ] {
            let headers = headers([("x-timeout-ms", left)]);
            let response = answer(deadline(&headers, Some(&millis()), Instant::now()));
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("grpc-status"));
            let said = std::str::from_utf8(response.body()).expect("text");
            assert!(said.contains(line) && !said.contains(left), "{said}");
        }
    }
}
