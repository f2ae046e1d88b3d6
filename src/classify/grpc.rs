//! gRPC: the status is in the head (trailers-only), or in the trailers after a body.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::{
    pushback,
    verdict::{Awaited, Class, Pushback, Retryable, Verdict},
};
use crate::call::{first_of, first_of_two, is_grpc_media};

/// The header, or trailer, that holds the status code.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

/// Names by code, as the protocol writes them.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Code {
    pub(super) const OK: Self = Self(0);
    const UNKNOWN: Self = Self(2);
    const DEADLINE_EXCEEDED: Self = Self(4);
    const PERMISSION_DENIED: Self = Self(7);
    const RESOURCE_EXHAUSTED: Self = Self(8);
    const UNIMPLEMENTED: Self = Self(12);
    const INTERNAL: Self = Self(13);
    const UNAVAILABLE: Self = Self(14);
    const DATA_LOSS: Self = Self(15);
    const UNAUTHENTICATED: Self = Self(16);

    pub(crate) fn as_str(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The status that these headers or trailers hold.
    fn read(headers: &HeaderMap) -> Option<Self> {
        first_of(headers, &GRPC_STATUS).map(Self::of)
    }

    /// What is no known number, as it is usually written, is UNKNOWN: so say the clients that show it.
    fn of(value: &HeaderValue) -> Self {
        match value.as_bytes() {
            [digit @ b'0'..=b'9'] => Self(digit - b'0'),
            [b'1', digit @ b'0'..=b'6'] => Self(10 + digit - b'0'),
            _ => Self::UNKNOWN,
        }
    }

    /// What a proxy's HTTP answer means, by the mapping that gRPC publishes.
    fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 431 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    pub(super) fn is_ok(self) -> bool {
        self == Self::OK
    }

    fn verdict(self, headers: &HeaderMap) -> Verdict {
        self.asked(pushback::grpc_retry_pushback(headers))
    }

    fn asked(self, asked: Pushback) -> Verdict {
        let failure = Verdict::FAILURE.retryable(Retryable::Never).pushback(asked);
        match self {
            Self::UNAVAILABLE => failure.retryable(Retryable::IfIdempotent),
            // Client-side size limits produce it, too: only a server that says when means load.
            Self::RESOURCE_EXHAUSTED if asked == Pushback::None => failure.class(Class::Throttled),
            Self::RESOURCE_EXHAUSTED => failure
                .class(Class::Throttled)
                .retryable(Retryable::IfIdempotent),
            Self::UNKNOWN | Self::DEADLINE_EXCEEDED | Self::INTERNAL | Self::DATA_LOSS => failure,
            _ => Verdict::SUCCESS.pushback(asked),
        }
    }
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing yet: the trailers will.
    Open,
    /// Its own status.
    Status(Code),
    /// Of something on the way that does not speak gRPC; what its HTTP status means.
    Foreign(Code),
}

impl Head {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap) -> Self {
        match first_of_two(headers, &CONTENT_TYPE, &GRPC_STATUS) {
            (_, Some(code)) => Self::Status(Code::of(code)),
            (media, None) if status == StatusCode::OK && is_grpc_media(media) => Self::Open,
            _ => Self::Foreign(Code::of_http(status)),
        }
    }

    /// What it leaves to the trailers.
    pub(super) fn awaited(self) -> Option<Awaited> {
        match self {
            Self::Open => Some(Awaited::Status),
            Self::Status(code) if code.is_ok() => Some(Awaited::Correction),
            Self::Status(_) | Self::Foreign(_) => None,
        }
    }

    pub(super) fn code(self) -> Option<Code> {
        match self {
            Self::Open => None,
            Self::Status(code) | Self::Foreign(code) => Some(code),
        }
    }

    /// A proxy says in HTTP's words when to come back.
    pub(super) fn verdict(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        wall: impl FnOnce() -> SystemTime,
    ) -> Verdict {
        match self {
            Self::Open => Verdict::SUCCESS,
            Self::Status(code) => code.verdict(headers),
            Self::Foreign(code) => {
                let verdict = code.asked(pushback::retry_after(headers, wall()));
                match status {
                    StatusCode::TOO_MANY_REQUESTS => verdict.class(Class::Throttled),
                    _ => verdict,
                }
            }
        }
    }
}

