use std::time::Duration;

use crate::testkit::{
    act::Act,
    contract::{
        bench::{Bench, Finding, catching, paused, settle},
        run::{At, Outcome, PATIENCE, Run},
        scenario::{Scenario, request},
    },
    readiness::Readiness,
    scripted::Scripted,
    step::Step,
};

/// How long the call takes that is to be left alone, and its body again.
const LONG: Duration = Duration::from_secs(1);
/// More polls than a call of the scenarios takes.
const MOST_POLLS: usize = 60;

/// While one call runs, another one on a clone is dropped at every poll of every scenario, or panics.
pub(in super::super) fn leaves_others_alone(bench: &Bench) -> Finding {
    for scenario in Scenario::all() {
        for polls in 0..MOST_POLLS {
            let found = paused(drop_beside(bench, &scenario, polls));
            let ended = found.map_err(|found| {
                let name = scenario.name;
                format!("beside a call that was dropped after {polls} polls, with {name}, {found}")
            })?;
            if ended {
                break;
            }
        }
    }
    for act in [Act::panic_in_call(), Act::panic()] {
        let inner = Scripted::new([long(), act]);
        paused(panic_beside(bench, &inner))
            .map_err(|found| format!("beside a call that panicked, {found}"))?;
    }
    Ok(())
}

fn long() -> Act {
    let body = [Step::data("one"), Step::pause(LONG), Step::data("two")];
    Act::ok().after(LONG).body(body)
}

/// The call that is to be left alone, on its way.
async fn begun(bench: &Bench, inner: &Scripted) -> Result<(Run, Run), String> {
    let subject = (bench.make)(inner.clone());
    let other = Run::new(subject.clone(), request());
    let mut alone = Run::new(subject, request());
    while inner.calls() == 0 {
        alone
            .next(PATIENCE)
            .await
            .map_err(|fault| fault.to_string())?;
    }
    Ok((alone, other))
}

/// Answers whether the other call had come to its end, or would not get any further.
async fn drop_beside(bench: &Bench, scenario: &Scenario, polls: usize) -> Result<bool, String> {
    let inner = scenario.service_after(long());
    let readiness = inner.now_ready(Readiness::Always);
    let (alone, mut other) = begun(bench, &inner).await?;
    inner.set_readiness(readiness);
    let mut ended = false;
    for _ in 0..polls {
        // Shorter than what the first one takes: it is still there when the other one goes.
        ended = other.at() == At::End || other.next(LONG / 10).await.is_err();
        if ended {
            break;
        }
    }
    drop(other);
    settle().await;
    succeeds(alone).await?;
    Ok(ended)
}

async fn panic_beside(bench: &Bench, inner: &Scripted) -> Finding {
    let (alone, mut other) = begun(bench, inner).await?;
    while other.at() != At::End {
        match catching(|| other.poll()) {
            Ok(polled) if polled.is_ready() => {}
            Ok(_) if other.wake(LONG / 10).await.is_ok() => {}
            _ => break,
        }
    }
    catching(|| drop(other))?;
    succeeds(alone).await
}

async fn succeeds(alone: Run) -> Finding {
    let ended = alone.finish().await.map_err(|fault| fault.to_string())?;
    match ended.0 {
        Outcome::Answered(_, content) if content.data == "onetwo" && content.error.is_none() => {
            Ok(())
        }
        outcome => Err(format!("one that ran already came to {}", outcome.word())),
    }
}
