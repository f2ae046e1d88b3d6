//! What decisions cost alone and when they are shared: breaker, budget, balancer; and what an endpoint holds.
//!
//! See `benches/README.md` for the method and how to read the report.

#[path = "policy/churn.rs"]
mod churn;
#[path = "policy/decisions.rs"]
mod decisions;
#[path = "overhead/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part")]
mod harness;
#[path = "policy/held.rs"]
mod held;
#[path = "policy/picks.rs"]
mod picks;
#[path = "policy/tasks.rs"]
mod tasks;
#[path = "policy/tower.rs"]
mod tower;

use std::process::ExitCode;

use harness::{Case, RAW, Upstream, calls, post};

fn main() -> ExitCode {
    let cases: Vec<Case> = [
        raw(),
        decisions::cases(),
        picks::cases(),
        tower::picks(),
        tasks::cases(),
        tower::shared(),
        churn::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    harness::main_with(&cases, held::figures)
}

/// What tells how fast the machine is.
fn raw() -> Vec<Case> {
    let make = || calls(Upstream::Ready.client(), post(), |body| body);
    vec![Case::new("a service without layers", RAW, make)]
}
