use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header::RETRY_AFTER};

use super::Pushback;
use crate::call::first_of;

/// The server's wish in `Retry-After` (RFC 9110, 10.2.3): seconds, or a date in one of its three forms.
///
/// Fractions of a second, which some servers send, are taken as they are, rounded up to a millisecond.
/// A date in the past, as a clock that is ahead makes it, and "0" are a wish for no wait. What is neither
/// form (negative, not finite, no number) is ignored. Of several values the longest wins.
pub(crate) fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Pushback {
    let wishes = headers
        .get_all(RETRY_AFTER)
        .iter()
        .filter_map(|value| parse(value.to_str().ok()?.trim(), wall));
    wishes.max().map_or(Pushback::None, Pushback::After)
}

static GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The server's wish in `grpc-retry-pushback-ms` (gRFC A6): milliseconds to wait exactly; negative or malformed
/// means not at all.
pub(super) fn grpc_retry_pushback(headers: &HeaderMap) -> Pushback {
    if first_of(headers, &GRPC_RETRY_PUSHBACK).is_none() {
        return Pushback::None;
    }
    let mut values = headers.get_all(&GRPC_RETRY_PUSHBACK).iter();
    let (Some(value), rest) = (values.next(), values.next()) else {
        return Pushback::None;
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| rest.is_none() && is_digits(text));
    let millis = digits.and_then(|digits| digits.parse::<u32>().ok());
    let wait = millis.filter(|millis| *millis <= i32::MAX as u32);
    wait.map_or(Pushback::Stop, |millis| {
        Pushback::Exactly(Duration::from_millis(u64::from(millis)))
    })
}

fn parse(value: &str, wall: SystemTime) -> Option<Duration> {
    seconds(value).or_else(|| date(value, wall))
}

/// `1*DIGIT [ "." 1*DIGIT ]`; more than a `Duration` holds is the longest there is.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.parse().map_or(Duration::MAX, Duration::from_secs);
    Some(whole.saturating_add(millis_rounded_up(fraction)))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn millis_rounded_up(digits: &str) -> Duration {
    let kept = digits.bytes().chain(*b"000").take(3);
    let millis = kept.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let rest = digits.bytes().skip(3).any(|digit| digit != b'0');
    Duration::from_millis(millis + u64::from(rest))
}

