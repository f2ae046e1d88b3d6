use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::{
    pushback,
    verdict::{Class, Retryable, Verdict},
};

/// The verdict on a response head, by RFC 9110 and common practice.
///
/// 408, 500, 502, 503 and 504 may pass; 425 asks to come again once (RFC 8470), 409 may be the same key
/// still running; 501 and 505 will not change; everything else below 500 is the server doing its work.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, wall: SystemTime) -> Verdict {
    let pushback = || pushback::retry_after(headers, wall);
    match status.as_u16() {
        409 => Verdict::SUCCESS
            .retryable(Retryable::IfKeyRunning)
            .pushback(pushback()),
        425 => Verdict::SUCCESS.retryable(Retryable::OnceIfIdempotent),
        429 => Verdict::FAILURE
            .class(Class::Throttled)
            .pushback(pushback()),
        408 | 500 | 502 | 503 | 504 => Verdict::FAILURE.pushback(pushback()),
        500.. => Verdict::FAILURE.retryable(Retryable::Never),
        _ => Verdict::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::classify::Pushback;

    fn verdict(status: u16) -> Verdict {
        let status = StatusCode::from_u16(status).expect("a status");
        head(status, &HeaderMap::new(), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn client_faults_are_the_server_doing_its_work() {
        for status in [200, 204, 301, 304, 400, 401, 403, 404, 410, 422] {
            assert_eq!(verdict(status), Verdict::SUCCESS, "{status}");
        }
    }

    #[test]
    fn passing_faults_are_retried_where_repeating_does_no_harm() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(
                verdict(status).retryable,
                Retryable::IfIdempotent,
                "{status}"
            );
            assert!(verdict(status).endpoint_fault);
        }
    }

    #[test]
    fn what_will_not_change_is_a_failure_and_never_retried() {
        for status in [501, 505, 599] {
            assert_eq!(
                (verdict(status).class, verdict(status).retryable),
                (Class::Failure, Retryable::Never)
            );
        }
    }

    #[test]
    fn throttling_counts_apart_and_brings_its_pushback() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", http::HeaderValue::from_static("2"));
        let verdict = head(
            StatusCode::TOO_MANY_REQUESTS,
            &headers,
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(verdict.class, Class::Throttled);
        assert_eq!(verdict.pushback, Pushback::After(Duration::from_secs(2)));
    }
}
