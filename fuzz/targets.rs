//! What is fed with bytes, and what has to hold of the answer. Libfuzzer's targets and the replay of their corpora
//! in the crate's own tests share it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Deadline, Endpoint, InboundLayer, InheritedDeadline, Jitter, Origin, Report, Retry,
    RetryLayer, call::Stop, classify::Classifier, discover::Scheme,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};

type Reply = Response<Full<Bytes>>;

/// `Retry-After`: seconds to the millisecond, or a date; the longest of several, and what is neither is ignored.
pub(super) fn retry_after(data: &[u8]) {
    let Some(values) = header_values(data) else {
        return;
    };
    let name = HeaderName::from_static("retry-after");
    let mut reply = reply(StatusCode::SERVICE_UNAVAILABLE);
    extend(&mut reply, &name, &values);
    let said = told(Classifier::default(), reply);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    let (mut longest, mut dates) = (Duration::ZERO, false);
    for text in texts.map(str::trim) {
        match seconds(text) {
            Some(wait) => longest = longest.max(wait),
            None => dates |= text.contains(':'),
        }
    }
    match said {
        Said::Nothing => assert_eq!(longest, Duration::ZERO),
        Said::Later(wait) if wait == longest => {}
        Said::Later(wait) => {
            assert!(
                dates && wait > longest && wait.subsec_nanos() == 0,
                "{wait:?}"
            );
        }
        Said::Now | Said::Never => panic!("{said:?}"),
    }
}

/// `grpc-retry-pushback-ms`: one number that an `i32` holds is exact, anything else means not at all.
pub(super) fn grpc_pushback(data: &[u8]) {
    let Some(values) = header_values(data) else {
        return;
    };
    let mut reply = grpc_reply("14");
    extend(
        &mut reply,
        &HeaderName::from_static("grpc-retry-pushback-ms"),
        &values,
    );
    let expected = match &values[..] {
        [one] => match digits(one.as_bytes()).filter(|millis| *millis <= i32::MAX as u128) {
            Some(0) => Said::Now,
            Some(millis) => Said::Later(Duration::from_millis(millis as u64)),
            None => Said::Never,
        },
        _ => Said::Never,
    };
    assert_eq!(told(Classifier::grpc(), reply), expected);
}

/// `grpc-timeout`: 1 to 8 digits and a unit, once, is the deadline; no time and anything else is refused.
pub(super) fn grpc_timeout(data: &[u8]) {
    let Some(values) = header_values(data) else {
        return;
    };
    let mut request = Request::new(());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    for value in &values {
        headers.append("grpc-timeout", value.clone());
    }
    let handled = Arc::new(Mutex::new(None));
    let told = Arc::clone(&handled);
    let handler = service_fn(move |_: Request<()>| {
        let deadline = InheritedDeadline::current().deadline();
        *told.lock().expect("no panic") = Some(deadline);
        ready(Ok::<_, Infallible>(reply(StatusCode::OK)))
    });
    let (now, status) = paused(async {
        let answer = InboundLayer::new().layer(handler).oneshot(request).await;
        let status = answer.map(|answer| answer.headers().get("grpc-status").cloned());
        (now(), status.expect("no error"))
    });
    let handled = handled.lock().expect("no panic").take();
    let left = match &values[..] {
        [one] => timeout(one.as_bytes()),
        _ => None,
    };
    match left {
        None => assert_eq!(
            (handled, status),
            (None, Some(HeaderValue::from_static("13")))
        ),
        Some(Duration::ZERO) => {
            assert_eq!(
                (handled, status),
                (None, Some(HeaderValue::from_static("4")))
            );
        }
        Some(left) => assert_eq!(handled, Some(Deadline::after(now, left))),
    }
}

/// An origin that is accepted is written as it is read, is a URI, and has the parts that it shows; one that is
/// refused gives no password away.
pub(super) fn origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let origin = match Origin::parse(text) {
        Ok(origin) => origin,
        Err(refused) => return hides_user(text, &refused.to_string()),
    };
    let written = origin.to_string();
    assert_eq!(Origin::parse(&written).as_ref(), Ok(&origin));
    let parts = Origin::from_parts(origin.scheme(), origin.host(), origin.port());
    assert_eq!(parts.as_ref(), Ok(&origin));
    let uri: http::Uri = written.parse().expect("an origin is a URI");
    let host = uri.host().unwrap_or_default();
    assert_eq!(host.trim_matches(['[', ']']), origin.host());
    assert_eq!(uri.port_u16(), origin.port());
    assert!(uri.path() == "/" && uri.query().is_none());
    assert_ne!(origin.port(), Some(origin.scheme().default_port()));
    assert_ne!(origin.port_or_default(), 0);
    if let Some(endpoint) = origin.endpoint() {
        assert_eq!(Some(endpoint.address().ip()), origin.ip());
        assert_eq!(endpoint.address().port(), origin.port_or_default());
    }
}

