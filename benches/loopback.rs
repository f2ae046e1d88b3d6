//! What a call over a real socket costs through the ready-made clients, beside the client that they are built on.
//!
//! See `benches/README.md` for the method and how to read the report.
//!
//! Over gRPC the ratio that is held against the target is that of one endpoint to tonic's channel, which has one too.
//! Calls over two endpoints stand beside tonic's `balance_list` over the same two: half as many calls go over each
//! connection at a time, so that each write and each read takes fewer of them along, whoever spreads the calls.

#[allow(dead_code, reason = "the other bench counts in more places")]
#[path = "overhead/harness/allocations.rs"]
mod allocations;
#[path = "loopback/cases.rs"]
mod cases;
#[path = "loopback/cpu.rs"]
mod cpu;
#[path = "../tests/support/echo.rs"]
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::use_self,
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    unreachable_pub,
    reason = "generated"
)]
mod echo;
#[path = "loopback/measure.rs"]
mod measure;
#[path = "loopback/options.rs"]
mod options;
#[path = "loopback/report.rs"]
mod report;
#[path = "loopback/servers.rs"]
mod servers;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    };
    // The tests' reqwest has TLS without a provider of its own, and builds no client without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let servers = servers::start();
    // One thread, so that all that the client does is on it, what drives its connections included.
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be had");
    let cases = client.block_on(async { cases::all(&servers) });
    let rows = measure::all(&client, &cases, &options);
    report::print(&rows);
    report::write(&rows, &options)
}
