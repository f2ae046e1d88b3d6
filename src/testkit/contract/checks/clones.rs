use std::{io, time::Duration};

use crate::testkit::{
    act::Act,
    contract::{
        bench::{Bench, Finding, paused},
        erased::Subject,
        run::Run,
        scenario::request,
    },
    pause::pause,
    scripted::Scripted,
};

/// Calls in a row: more failures than a layer that counts them should bear with.
const FAILURES: usize = 120;
const SUCCESSES: usize = 5;

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Who {
    /// The same instance, every time.
    Same,
    /// A clone of the first instance.
    Clone,
    /// A clone of the last one, which is dropped.
    Heir,
}

/// The same calls made by one instance and by many clones of it come to the same.
pub(in super::super) fn shares_state(bench: &Bench) -> Finding {
    let same = paused(history(bench, Who::Same))?;
    for (who, name) in [
        (Who::Clone, "clones of one instance"),
        (Who::Heir, "clones of clones"),
    ] {
        let other = paused(history(bench, who))?;
        let differs = same
            .iter()
            .zip(&other)
            .position(|(one, other)| one != other);
        if let Some(number) = differs {
            return Err(format!(
                "call {} came to {}, and made by {name} to {}",
                number + 1,
                same[number],
                other[number]
            ));
        }
    }
    Ok(())
}

/// What each call came to, and how often it called the service.
async fn history(bench: &Bench, who: Who) -> Result<Vec<String>, String> {
    let failing = |number| match number % 2 {
        0 => Act::status(503),
        _ => Act::fail(io::ErrorKind::ConnectionReset),
    };
    let inner = Scripted::by(failing);
    let mut subject = (bench.make)(inner.clone());
    let mut came_to = Vec::new();
    for number in 0..FAILURES + SUCCESSES {
        if number == FAILURES {
            inner.set_acts([]);
        }
        let before = inner.calls();
        let (word, next) = one(subject, who).await?;
        came_to.push(format!(
            "{word} with {} calls of the service",
            inner.calls() - before
        ));
        subject = next;
        pause(Duration::from_millis(1)).await;
    }
    Ok(came_to)
}

async fn one(subject: Subject, who: Who) -> Result<(&'static str, Subject), String> {
    let (caller, kept) = match who {
        Who::Same => (subject, None),
        Who::Clone => (subject.clone(), Some(subject)),
        Who::Heir => (subject.clone(), None),
    };
    let call = Run::new(caller, request()).finish().await;
    let (outcome, caller) = call.map_err(|fault| fault.to_string())?;
    let word = if outcome.is_success() {
        "a success"
    } else {
        "a failure"
    };
    Ok((word, kept.unwrap_or(caller)))
}
