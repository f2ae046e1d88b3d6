use std::time::Duration;

use futures::future;

use crate::{
    clock,
    testkit::{
        act::Act,
        contract::{
            bench::{Bench, Finding, paused},
            erased::Subject,
            run::{At, Fault, PATIENCE, Run},
            scenario::{Scenario, request},
        },
        scripted::Scripted,
    },
};

const WHILE: Duration = Duration::from_millis(20);
/// How long a call is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// What a call may take of polls in that time, and each call of the service more.
const FAIR: usize = 40;
const FAIR_PER_CALL: usize = 8;

/// Watches the polls of every scenario, and of one who waits for a slot.
pub(in super::super) fn does_not_spin(bench: &Bench) -> Finding {
    for scenario in Scenario::all() {
        let found = paused(async {
            let inner = scenario.service();
            let run = Run::new((bench.make)(inner.clone()), request());
            watch(run, &inner).await
        });
        found.map_err(|found| format!("with {}, {found}", scenario.name))?;
    }
    let Some(slots) = bench.slots else {
        return Ok(());
    };
    paused(async {
        let (inner, _held, subject) = taken(bench, slots, Act::hang()).await?;
        let waiter = Run::new(subject, request());
        watch(waiter, &inner).await
    })
    .map_err(|found| format!("with all {slots} slots taken, {found}"))
}

async fn watch(mut run: Run, inner: &Scripted) -> Finding {
    let start = clock::now();
    while run.at() != At::End && clock::now().saturating_duration_since(start) < WATCHED {
        match run.next(WATCHED).await {
            Ok(()) => {}
            Err(Fault::Stuck(_)) => break,
            Err(fault) => return Err(fault.to_string()),
        }
    }
    let (polls, calls) = (run.polls(), inner.calls());
    if polls > FAIR + FAIR_PER_CALL * calls {
        let took = clock::now().saturating_duration_since(start);
        return Err(format!(
            "one call took {polls} polls in {took:?} with {calls} calls of the service"
        ));
    }
    Ok(())
}

/// Every scenario that ends does so for who listens to the waker of the last poll alone, and so do waiters for slots.
pub(in super::super) fn wakes_waiters(bench: &Bench) -> Finding {
    for scenario in Scenario::all().into_iter().filter(|scenario| scenario.ends) {
        for switching in [false, true] {
            let found = paused(async {
                let run = Run::new((bench.make)(scenario.service()), request());
                let run = if switching { run.switching() } else { run };
                run.finish()
                    .await
                    .map(drop)
                    .map_err(|fault| fault.to_string())
            });
            let how = if switching {
                ", polled by another waker"
            } else {
                ""
            };
            found.map_err(|found| format!("with {}{how}, {found}", scenario.name))?;
        }
    }
    let Some(slots) = bench.slots else {
        return Ok(());
    };
    paused(waiters_get_slots(bench, slots))
        .map_err(|found| format!("with all {slots} slots taken, {found}"))
}

/// One of two waiters goes away once it was woken: the other one is next.
async fn waiters_get_slots(bench: &Bench, slots: usize) -> Finding {
    let (_inner, mut held, subject) = taken(bench, slots, Act::ok().after(WHILE)).await?;
    let mut first = Run::new(subject.clone(), request());
    let mut second = Run::new(subject, request());
    while first.poll().is_ready() && first.at() != At::End {}
    while second.poll().is_ready() && second.at() != At::End {}
    let holder = held.remove(0).finish();
    let waits = async {
        let woken = first.wake(PATIENCE).await;
        drop(first);
        woken?;
        second.wake(PATIENCE).await?;
        second.finish().await
    };
    match future::join(holder, waits).await.1 {
        Ok(_) => Ok(()),
        Err(fault) => Err(format!("who waits for one: {fault}")),
    }
}

/// Calls that hold every slot; all but the first hang.
async fn taken(
    bench: &Bench,
    slots: usize,
    first: Act,
) -> Result<(Scripted, Vec<Run>, Subject), String> {
    let inner = Scripted::new(std::iter::once(first).chain((1..slots).map(|_| Act::hang())));
    let subject = (bench.make)(inner.clone());
    let mut held = Vec::new();
    for _ in 0..slots {
        let mut run = Run::new(subject.clone(), request());
        while run.poll().is_ready() && run.at() != At::End {}
        held.push(run);
    }
    tokio::task::yield_now().await;
    match inner.in_flight() == slots {
        true => Ok((inner, held, subject)),
        false => Err(format!("only {} calls got through", inner.in_flight())),
    }
}
