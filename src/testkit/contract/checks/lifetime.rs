use std::{task::Context, time::Duration};

use futures::task::noop_waker;

use crate::{
    call::CallPolicy,
    testkit::{
        contract::{
            bench::{Bench, Finding, catching, paused},
            erased::Make,
            run::{At, Run},
            scenario::{Scenario, request},
        },
        scripted::Scripted,
    },
};

/// Long enough to be for ever, and short enough for the runtime's timers.
const MONTHS: Duration = Duration::from_secs(90 * 24 * 3600);

/// With a policy of the call, and with settings where they are given, that are all without end.
pub(in super::super) fn takes_long_durations(bench: &Bench) -> Finding {
    for make in std::iter::once(&bench.make).chain(&bench.longest) {
        for scenario in Scenario::answered() {
            paused(is_answered(make, &scenario))
                .map_err(|found| format!("with {}, {found}", scenario.name))?;
        }
    }
    for make in &bench.longest {
        for scenario in Scenario::waiting() {
            paused(is_never_ended(make, &scenario))
                .map_err(|found| format!("with {}, {found}", scenario.name))?;
        }
    }
    Ok(())
}

fn endless() -> http::Request<crate::call::Body> {
    let policy = CallPolicy::new()
        .deadline(Duration::MAX)
        .attempt_timeout(Duration::MAX)
        .body_idle(Duration::MAX);
    let mut request = request();
    request.extensions_mut().insert(policy);
    request
}

async fn is_answered(make: &Make, scenario: &Scenario) -> Finding {
    let call = Run::new(make(scenario.service()), endless()).finish();
    let (outcome, _) = call.await.map_err(|fault| fault.to_string())?;
    match outcome.is_success() {
        true => Ok(()),
        false => Err(format!("the call came to {}", outcome.word())),
    }
}

async fn is_never_ended(make: &Make, scenario: &Scenario) -> Finding {
    let mut run = Run::new(make(scenario.service()), endless());
    let start = crate::clock::now();
    loop {
        let stuck = run.next(MONTHS).await.is_err();
        if run.at() == At::End {
            let after = crate::clock::now().saturating_duration_since(start);
            return Err(format!(
                "the call was ended after {after:?}, although it may take for ever"
            ));
        }
        if stuck {
            return Ok(());
        }
    }
}

/// Made, cloned, asked and dropped on a thread that knows of no runtime.
pub(in super::super) fn needs_no_runtime(bench: &Bench) -> Finding {
    catching(|| {
        let mut subject = (bench.make)(Scripted::new([]));
        let clone = subject.clone();
        let waker = noop_waker();
        let _ = subject.poll_ready(&mut Context::from_waker(&waker));
        drop(clone);
        drop(subject);
    })
    .map_err(|found| format!("outside of a runtime {found}"))
}

/// One service, two runtimes.
pub(in super::super) fn outlives_runtime(bench: &Bench) -> Finding {
    let inner = Scripted::new([]);
    let first = async { bench.usable((bench.make)(inner.clone()), &inner).await };
    let subject = paused(first).map_err(|found| format!("in its first runtime {found}"))?;
    paused(bench.usable(subject, &inner))
        .map(drop)
        .map_err(|found| format!("in its second runtime {found}"))
}
