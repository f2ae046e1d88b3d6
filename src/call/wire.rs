use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::error::InvalidSetting;

/// gRPC's own header, of its protocol over HTTP/2.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The most digits that gRPC's protocol allows, and the largest number with them.
const DIGITS: usize = 8;
const LARGEST: u64 = 99_999_999;

const NANO: u64 = 1;
const MICRO: u64 = 1_000 * NANO;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Units of `grpc-timeout`, the finest first, with their length in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', NANO),
    (b'u', MICRO),
    (b'm', MILLI),
    (b'S', SECOND),
    (b'M', MINUTE),
    (b'H', HOUR),
];

/// The header in which a deadline crosses the wire: as the time that is left, so that clocks need not agree.
///
/// What is written is rounded down to the unit, so that the other side never believes in more time than there is;
/// never to nothing, since some read zero as no limit.
///
/// ```
/// use evenkeel::DeadlineHeader;
///
/// let grpc = DeadlineHeader::grpc(); // grpc-timeout: 1500000u
/// let http = DeadlineHeader::millis("x-timeout-ms")?; // x-timeout-ms: 1500
/// # assert_ne!(grpc, http);
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DeadlineHeader(Format);

#[derive(Clone, PartialEq, Eq)]
enum Format {
    Grpc,
    Millis(HeaderName),
}

/// A header that holds no time; what it holds is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not one {format}")]
pub(crate) struct Malformed {
    name: HeaderName,
    format: &'static str,
}

impl DeadlineHeader {
    /// `grpc-timeout`, to the letter of gRPC's protocol: up to 8 digits and a unit from nanoseconds to hours.
    #[must_use]
    pub const fn grpc() -> Self {
        Self(Format::Grpc)
    }

    /// A header of this name that holds whole milliseconds, for HTTP.
    ///
    /// There is no standard one: it is what your servers read, such as `x-envoy-expected-rq-timeout-ms`, which Envoy
    /// writes.
    ///
    /// # Errors
    /// If it is no HTTP header name, or one of gRPC's own, whose servers would refuse every call.
    pub fn millis(name: impl AsRef<str>) -> Result<Self, InvalidSetting> {
        let name = name.as_ref();
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let parsed = parsed.filter(|name| !name.as_str().starts_with("grpc-"));
        parsed
            .map(|name| Self(Format::Millis(name)))
            .ok_or_else(|| {
                let allowed = "an HTTP header name, none of gRPC's own";
                InvalidSetting::new("DeadlineHeader::millis", format!("{name:?}"), allowed)
            })
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.0 == Format::Grpc
    }

    /// The header's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        match &self.0 {
            Format::Grpc => &GRPC_TIMEOUT,
            Format::Millis(name) => name,
        }
    }

    /// The time that is left by these headers; `None` if they do not say.
    ///
    /// # Errors
    /// If they say something else, or say it twice: that is never "no limit".
    pub(crate) fn read(&self, headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
        let mut values = headers.get_all(self.name()).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let left = match self.0 {
            Format::Grpc => parse_grpc(value.as_bytes()),
            Format::Millis(_) => parse_millis(value.as_bytes()),
        };
        match (left, values.next()) {
            (Some(left), None) => Ok(Some(left)),
            _ => Err(self.malformed()),
        }
    }

    fn malformed(&self) -> Malformed {
        Malformed {
            name: self.name().clone(),
            format: match self.0 {
                Format::Grpc => "value of 1 to 8 digits and a unit of H, M, S, m, u or n",
                Format::Millis(_) => "whole number of milliseconds",
            },
        }
    }

    /// Says nothing, whatever was said before.
    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        if first_of(headers, self.name()).is_some() {
            headers.remove(self.name());
        }
    }

    /// Says how much time is left, in place of what was said before.
    pub(crate) fn write(&self, headers: &mut HeaderMap, left: Duration) {
        let value = match &self.0 {
            Format::Grpc => grpc(left),
            Format::Millis(_) => Some(millis(left).into()),
        };
        if let Some(value) = value {
            headers.insert(self.name().clone(), value);
        }
    }
}

impl fmt::Debug for DeadlineHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadlineHeader({})", self.name())
    }
}

/// What a gRPC request says in `grpc-timeout`; the header means nothing on others.
///
/// # Errors
/// If the header is malformed.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    match first_of_two(headers, &CONTENT_TYPE, &GRPC_TIMEOUT) {
        (media, Some(_)) if is_grpc_media(media) => DeadlineHeader::grpc().read(headers),
        _ => Ok(None),
    }
}

/// Whether a head says no more than that time is up: 504, DEADLINE_EXCEEDED, or CANCELLED, as some servers call it.
pub(crate) fn gave_up(status: StatusCode, headers: &HeaderMap) -> bool {
    let code = first_of(headers, &GRPC_STATUS).map(HeaderValue::as_bytes);
    status == StatusCode::GATEWAY_TIMEOUT || matches!(code, Some(b"1" | b"4"))
}

/// In a head of so few headers it is cheaper to look at one after the other than to hash a name.
const FEW: usize = 8;

