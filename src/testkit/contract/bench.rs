use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::future;
use http::Request;

use super::{
    erased::{Make, Subject},
    run::Run,
    scenario,
    tripwire::Tripwire,
};
use crate::call::Body;
use crate::testkit::{act::Act, pause::pause, readiness::Readiness, scripted::Scripted};

pub(super) type MakeWith = Box<dyn Fn(Scripted, Tripwire) -> Subject + Send + Sync>;

pub(super) type MakeRequest = Box<dyn Fn() -> Request<Body> + Send + Sync>;

/// What is under test.
pub(super) struct Bench {
    pub(super) make: Make,
    pub(super) callbacks: Vec<(String, MakeWith)>,
    pub(super) longest: Vec<Make>,
    /// Requests that it refuses by itself.
    pub(super) refused: Vec<MakeRequest>,
    /// How many calls it lets through at once, if that is limited.
    pub(super) slots: Option<usize>,
}

/// What was found, if anything.
pub(super) type Finding = Result<(), String>;

/// Runs on a fresh runtime with paused time; a panic is a finding.
pub(super) fn paused<T>(found: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    catching(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.map_err(|error| format!("no runtime can be made: {error}"))?;
        runtime.block_on(found)
    })?
}

/// Says of a panic what it said.
pub(super) fn catching<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| format!("it panicked: {}", words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(string).unwrap_or("without a word")
}

/// Lets tasks do what they have to do after a drop.
pub(super) async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    pause(Duration::from_millis(1)).await;
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// What calls that are over have left behind.
pub(super) fn left_behind(inner: &Scripted, subject: &Subject) -> Finding {
    let counts = [
        (inner.in_flight(), "calls of the service still in flight"),
        (inner.bodies(), "response bodies still alive"),
    ];
    match counts.into_iter().find(|(count, _)| *count > 0) {
        Some((count, what)) => Err(format!("{count} {what}")),
        None => subject.held().map_or(Ok(()), Err),
    }
}

impl Bench {
    /// Makes calls that have to succeed, as many as may run at once.
    pub(super) async fn usable(
        &self,
        subject: Subject,
        inner: &Scripted,
    ) -> Result<Subject, String> {
        const WHILE: Duration = Duration::from_millis(20);
        let slots = self.slots.unwrap_or(1);
        inner.set_readiness(Readiness::Always);
        inner.set_acts(std::iter::repeat_with(|| Act::ok().after(WHILE)).take(slots));
        let others = (1..slots).map(|_| subject.clone()).collect::<Vec<_>>();
        let subjects = others.into_iter().chain([subject]);
        let calls = subjects.map(|subject| Run::new(subject, scenario::request()).finish());
        let together = async {
            pause(WHILE / 2).await;
            inner.in_flight()
        };
        let (ended, together) = future::join(future::join_all(calls), together).await;
        let mut last = None;
        for call in ended {
            let (outcome, subject) =
                call.map_err(|fault| format!("the next call did not end: {fault}"))?;
            if !outcome.is_success() {
                return Err(format!("the next call came to {}", outcome.word()));
            }
            last = Some(subject);
        }
        if self.slots.is_some() && together < slots {
            return Err(format!(
                "only {together} of {slots} calls get through at once"
            ));
        }
        last.ok_or_else(|| "no call gets through".to_owned())
    }
}
