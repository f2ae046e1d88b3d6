//! What a call costs through our layers and tower's.
//!
//! See `benches/README.md` for the method and how to read the report.

#[path = "overhead/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part")]
mod harness;
#[path = "overhead/rows/mod.rs"]
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases: Vec<harness::Case> = [rows::raw(), rows::tower::cases(), rows::layers::cases()]
        .into_iter()
        .flatten()
        .collect();
    harness::main(&cases)
}