/// What the end of a body says whose head left this to it; a stream that ends without a status is not a success.
pub(super) fn at_end(awaited: Awaited, trailers: Option<&HeaderMap>) -> (Code, Verdict) {
    let none = HeaderMap::new();
    let trailers = trailers.unwrap_or(&none);
    let unsaid = match awaited {
        Awaited::Status => Code::UNKNOWN,
        Awaited::Correction => Code::OK,
    };
    let code = Code::read(trailers).unwrap_or(unsaid);
    (code, code.verdict(trailers))
}

/// Whether a head is one of gRPC's that leaves its status to the trailers.
pub(crate) fn awaits_status(status: StatusCode, headers: &HeaderMap) -> bool {
    Head::read(status, headers) == Head::Open
}

/// Whether trailers hold a status that is not OK.
pub(crate) fn is_failure(trailers: &HeaderMap) -> bool {
    Code::read(trailers).is_some_and(|code| !code.is_ok())
}

/// The gRPC status code that stands for an answer that is not gRPC's, such as a proxy's page; `None` for one that is.
///
/// By the mapping of HTTP statuses that gRPC publishes; 2 (`UNKNOWN`) for what it leaves out.
#[must_use]
pub fn status_of_foreign(status: StatusCode, headers: &HeaderMap) -> Option<u8> {
    match Head::read(status, headers) {
        Head::Foreign(code) => Some(code.0),
        Head::Open | Head::Status(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a header value"),
            )
        };
        pairs.iter().map(entry).collect()
    }

    fn of_head(status: u16, pairs: &[(&'static str, &str)]) -> Option<(&'static str, Verdict)> {
        let (status, headers) = (StatusCode::from_u16(status).expect("a status"), map(pairs));
        let head = Head::read(status, &headers);
        let verdict = head.verdict(status, &headers, || SystemTime::UNIX_EPOCH);
        head.code().map(|code| (code.as_str(), verdict))
    }

    fn trailers(trailers: Option<&HeaderMap>) -> (Code, Verdict) {
        at_end(Awaited::Status, trailers)
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    // CLS-02, linkerd/linkerd#1567, line/armeria#4496
    #[test]
    fn a_trailers_only_head_is_judged_by_its_own_status() {
        let (code, verdict) = of_head(200, &[GRPC, ("grpc-status", "14")]).expect("a status");
        assert_eq!(code, "UNAVAILABLE");
        assert_eq!(
            (verdict.class, verdict.retryable),
            (Class::Failure, Retryable::IfIdempotent)
        );
        let (code, verdict) = of_head(200, &[GRPC, ("grpc-status", "0")]).expect("a status");
        assert_eq!((code, verdict), ("OK", Verdict::SUCCESS));
    }

    #[test]
    fn a_head_of_grpc_without_status_says_nothing_yet() {
        for media in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "Application/GRPC",
        ] {
            assert!(
                of_head(200, &[("content-type", media)]).is_none(),
                "{media}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_grpc_is_mapped_from_http() {
        let cases = [
            (400, "INTERNAL"),
            (431, "INTERNAL"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "UNAVAILABLE"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
            (500, "UNKNOWN"),
            (302, "UNKNOWN"),
        ];
        for (status, expected) in cases {
            assert_eq!(
                of_head(status, &[]).expect("a verdict").0,
                expected,
                "{status}"
            );
        }
        for media in ["text/html", "application/grpcfoo", "application/json", ""] {
            let (code, verdict) = of_head(200, &[("content-type", media)]).expect("a proxy");
            assert_eq!(
                (code, verdict.class),
                ("UNKNOWN", Class::Failure),
                "{media}"
            );
        }
        assert_eq!(of_head(200, &[]).expect("no content type").0, "UNKNOWN");
    }

    // CLS-01, linkerd/linkerd2#7701
    #[test]
    fn trailers_decide_at_the_end_and_a_missing_status_is_no_success() {
        assert_eq!(
            trailers(Some(&map(&[("grpc-status", "0")]))).1,
            Verdict::SUCCESS
        );
        assert_eq!(
            trailers(Some(&map(&[("grpc-status", "14")]))).1.class,
            Class::Failure
        );
        assert_eq!(trailers(Some(&map(&[("x", "y")]))).1.class, Class::Failure);
        assert_eq!(trailers(None).1.class, Class::Failure);
    }

    #[test]
    fn a_status_that_is_none_is_unknown() {
        for garbage in ["", "-1", "17", "256", "1e1", "OK", " 0", "00", "014"] {
            assert_eq!(
                trailers(Some(&map(&[("grpc-status", garbage)]))).0,
                Code::UNKNOWN,
                "{garbage:?}"
            );
        }
    }

    #[test]
    fn codes_that_blame_the_caller_are_the_server_doing_its_work() {
        for code in ["1", "3", "5", "6", "7", "9", "10", "11", "12", "16"] {
            let (_, verdict) = trailers(Some(&map(&[("grpc-status", code)])));
            assert_eq!(
                (verdict.class, verdict.retryable),
                (Class::Success, Retryable::Never),
                "{code}"
            );
        }
        for code in ["2", "4", "13", "15"] {
            let (_, verdict) = trailers(Some(&map(&[("grpc-status", code)])));
            assert_eq!(
                (verdict.class, verdict.retryable),
                (Class::Failure, Retryable::Never),
                "{code}"
            );
        }
    }

    #[test]
    fn an_exhausted_resource_is_retried_only_when_the_server_says_when() {
        let (_, silent) = trailers(Some(&map(&[("grpc-status", "8")])));
        assert_eq!(
            (silent.class, silent.retryable),
            (Class::Throttled, Retryable::Never)
        );
        let (_, told) = trailers(Some(&map(&[
            ("grpc-status", "8"),
            ("grpc-retry-pushback-ms", "250"),
        ])));
        assert_eq!(told.retryable, Retryable::IfIdempotent);
        assert_eq!(told.pushback, Pushback::Exactly(Duration::from_millis(250)));
    }

    fn awaited(pairs: &[(&'static str, &str)]) -> Option<Awaited> {
        Head::read(StatusCode::OK, &map(pairs)).awaited()
    }

    #[test]
    fn a_head_that_says_ok_stands_unless_trailers_take_it_back() {
        assert_eq!(awaited(&[GRPC]), Some(Awaited::Status));
        let ok = awaited(&[GRPC, ("grpc-status", "0")]).expect("may be taken back");
        assert_eq!(at_end(ok, None), (Code::OK, Verdict::SUCCESS));
        let other = map(&[("other", "x")]);
        assert_eq!(at_end(ok, Some(&other)), (Code::OK, Verdict::SUCCESS));
        let taken_back = map(&[("grpc-status", "14")]);
        assert_eq!(at_end(ok, Some(&taken_back)).1.class, Class::Failure);
        for said in ["14", "5", "garbage"] {
            assert_eq!(awaited(&[GRPC, ("grpc-status", said)]), None, "{said}");
        }
        assert_eq!(awaited(&[("content-type", "text/html")]), None);
    }

    #[test]
    fn a_proxy_says_in_the_words_of_http_when_to_come_back() {
        let asked = |status, pairs: &[_]| of_head(status, pairs).expect("a proxy").1;
        let pause = ("retry-after", "2");
        let (busy, down) = (asked(429, &[pause]), asked(503, &[pause]));
        let after = Pushback::After(Duration::from_secs(2));
        assert_eq!((busy.class, busy.pushback), (Class::Throttled, after));
        assert_eq!((down.class, down.pushback), (Class::Failure, after));
        assert_eq!(down.retryable, Retryable::IfIdempotent);
        assert_eq!(
            asked(503, &[("grpc-retry-pushback-ms", "1")]).pushback,
            Pushback::None
        );
        let own = asked(200, &[GRPC, ("grpc-status", "14"), pause]);
        assert_eq!(own.pushback, Pushback::None, "gRPC has a word of its own");
    }

    #[test]
    fn the_status_of_the_head_goes_before_its_http_status() {
        for (status, said, code) in [(503, "5", "NOT_FOUND"), (200, "14", "UNAVAILABLE")] {
            let head = of_head(status, &[("grpc-status", said)]).expect("a status");
            assert_eq!(head.0, code);
        }
    }
}