/// The first value of a header.
pub(crate) fn first_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.len() > FEW {
        return headers.get(name);
    }
    let mut headers = headers.iter();
    headers
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// The first values of two headers, in one pass.
#[inline(always)]
pub(crate) fn first_of_two<'a>(
    headers: &'a HeaderMap,
    one: &HeaderName,
    other: &HeaderName,
) -> (Option<&'a HeaderValue>, Option<&'a HeaderValue>) {
    if headers.len() > FEW {
        return (headers.get(one), headers.get(other));
    }
    let (mut first, mut second) = (None, None);
    for (known, value) in headers {
        if known == one {
            first = first.or(Some(value));
        } else if known == other {
            second = second.or(Some(value));
        }
    }
    (first, second)
}

/// Whether the content is gRPC, whatever its codec.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    is_grpc_media(first_of(headers, &CONTENT_TYPE))
}

/// Whether this `content-type` is gRPC's.
pub(crate) fn is_grpc_media(media: Option<&HeaderValue>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    media.map(HeaderValue::as_bytes).is_some_and(|media| {
        let (name, rest) = media.split_at(media.len().min(GRPC.len()));
        let named = name == GRPC || name.eq_ignore_ascii_case(GRPC);
        named && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// In the finest unit that holds it in 8 digits; the longest is 99999999H.
fn grpc(left: Duration) -> Option<HeaderValue> {
    let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).max(1);
    let count = |length| match length < SECOND {
        true => nanos / length,
        false => left.as_secs() / (length / SECOND),
    };
    let fits = |(_, length): &&(u8, u64)| count(*length) <= LARGEST;
    let (unit, length) = UNITS.iter().find(fits).unwrap_or(&(b'H', HOUR));
    let mut number = count(*length).min(LARGEST);
    let mut text = [*unit; DIGITS + 1];
    let mut digits = DIGITS;
    while number > 0 || digits == DIGITS {
        digits -= 1;
        text[digits] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    HeaderValue::from_bytes(&text[digits..]).ok()
}

/// At least one.
fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, length) = UNITS.iter().find(|(name, _)| name == unit)?;
    let number = number(digits).filter(|_| digits.len() <= DIGITS)?;
    Some(match *length < SECOND {
        true => Duration::from_nanos(number * length),
        false => Duration::from_secs(number * (length / SECOND)),
    })
}

fn parse_millis(value: &[u8]) -> Option<Duration> {
    number(value).map(Duration::from_millis)
}

/// Digits alone, at least one; what is too large for the type is its largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let more = |number: u64, digit: &u8| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    Some(digits.iter().fold(0, more))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &DeadlineHeader, values: &[&str]) -> Result<Option<Duration>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header.name(), value.parse().expect("a header value"));
        }
        header.read(&headers)
    }

    fn grpc_of(value: &str) -> Result<Option<Duration>, Malformed> {
        read(&DeadlineHeader::grpc(), &[value])
    }

    fn millis() -> DeadlineHeader {
        DeadlineHeader::millis("x-timeout-ms").expect("a header name")
    }

    // TMO-05 (grpc-ecosystem/grpc-gateway#7382)
    #[test]
    fn a_huge_timeout_is_huge_and_one_that_is_malformed_is_said_to_be() {
        let hours = Duration::from_secs(99_999_999 * 3600);
        assert_eq!(grpc_of("99999999H"), Ok(Some(hours)));
        assert_eq!(grpc_of("1S"), Ok(Some(Duration::from_secs(1))));
        assert_eq!(grpc_of("00000001S"), Ok(Some(Duration::from_secs(1))));
        for malformed in [
            "100000000S",
            "000000001S",
            "-1S",
            "+1S",
            "1",
            "S",
            "",
            "1x",
            "1s",
            "1h",
            "1 S",
            "1SS",
            "1.5S",
            "0x1S",
            "1e3S",
            "1S,2S",
        ] {
            assert_eq!(
                grpc_of(malformed),
                Err(DeadlineHeader::grpc().malformed()),
                "{malformed:?}"
            );
        }
        let arabic = HeaderValue::from_bytes("\u{661}S".as_bytes()).expect("opaque bytes");
        let headers = [(GRPC_TIMEOUT.clone(), arabic)].into_iter().collect();
        assert_eq!(
            DeadlineHeader::grpc().read(&headers),
            Err(DeadlineHeader::grpc().malformed())
        );
    }

    // TMO-05: zero is expired, and never no limit
    #[test]
    fn zero_is_no_time_at_all() {
        for zero in ["0n", "0S", "00000000H"] {
            assert_eq!(grpc_of(zero), Ok(Some(Duration::ZERO)));
        }
        assert_eq!(read(&millis(), &["0"]), Ok(Some(Duration::ZERO)));
    }

    // TMO-06 (tsloughter/grpcbox#85, grpc/grpc#17079)
    #[test]
    fn no_time_takes_more_than_eight_digits() {
        for (time, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(30 * 24 * 3600), "2592000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(99_999_999 * 3600), "99999999H"),
            (Duration::from_secs(100_000_000 * 3600), "99999999H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(grpc(time).expect("ASCII"), text, "{time:?}");
        }
    }

    // TMO-07 (connectrpc/connect-es#396)
    #[test]
    fn minutes_are_a_large_m_and_milliseconds_a_small_one() {
        for (text, time) in [
            ("1H", Duration::from_secs(3600)),
            ("1M", Duration::from_secs(60)),
            ("1S", Duration::from_secs(1)),
            ("1m", Duration::from_millis(1)),
            ("1u", Duration::from_micros(1)),
            ("1n", Duration::from_nanos(1)),
        ] {
            assert_eq!(grpc_of(text), Ok(Some(time)));
        }
    }

    #[test]
    fn a_header_that_is_given_twice_is_malformed() {
        assert_eq!(
            read(&DeadlineHeader::grpc(), &["1S", "2S"]),
            Err(DeadlineHeader::grpc().malformed())
        );
        assert_eq!(read(&millis(), &["1", "1"]), Err(millis().malformed()));
    }

    #[test]
    fn milliseconds_go_under_no_name_of_grpc_or_that_is_none() {
        for name in ["", "x timeout", "grpc-timeout", "Grpc-Timeout"] {
            let refused = DeadlineHeader::millis(name).expect_err(name);
            assert_eq!(refused.value(), format!("{name:?}"));
        }
    }

    #[test]
    fn milliseconds_are_whole_and_saturate() {
        assert_eq!(
            read(&millis(), &["1500"]),
            Ok(Some(Duration::from_millis(1500)))
        );
        let most = Duration::from_millis(u64::MAX);
        assert_eq!(
            read(&millis(), &["99999999999999999999999"]),
            Ok(Some(most))
        );
        for malformed in ["", "1.5", "-1", "1m", "1 ", "0x1", "NaN"] {
            let value = HeaderValue::from_bytes(malformed.as_bytes()).expect("a value");
            let headers = [(millis().name().clone(), value)].into_iter().collect();
            assert_eq!(
                millis().read(&headers),
                Err(millis().malformed()),
                "{malformed:?}"
            );
        }
    }

    #[test]
    fn what_was_said_before_is_replaced() {
        let mut headers = HeaderMap::new();
        for header in [DeadlineHeader::grpc(), millis()] {
            headers.append(header.name(), HeaderValue::from_static("9"));
            headers.append(header.name(), HeaderValue::from_static("9"));
            header.write(&mut headers, Duration::from_secs(1));
            assert_eq!(header.read(&headers), Ok(Some(Duration::from_secs(1))));
        }
    }

    #[test]
    fn the_header_means_something_on_grpc_requests_alone() {
        for (content, counts) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=utf-8", true),
            ("application/grpcish", false),
            ("application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT.clone(), HeaderValue::from_static("bad"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
            assert_eq!(grpc_timeout(&headers).is_err(), counts, "{content}");
        }
    }

    #[test]
    fn heads_that_say_no_more_than_that_time_is_up() {
        let head = |status: u16, code: &'static str| {
            let code = HeaderValue::from_static(code);
            let headers = [(HeaderName::from_static("grpc-status"), code)];
            gave_up(
                StatusCode::from_u16(status).expect("a status"),
                &headers.into_iter().collect(),
            )
        };
        assert!(head(200, "4") && head(200, "1") && head(504, ""));
        assert!(!head(200, "0") && !head(200, "14") && !head(503, "") && !head(408, ""));
    }

    #[test]
    fn the_value_is_not_shown() {
        let error = grpc_of("secret").expect_err("malformed");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_less_at_most_one_unit(
            seconds in prop_oneof![0..10_u64, 0..100_000_u64, 0..99_999_999 * 3600_u64],
            nanos in 0..1_000_000_000_u32,
        ) {
            let time = Duration::new(seconds, nanos).max(Duration::from_nanos(1));
            let value = grpc(time).expect("ASCII");
            let text = value.to_str().expect("ASCII");
            prop_assert!(text.len() <= 9, "{}", text);
            let unit = UNITS.iter().find(|(name, _)| text.ends_with(char::from(*name))).expect("a unit").1;
            let read = grpc_of(text).expect("to the letter").expect("a time");
            prop_assert!(read <= time, "never later than the true deadline");
            prop_assert!(!read.is_zero());
            prop_assert!((time - read).as_nanos() < u128::from(unit));
        }

        #[test]
        fn milliseconds_come_back_less_at_most_one(micros in 1000..u64::MAX) {
            let time = Duration::from_micros(micros);
            let mut headers = HeaderMap::new();
            millis().write(&mut headers, time);
            let read = millis().read(&headers).expect("digits").expect("a time");
            prop_assert!(read <= time && time - read < Duration::from_millis(1));
        }

        #[test]
        fn no_bytes_panic_and_what_is_taken_is_to_the_letter(value in "[ -~]{0,12}") {
            if let (Ok(Some(_)), Some(digits)) = (grpc_of(&value), value.len().checked_sub(1)) {
                let (digits, unit) = value.split_at(digits);
                prop_assert!((1..=8).contains(&digits.len()));
                prop_assert!(digits.bytes().all(|digit| digit.is_ascii_digit()));
                prop_assert!("HMSmun".contains(unit));
            }
        }
    }
}