/// Rounded up to whole seconds, the granularity of the form: never earlier than the server asked.
fn date(value: &str, wall: SystemTime) -> Option<Duration> {
    let at = httpdate::parse_http_date(value).ok()?;
    let wait = at.duration_since(wall).unwrap_or_default();
    let up = u64::from(wait.subsec_nanos() > 0);
    Some(Duration::from_secs(wait.as_secs().saturating_add(up)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-25 10:00:00 UTC, a Wednesday.
    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_600_800)
    }

    fn read(value: &str) -> Pushback {
        let mut headers = HeaderMap::new();
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
        );
        retry_after(&headers, wall())
    }

    fn after(millis: u64) -> Pushback {
        Pushback::After(Duration::from_millis(millis))
    }

    // BKO-08, urllib3/urllib3#3743, #5220
    #[test]
    fn whole_seconds_of_any_size_are_read_without_overflow() {
        assert_eq!(read("0"), after(0));
        assert_eq!(read("007"), after(7_000));
        assert_eq!(read("3600"), after(3_600_000));
        assert_eq!(
            read("9999999999"),
            Pushback::After(Duration::from_secs(9_999_999_999))
        );
        for huge in [
            "18446744073709551615.9",
            "18446744073709551616",
            &"9".repeat(400),
        ] {
            assert!(
                matches!(read(huge), Pushback::After(wait) if wait >= Duration::from_secs(u64::MAX)),
                "{huge}"
            );
        }
    }

    // BKO-09, urllib3/urllib3#2861, tavily-ai/tavily-python#166
    #[test]
    fn finite_fractions_are_rounded_up() {
        assert_eq!(read("0.503"), after(503));
        assert_eq!(read("1.5"), after(1_500));
        assert_eq!(read("0.0001"), after(1));
        assert_eq!(read("1.9999"), after(2_000));
        assert_eq!(read("2.000000000000000000000000000"), after(2_000));
        assert_eq!(read(" 2 "), after(2_000));
    }

    // BKO-07, openai/openai-java#853; BKO-09
    #[test]
    fn what_is_neither_form_is_ignored() {
        let garbage = [
            "-1",
            "-0.5",
            "+5",
            "nan",
            "NaN",
            "inf",
            "-inf",
            "Infinity",
            "1e10000",
            "1e3",
            "",
            " ",
            ".",
            ".5",
            "5.",
            "2,5",
            "1.2.3",
            "0x10",
            "5s",
            "soon",
            "1 2",
            "\u{662}",
            "null",
            "Wed, 25 Nov 2026",
            "-9223372036854775808",
        ];
        for value in garbage {
            assert_eq!(read(value), Pushback::None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), wall()), Pushback::None);
    }

    // BKO-10, AstroVela/vane#170, rybalkinsd/kohttp#151
    #[test]
    fn all_three_date_forms_are_read() {
        for date in [
            "Wed, 25 Nov 2026 10:00:07 GMT",
            "Wednesday, 25-Nov-26 10:00:07 GMT",
            "Wed Nov 25 10:00:07 2026",
        ] {
            assert_eq!(read(date), after(7_000), "{date}");
        }
    }

    #[test]
    fn a_date_is_never_taken_as_earlier_than_it_says() {
        let mut headers = HeaderMap::new();
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Wed, 25 Nov 2026 10:00:07 GMT"),
        );
        let late = wall() + Duration::from_millis(400);
        assert_eq!(retry_after(&headers, late), after(7_000));
    }

    // BKO-07, openai/openai-java#853, pydantic/pydantic-ai#7073
    #[test]
    fn a_date_in_the_past_asks_for_no_wait() {
        assert_eq!(read("Wed, 25 Nov 2015 10:00:07 GMT"), after(0));
        assert_eq!(
            read("Wed, 25 Nov 2026 09:00:00 GMT"),
            after(0),
            "local clock an hour ahead"
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), after(0));
    }

    #[test]
    fn impossible_dates_are_ignored() {
        for date in [
            "Wed, 31 Feb 2027 10:00:07 GMT",
            "Mon, 25 Nov 2026 10:00:07 GMT",
            "Wed, 25 Nov 2026 25:00:07 GMT",
        ] {
            assert_eq!(read(date), Pushback::None, "{date}");
        }
    }

    #[test]
    fn the_longest_of_several_values_wins() {
        let mut headers = HeaderMap::new();
        for value in ["2", "junk", "9", "Wed, 25 Nov 2026 10:00:04 GMT"] {
            headers.append(RETRY_AFTER, HeaderValue::from_static(value));
        }
        assert_eq!(retry_after(&headers, wall()), after(9_000));
    }

    fn read_grpc(values: &[&str]) -> Pushback {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            headers.append("grpc-retry-pushback-ms", value);
        }
        grpc_retry_pushback(&headers)
    }

    // BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
    #[test]
    fn a_pushback_of_grpc_is_exact_and_what_is_no_number_of_it_forbids() {
        assert_eq!(read_grpc(&[]), Pushback::None);
        for (value, millis) in [
            ("250", 250),
            ("0", 0),
            ("007", 7),
            ("2147483647", 2_147_483_647),
        ] {
            let exactly = Pushback::Exactly(Duration::from_millis(millis));
            assert_eq!(read_grpc(&[value]), exactly, "{value}");
        }
        for value in [
            "-1",
            "-0",
            "abc",
            "+5",
            "",
            "1.5",
            "1 2",
            "0x10",
            "250ms",
            "\u{662}",
            "2147483648",
            "4294967296",
            "18446744073709551616",
        ] {
            assert_eq!(read_grpc(&[value]), Pushback::Stop, "{value:?}");
        }
        assert_eq!(read_grpc(&["1", "1"]), Pushback::Stop, "which of them?");
    }

    proptest! {
        #[test]
        fn no_value_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(RETRY_AFTER, value.clone());
                let _ = retry_after(&headers, wall());
                headers.insert("grpc-retry-pushback-ms", value);
                assert_ne!(grpc_retry_pushback(&headers), Pushback::None);
            }
        }

        #[test]
        fn no_dated_value_panics(text in "[A-Z][a-z]{2,8}[,]? [0-9 -]{1,4}[A-Z][a-z]{2}[ -][0-9]{2,5} [0-9:]{1,8}( GMT)?") {
            let _ = parse(&text, wall());
        }
    }
}
