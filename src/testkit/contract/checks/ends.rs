use futures::task::noop_waker;
use std::task::Context;

use crate::testkit::{
    contract::{
        bench::{Bench, Finding, catching, paused},
        run::{Fault, Run},
        scenario::{Scenario, request},
    },
    readiness::Readiness,
    scripted::Scripted,
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
        let found = paused(async {
            let mut ended = match Run::new((bench.make)(inner), request()).finish_call().await {
                Ok(ended) => ended,
                // Nothing to be said of a call that has no end.
                Err(Fault::Stuck(_) | Fault::Spinning(_)) => return Ok(()),
            };
            let waker = noop_waker();
            let again = catching(|| {
                ended
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            });
            match again {
                Ok(true) => Err("the future was pending after it had been ready".to_owned()),
                _ => Ok(()),
            }
        });
        found.map_err(|found| format!("with {name}, {found}"))?;
    }
    Ok(())
}
