use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::runtime::Handle;

use crate::testkit::contract::{
    bench::{Bench, Finding, left_behind, paused, settle},
    run::{At, PATIENCE, Run},
    scenario::{self, Scenario, Upload, with_body},
};

/// More polls than a call of the scenarios takes.
const MOST_POLLS: usize = 200;

/// How a call is dropped.
#[derive(Clone, Copy)]
struct Cut {
    /// After so many polls.
    polls: usize,
    /// Once it was woken for the next one.
    woken: bool,
    /// With a request body that is a stream.
    streamed: bool,
}

/// Drops a call at every poll of every scenario, at once and when woken, with a body in memory and with a stream.
pub(in super::super) fn gives_back(bench: &Bench) -> Finding {
    for scenario in Scenario::all() {
        for (streamed, woken) in [(false, false), (false, true), (true, false), (true, true)] {
            for polls in 0..MOST_POLLS {
                let cut = Cut {
                    polls,
                    woken,
                    streamed,
                };
                if paused(drop_at(bench, &scenario, cut))? == At::End {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Answers how far the call had come: at its end if it takes no more polls than that.
async fn drop_at(bench: &Bench, scenario: &Scenario, cut: Cut) -> Result<At, String> {
    let inner = scenario.service();
    let uploads = Arc::new(AtomicUsize::new(0));
    let request = match cut.streamed {
        true => with_body(Upload::body(&uploads)),
        false => scenario::request(),
    };
    let subject = (bench.make)(inner.clone());
    let kept = subject.clone();
    let mut run = Run::new(subject, request);
    let stuck = !reach(&mut run, cut).await;
    let at = run.at();
    let told = |found| {
        let woken = if cut.woken { " and a wake" } else { "" };
        let (name, polls) = (scenario.name, cut.polls);
        format!("with {name}, dropped {at} after {polls} polls{woken}: {found}")
    };
    let subject = run.abandon();
    settle().await;
    left_behind(&inner, &kept).map_err(told)?;
    if uploads.load(SeqCst) > 0 {
        return Err(told("its request body is still alive".to_owned()));
    }
    // One that was polled ready and not called may hold its place.
    if at != At::Readying {
        if inner.reserved() > 0 {
            return Err(told("a place of the service is still held".to_owned()));
        }
        drop(bench.usable(subject, &inner).await.map_err(told)?);
    } else {
        drop(subject);
        settle().await;
    }
    let kept = bench.usable(kept, &inner).await.map_err(told)?;
    settle().await;
    left_behind(&inner, &kept).map_err(told)?;
    if inner.reserved() > 0 {
        let held = "a place of the service is held by nobody who could call it";
        return Err(told(held.to_owned()));
    }
    drop(kept);
    settle().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let outlive = match (inner.instances(), tasks) {
        (1, 0) if stuck => return Ok(At::End),
        (1, 0) => return Ok(at),
        (1, tasks) => format!("{tasks} tasks"),
        (more, _) => format!("{} instances of the service", more - 1),
    };
    Err(told(format!("{outlive} outlive the last clone")))
}

/// Polls so often, if the call takes that long; `false` where nothing would come of further polls.
async fn reach(run: &mut Run, cut: Cut) -> bool {
    for poll in 1..=cut.polls {
        if run.at() == At::End {
            break;
        }
        let waits = run.poll().is_pending() && (poll < cut.polls || cut.woken);
        if waits && run.wake(PATIENCE).await.is_err() {
            return false;
        }
    }
    true
}