/// An endpoint that is accepted is written as it is read; whatever the standard library takes for an address with a
/// port is one, and nothing else but those with an interface by name.
pub(super) fn endpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if by_interface_name(text) {
        // The system knows which there are.
        return;
    }
    let known = text.parse::<SocketAddr>().ok();
    let known = known.filter(|address| address.port() != 0);
    let read = Endpoint::parse(text);
    if let Err(refused) = &read {
        hides_user(text, &refused.to_string());
    }
    let read = read.ok();
    assert_eq!(read.as_ref().map(Endpoint::address), known);
    if let Some(endpoint) = read {
        assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && let Ok(port) = port.parse()
        && let Ok(joined) = Endpoint::try_from((host, port))
    {
        assert_eq!(joined.address().port(), port);
        assert_eq!(Endpoint::parse(&joined.to_string()), Ok(joined));
        let _ = Origin::from_parts(Scheme::Http, host, Some(port));
    }
}

/// The lines as values of one header; `None` if one cannot be.
fn header_values(data: &[u8]) -> Option<Vec<HeaderValue>> {
    let lines = data.split(|byte| *byte == b'\n');
    lines
        .map(|line| HeaderValue::from_bytes(line).ok())
        .collect()
}

fn extend(reply: &mut Reply, name: &HeaderName, values: &[HeaderValue]) {
    for value in values {
        reply.headers_mut().append(name, value.clone());
    }
}

fn reply(status: StatusCode) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = status;
    reply
}

fn grpc_reply(status: &'static str) -> Reply {
    let mut reply = Reply::default();
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    reply
}

/// What a client was told about its next attempt.
#[derive(Debug, PartialEq)]
enum Said {
    Nothing,
    Now,
    Later(Duration),
    Never,
}

/// What becomes of a call that is answered so, and well the next time, where no pause is short enough.
fn told(classifier: Classifier, first: Reply) -> Said {
    let retry = Retry::default()
        .classifier(classifier)
        .backoff(Backoff::default().jitter(Jitter::None))
        .max_pushback(Duration::from_nanos(1))
        .without_budget()
        .build()
        .expect("in range");
    let good = match first.headers().contains_key("grpc-status") {
        true => grpc_reply("0"),
        false => reply(StatusCode::OK),
    };
    let replies = Arc::new(Mutex::new(VecDeque::from([first, good])));
    let server = service_fn(move |_: Request<Full<Bytes>>| {
        let reply = replies.lock().expect("no panic").pop_front();
        ready(Ok::<_, Infallible>(reply.expect("two attempts at most")))
    });
    let request = Request::new(Full::default());
    let answer = paused(RetryLayer::new(retry).layer(server).oneshot(request));
    let answer = answer.expect("an answer");
    let report = answer.extensions().get::<Report>().expect("it failed once");
    match (report.stop(), report.attempts()[0].backoff()) {
        (Some(Stop::PushbackTooLong { asked }), _) => Said::Later(asked),
        (Some(Stop::ServerForbids), _) => Said::Never,
        (None, Some(Duration::ZERO)) => Said::Now,
        (None, Some(_)) => Said::Nothing,
        other => panic!("{other:?}"),
    }
}

/// Runs on a clock that moves only when all else waits.
fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Digits and nothing else, as far as they can be counted.
fn digits(text: &[u8]) -> Option<u128> {
    let valid = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let add = |sum: u128, digit: &u8| {
        sum.saturating_mul(10)
            .saturating_add(u128::from(digit - b'0'))
    };
    valid.then(|| text.iter().fold(0, add))
}

fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = digits(whole.as_bytes())?;
    digits(fraction.as_bytes())?;
    let (kept, rest) = fraction.split_at(fraction.len().min(3));
    let millis = format!("{kept:0<3}").parse::<u64>().expect("three digits");
    let millis = millis + u64::from(rest.contains(|digit| digit != '0'));
    let whole = u64::try_from(whole).map_or(Duration::MAX, Duration::from_secs);
    Some(whole.saturating_add(Duration::from_millis(millis)))
}

fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, number) = text.split_last()?;
    let number = digits(number).filter(|_| number.len() <= 8)? as u64;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

fn by_interface_name(text: &str) -> bool {
    let zone = text.split_once('%').map(|(_, zone)| zone);
    zone.is_some_and(|zone| !zone.starts_with(|first: char| first.is_ascii_digit()))
}

/// Users, passwords and queries are not for logs.
fn hides_user(text: &str, refusal: &str) {
    let before = text.split(['?', '#']).next().unwrap_or_default();
    let Some((before, host)) = before.rsplit_once('@') else {
        return;
    };
    let scheme = |scheme: &str| {
        scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let parts = before
        .split_once("://")
        .filter(|(before, _)| scheme(before));
    let (scheme, user) = parts.unwrap_or(("", before));
    // Short ones and words stand in any message.
    let secret = user.len() > 8 && user.contains(|ch: char| ch.is_ascii_digit());
    let shown = format!("{scheme}://..@{host}");
    if secret && !shown.contains(user) {
        assert!(!refusal.contains(user), "{refusal}");
    }
}
