use std::{io, time::Duration};

use crate::{
    call::Body,
    testkit::{
        act::Act,
        contract::{
            bench::{Bench, Finding, catching, left_behind, paused, settle},
            erased::Subject,
            run::{At, PATIENCE, Run},
            scenario::{PanickingUpload, with_body},
            tripwire::Tripwire,
        },
        readiness::Readiness,
        scripted::Scripted,
        step::Step,
    },
};

const WHILE: Duration = Duration::from_millis(20);
/// Touches of a callback that are tried.
const MOST_TOUCHES: usize = 12;

/// A panic at each place where somebody else's code runs.
pub(in super::super) fn survives_panics(bench: &Bench) -> Finding {
    let acts = [
        ("call of the service", Act::panic_in_call()),
        ("the service's future", Act::panic()),
        ("the service's future, later", Act::panic().after(WHILE)),
        (
            "the response body",
            Act::ok().body([Step::data("one"), Step::pause(WHILE), Step::panic()]),
        ),
    ];
    let none = Tripwire::default();
    for (place, act) in acts {
        let inner = Scripted::new([act]);
        let made = |inner| (bench.make)(inner);
        paused(survives(bench, &inner, made, Body::from("up"), &none)).map_err(at(place))?;
    }
    let made = |inner| (bench.make)(inner);
    let asked = Scripted::new([]).readiness(Readiness::Panic);
    paused(survives(bench, &asked, made, Body::from("up"), &none))
        .map_err(at("poll_ready of the service"))?;
    let read = Scripted::new([]);
    paused(survives(
        bench,
        &read,
        made,
        Body::stream(PanickingUpload),
        &none,
    ))
    .map_err(at("the request body"))?;
    for act in [Act::ok(), Act::refuse()] {
        let cloned = Scripted::new([act]).readiness(Readiness::After(WHILE));
        let armed = |inner: Scripted| {
            let subject = (bench.make)(inner.clone());
            inner.panic_at_next_clone();
            subject
        };
        paused(survives(bench, &cloned, armed, Body::from("up"), &none))
            .map_err(at("clone of the service"))?;
    }
    survives_callbacks(bench)
}

fn at(place: &str) -> impl Fn(String) -> String {
    move |found| format!("after a panic in {place}, {found}")
}

fn survives_callbacks(bench: &Bench) -> Finding {
    for (name, make) in &bench.callbacks {
        let mut touched = 0;
        for touch in 1..=MOST_TOUCHES {
            for act in [
                Act::ok(),
                Act::status(503),
                Act::fail(io::ErrorKind::ConnectionReset),
            ] {
                let wire = Tripwire::panics_at(touch);
                let made = |inner| make(inner, wire.clone());
                let inner = Scripted::new([act]);
                paused(survives(bench, &inner, made, Body::from("up"), &wire)).map_err(at(name))?;
                touched += wire.touched();
            }
        }
        if touched == 0 {
            return Err(format!("the callback \"{name}\" was never called"));
        }
    }
    Ok(())
}

/// Makes a call in which something panics, and then others.
async fn survives(
    bench: &Bench,
    inner: &Scripted,
    made: impl FnOnce(Scripted) -> Subject,
    body: Body,
    wire: &Tripwire,
) -> Finding {
    let subject = made(inner.clone());
    let mut run = Run::new(subject, with_body(body));
    while run.at() != At::End {
        match catching(|| run.poll()) {
            Err(_panic) => break,
            Ok(polled) if polled.is_ready() => {}
            Ok(_) => {
                if run.wake(PATIENCE).await.is_err() {
                    break;
                }
            }
        }
    }
    wire.calm();
    inner.calm_clones();
    let subject = catching(|| run.abandon())?;
    settle().await;
    inner.set_readiness(Readiness::Always);
    left_behind(inner, &subject)?;
    let subject = bench.usable(subject, inner).await?;
    let clone = subject.clone();
    drop(subject);
    let last = bench.usable(clone, inner).await?;
    settle().await;
    left_behind(inner, &last)?;
    match inner.reserved() {
        0 => Ok(()),
        held => Err(format!("{held} places of the service are held by nobody")),
    }
}
