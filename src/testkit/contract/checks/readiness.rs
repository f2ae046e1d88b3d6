use std::{
    error::Error as StdError,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{future, task::noop_waker};

use crate::{
    classify::chain,
    testkit::{
        act::Act,
        contract::{
            bench::{Bench, Finding, paused},
            run::{At, Outcome, PATIENCE, Run},
            scenario::{self, Scenario},
        },
        pause::pause,
        readiness::Readiness,
        scripted::Scripted,
    },
};

const REFUSED: io::ErrorKind = io::ErrorKind::ConnectionRefused;

/// Every scenario to its end, on the instance that was polled ready and on one that was swapped for a clone.
pub(in super::super) fn calls_ready_instance(bench: &Bench) -> Finding {
    for scenario in Scenario::all() {
        let inner = scenario.service();
        let ran = paused(async {
            let mut subject = (bench.make)(inner.clone());
            let polled = future::poll_fn(|cx| Poll::Ready(subject.poll_ready(cx))).await;
            // The idiom of middleware: a clone stays behind, the ready one is called.
            let clone = subject.clone();
            let mut calls = vec![Run::new(clone, scenario::request())];
            if matches!(polled, Poll::Ready(Ok(()))) {
                drop(subject.call(scenario::request()));
            }
            calls.push(Run::new(subject, scenario::request()));
            for call in calls {
                let _ = call.finish().await;
            }
            Ok(())
        });
        let unready = inner.unready_calls();
        if unready > 0 {
            return Err(format!(
                "with {}, the service was called {unready} times on an instance that had not been polled ready",
                scenario.name
            ));
        }
        ran.map_err(|found| format!("with {}, {found}", scenario.name))?;
    }
    Ok(())
}

/// A service that becomes ready, by itself or by somebody else, is called once and answers.
pub(in super::super) fn waits_for_readiness(bench: &Bench) -> Finding {
    let late = Duration::from_millis(20);
    let readiness = [
        Readiness::Polls(2),
        Readiness::After(late),
        Readiness::Slots(1),
        Readiness::Never,
    ];
    for readiness in readiness {
        let found = paused(async {
            let inner = Scripted::new([]).readiness(readiness);
            let call = Run::new((bench.make)(inner.clone()), scenario::request()).finish();
            let opened = async {
                pause(late).await;
                if readiness == Readiness::Never {
                    inner.set_readiness(Readiness::Always);
                }
            };
            match future::join(call, opened).await.0 {
                Ok((outcome, _)) if outcome.is_success() && inner.calls() == 1 => Ok(()),
                Ok((outcome, _)) => Err(format!(
                    "the call came to {}, the service was called {} times",
                    outcome.word(),
                    inner.calls()
                )),
                Err(fault) => Err(fault.to_string()),
            }
        });
        found.map_err(|found| match readiness {
            Readiness::Never => format!("over a service that became ready after 20 ms, {found}"),
            readiness => format!("over a service with Readiness::{readiness:?}, {found}"),
        })?;
    }
    Ok(())
}

/// The error comes out somewhere, and nothing is called.
pub(in super::super) fn keeps_readiness_errors(bench: &Bench) -> Finding {
    paused(async {
        let inner = Scripted::new([]).readiness(Readiness::Fail(REFUSED));
        let call = Run::new((bench.make)(inner.clone()), scenario::request()).finish();
        let (outcome, _) = call.await.map_err(|fault| fault.to_string())?;
        let (Outcome::Unready(error) | Outcome::Failed(error)) = &outcome else {
            return Err(format!(
                "the service was never ready, and the call came to {}",
                outcome.word()
            ));
        };
        if inner.calls() > 0 {
            return Err("the service was called although it was not ready".to_owned());
        }
        is_caused_by(&**error, REFUSED)
    })
}

fn is_caused_by(error: &(dyn StdError + 'static), kind: io::ErrorKind) -> Finding {
    let mut causes = chain(error);
    let found = causes.any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == kind)
    });
    match found {
        true => Ok(()),
        false => Err(format!(
            "the error of the service is not a source of {error:?}"
        )),
    }
}

/// Ready whatever the service says; what it said comes out of the call, and is forgotten with it.
pub(in super::super) fn always_ready(bench: &Bench) -> Finding {
    let said = [
        Readiness::Polls(2),
        Readiness::After(Duration::from_millis(20)),
        Readiness::Fail(REFUSED),
        Readiness::Never,
    ];
    for readiness in said {
        let found = paused(async {
            let inner = Scripted::new([]).readiness(readiness);
            let mut subject = (bench.make)(inner.clone());
            let waker = noop_waker();
            match subject.poll_ready(&mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(())) => {}
                polled => return Err(format!("poll_ready was {polled:?}")),
            }
            if !matches!(readiness, Readiness::Fail(_)) {
                return Ok(());
            }
            let failed = subject.call(scenario::request()).await;
            match failed {
                Err(error) => is_caused_by(&*error, REFUSED)?,
                Ok(_) => {
                    return Err("the error of readiness did not come out of the call".to_owned());
                }
            }
            bench.usable(subject, &inner).await.map(drop)
        });
        found.map_err(|found| format!("over a service with Readiness::{readiness:?}, {found}"))?;
    }
    Ok(())
}

/// Nothing is reserved at any pause of a call, nor after one that was refused.
pub(in super::super) fn holds_no_place(bench: &Bench) -> Finding {
    for scenario in Scenario::all() {
        let found = paused(async {
            let inner = scenario.service();
            let mut run = Run::new((bench.make)(inner.clone()), scenario::request());
            while run.at() != At::End {
                if run.poll().is_ready() {
                    continue;
                }
                let (at, reserved) = (run.at(), inner.reserved());
                if at != At::Readying && reserved > 0 {
                    return Err(format!("{reserved} places of the service are held {at}"));
                }
                if run.wake(PATIENCE).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        found.map_err(|found| format!("with {}, {found}", scenario.name))?;
    }
    refused_calls_hold_no_place(bench)
}

fn refused_calls_hold_no_place(bench: &Bench) -> Finding {
    for request in &bench.refused {
        paused(async {
            let inner = Scripted::new([Act::ok()]);
            let call = Run::new((bench.make)(inner.clone()), request()).finish();
            let (outcome, _subject) = call.await.map_err(|fault| fault.to_string())?;
            match inner.reserved() {
                0 => Ok(()),
                reserved => Err(format!(
                    "{reserved} places of the service are held after a call that came to {}",
                    outcome.word()
                )),
            }
        })?;
    }
    Ok(())
}
