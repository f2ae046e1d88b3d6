//! How cases are measured, told apart and reported; the benches of the peers use it too.

mod allocations;
mod balanced;
mod callgrind;
mod case;
mod measure;
mod options;
mod report;
pub(crate) mod upstream;

use std::process::ExitCode;

pub(crate) use self::{
    balanced::{DEADLINE, address, balanced},
    case::{Batch, Case, Limit, RAW, on_two_threads, repeat},
    upstream::{Client, Request, Upstream, calls, get, post},
};
use self::{measure::BusyRuntime, options::Mode};

/// A figure that is no call's.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// At most this.
    pub(crate) target: f64,
}

/// Bytes that this thread holds on the heap.
pub(crate) fn held_bytes() -> i64 {
    allocations::held()
}

/// Runs the bench that these cases are.
pub(crate) fn main(cases: &[Case]) -> ExitCode {
    main_with(cases, Vec::new)
}

/// The same, with figures of another kind.
pub(crate) fn main_with(cases: &[Case], figures: fn() -> Vec<Figure>) -> ExitCode {
    let options = match options::Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    };
    let runtime = BusyRuntime::new();
    let _entered = runtime.enter();
    match &options.mode {
        Mode::One { case, calls } => one(cases, case, *calls),
        Mode::Smoke => smoke(cases),
        Mode::Measure => {
            let rows = measure::all(cases, &options);
            let figures = figures();
            report::print(&rows, &figures);
            report::finish(&rows, &figures, &options)
        }
    }
}

/// What the bench runs under valgrind.
fn one(cases: &[Case], name: &str, calls: u64) -> ExitCode {
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("there is no case `{name}`");
        return ExitCode::FAILURE;
    };
    (case.make)()(calls);
    ExitCode::SUCCESS
}

/// Each case a few times: whether it runs at all, for `cargo test --benches`.
fn smoke(cases: &[Case]) -> ExitCode {
    for case in cases {
        (case.make)()(10);
    }
    println!("{} cases run; `cargo bench` measures them", cases.len());
    ExitCode::SUCCESS
}
