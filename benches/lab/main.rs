//! The lab: scenarios that say, in numbers, what a policy does to calls. See `README.md`.

mod arrivals;
mod config;
mod draws;
mod driver;
mod goals;
mod ledger;
mod metrics;
mod options;
mod policies;
mod report;
mod runs;
mod selftest;
mod times;
mod upstream;
mod world;

use std::process::ExitCode;

use crate::{options::Options, report::Report};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}\n{}", options::USAGE);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, String> {
    let scenarios = config::scenarios(&options.scenarios, options.full)?;
    if options.is_test {
        println!(
            "{} scenarios read; `cargo bench --bench lab` runs them",
            scenarios.len()
        );
        return Ok(verdict(selftest::print(&selftest::quick())));
    }
    if options.self_test && !selftest::print(&selftest::all()) {
        return Err("the lab is wrong about what is known".to_owned());
    }
    let done = runs::all(&scenarios, options);
    let report = Report {
        scenarios: &scenarios,
        done: &done,
    };
    let lost = report.print();
    if let Some(file) = &options.json {
        report.write(file)?;
    }
    if lost > 0 {
        println!("\n{lost} goals lost");
    }
    Ok(verdict(lost == 0 || !options.gate))
}

fn verdict(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
