use std::task::Context;

use futures::task::noop_waker;
use http::Request;

use crate::{
    call::Body,
    testkit::{
        contract::{
            bench::{Bench, Finding, catching, paused},
            run::Run,
            scenario::{Scenario, request},
        },
        readiness::Readiness,
        scripted::Scripted,
    },
};

/// Polls calls once more after their end, whatever that was: a panic and a second answer are both better than silence.
pub(in super::super) fn ends_once(bench: &Bench) -> Finding {
    let unready = Readiness::Fail(std::io::ErrorKind::ConnectionRefused);
    let all = Scenario::all();
    let services = all
        .iter()
        .map(|scenario| (scenario.name, scenario.service()));
    let failing = (
        "a service that fails to get ready",
        Scripted::new([]).readiness(unready),
    );
    for (name, inner) in services.chain([failing]) {
        let found = paused(ends_as(bench, inner, request()));
        found.map_err(|found| format!("with {name}, {found}"))?;
    }
    for refused in &bench.refused {
        let found = paused(ends_as(bench, Scripted::new([]), refused()));
        found.map_err(|found| format!("with a request that may be refused, {found}"))?;
    }
    Ok(())
}

async fn ends_as(bench: &Bench, inner: Scripted, request: Request<Body>) -> Finding {
    // Nothing is to be said of a call that has no end.
    let Ok(mut ended) = Run::new((bench.make)(inner), request).finish_call().await else {
        return Ok(());
    };
    let waker = noop_waker();
    let cx = &mut Context::from_waker(&waker);
    match catching(|| ended.as_mut().poll(cx).is_pending()) {
        Ok(true) => Err("the future was pending after it had been ready".to_owned()),
        _ => Ok(()),
    }
}
