use std::{io, sync::Arc, time::Duration};

use http::HeaderValue;

use crate::{
    call::Body,
    testkit::{
        act::Act,
        contract::{
            bench::{Bench, Finding, paused},
            run::{Content, Outcome, Run},
            scenario::{Upload, request, with_body},
        },
        recorder::Seen,
        scripted::Scripted,
        step::Step,
    },
};

const WHILE: Duration = Duration::from_millis(20);

/// What is sent is what the service gets, and its answer is what comes back.
pub(in super::super) fn passes_calls(bench: &Bench) -> Finding {
    for status in [200, 204, 304, 404] {
        let answer = || {
            Act::status(status)
                .header("x-answer", "a")
                .body([Step::data("down")])
        };
        let inner = Scripted::new([answer()]);
        let (parts, content) = paused(call(bench, &inner, Body::from("up")))?;
        let found = inner.seen();
        let seen = match &found[..] {
            [seen] => seen,
            more => return Err(format!("the service was called {} times", more.len())),
        };
        let differs = [
            ("the method", seen.method == http::Method::PUT),
            ("the URI", seen.uri == "/contract?of=layers"),
            (
                "a header of the request",
                seen.headers.get("x-question") == Some(&HeaderValue::from_static("q")),
            ),
            ("the request body", seen.body == "up"),
            ("the status", parts.status == status),
            (
                "a header of the response",
                parts.headers.get("x-answer") == Some(&HeaderValue::from_static("a")),
            ),
            ("the response body", content.data == "down"),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, same)| !same) {
            return Err(format!(
                "with an answer of {status}, {what} did not come through"
            ));
        }
    }
    passes_streams(bench)
}

/// A request body that is a stream comes through with its trailers.
fn passes_streams(bench: &Bench) -> Finding {
    let inner = Scripted::new([]);
    paused(call(bench, &inner, Upload::body(&Arc::default())))?;
    let seen = inner.seen();
    let came = |seen: &Seen| seen.body == "upup" && seen.trailers.is_some();
    match seen.first().is_some_and(came) {
        true => Ok(()),
        false => Err("a request body in parts, with trailers, did not come through".to_owned()),
    }
}

async fn call(
    bench: &Bench,
    inner: &Scripted,
    body: Body,
) -> Result<(Box<http::response::Parts>, Content), String> {
    let mut request = with_body(body);
    let question = HeaderValue::from_static("q");
    request.headers_mut().insert("x-question", question);
    let call = Run::new((bench.make)(inner.clone()), request).finish();
    match call.await.map_err(|fault| fault.to_string())?.0 {
        Outcome::Answered(parts, content) => Ok((parts, content)),
        other => Err(format!("a call that was answered came to {}", other.word())),
    }
}

/// Data, trailers, errors, and what the body says of its own length and end.
pub(in super::super) fn passes_bodies(bench: &Bench) -> Finding {
    let parts = || [Step::data("one"), Step::pause(WHILE), Step::data("two")];
    let trailers = || Step::trailers([("x-sum", "2")]);
    let broken = || Step::fail(io::ErrorKind::ConnectionReset);
    let whole = read(bench, parts().into())?;
    expect("data in parts", &whole, "onetwo", false, false)?;
    let trailed = read(bench, parts().into_iter().chain([trailers()]).collect())?;
    expect("data and trailers", &trailed, "onetwo", true, false)?;
    let lone = read(bench, vec![trailers()])?;
    expect("trailers alone", &lone, "", true, false)?;
    let late = read(bench, vec![Step::data("one"), Step::pause(WHILE), broken()])?;
    expect("a body that breaks off", &late, "one", false, true)?;
    let first = answered(bench, vec![broken()])?;
    // A layer that looks at the first frame may take its error for one of the call, which may be made again.
    if let (Outcome::Answered(_, first), 1) = &first {
        expect("a body that breaks at once", first, "", false, true)?;
    }
    let empty = read(bench, Vec::new())?;
    expect("an empty body", &empty, "", false, false)?;
    let told = [(&whole, 6), (&empty, 0)];
    match told
        .iter()
        .find(|(content, length)| content.announced != Some(*length))
    {
        None => Ok(()),
        Some((content, length)) => Err(format!(
            "a body of {length} bytes was announced with {:?}",
            content.announced
        )),
    }
}

/// What the call came to, and how often the service was called.
fn answered(bench: &Bench, steps: Vec<Step>) -> Result<(Outcome, usize), String> {
    paused(async {
        let inner = Scripted::new([Act::ok().body(steps)]);
        let call = Run::new((bench.make)(inner.clone()), request()).finish();
        let ended = call.await.map_err(|fault| fault.to_string())?;
        Ok((ended.0, inner.calls()))
    })
}

fn read(bench: &Bench, steps: Vec<Step>) -> Result<Content, String> {
    match answered(bench, steps)?.0 {
        Outcome::Answered(_, content) => Ok(content),
        other => Err(format!("a call that was answered came to {}", other.word())),
    }
}

fn expect(what: &str, content: &Content, data: &str, trailers: bool, error: bool) -> Finding {
    let found = [
        ("the data", content.data == data),
        ("the trailers", content.trailers.is_some() == trailers),
        ("the error", content.error.is_some() == error),
        ("its end", !content.after_end),
    ];
    match found.iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((part, _)) => Err(format!("of {what}, {part} did not come through as it was")),
    }
}
