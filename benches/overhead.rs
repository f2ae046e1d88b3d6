//! What a call costs through our layers and tower's, and what their decisions cost alone.
//!
//! See `benches/README.md` for the method and how to read the report.

#[path = "overhead/harness/mod.rs"]
mod harness;
#[path = "overhead/rows/mod.rs"]
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases: Vec<harness::Case> = [
        rows::raw(),
        rows::tower::cases(),
        rows::layers::cases(),
        rows::balancer::cases(),
        rows::decisions::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    harness::main(&cases)
}
