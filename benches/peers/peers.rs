//! What a user could take instead, measured by the harness of `overhead` and beside our own rows.
//!
//! Metrics, tracing and events of the peers are off; settings are their defaults where there are any.

#[path = "../policy/decisions.rs"]
mod decisions;
#[path = "../overhead/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part")]
mod harness;
#[path = "../policy/picks.rs"]
mod picks;
#[path = "../overhead/rows/mod.rs"]
mod rows;

mod breakers;
mod seatbelt;
mod tower_resilience;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases: Vec<harness::Case> = [
        rows::raw(),
        rows::tower::cases(),
        tower_resilience::cases(),
        seatbelt::cases(),
        breakers::calls(),
        rows::layers::cases(),
        picks::cases(),
        breakers::decisions(),
        decisions::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    harness::main(&cases)
}
