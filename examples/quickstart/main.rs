//! Two clients pay the same orders to the same failing payment servers, one after the other: evenkeel,
//! and the client that most of us have written by hand.
//!
//! Each client has eight servers over one ledger to itself. The servers are slow, answer 503, lose
//! replies after they have charged, hang, and are killed and restarted; up to three at once.
//! `client` below is all that it takes to come through that.

#![expect(unreachable_pub, reason = "the modules of a program have no outside")]

mod args;
mod drive;
mod faults;
mod fleet;
mod ledger;
mod naive;
mod print;
mod score;
mod server;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use evenkeel::{Client, IdempotencyKeys, Report, Retry};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::args::Args;
use crate::drive::{Outcome, PACE, drive};
use crate::fleet::{Fleet, SERVERS};
use crate::ledger::{Charge, Receipt};
use crate::naive::Naive;
use crate::score::Score;

const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(800);

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The resilient client: this is what you would write.
fn client(servers: Vec<SocketAddr>) -> Fallible<Client> {
    Ok(Client::builder("http://payments.internal")
        .endpoints(servers)
        .idempotency_keys(IdempotencyKeys::default())
        .deadline(Duration::from_secs(3))
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .retry(Retry::default().max_attempts(3))
        .build_reqwest(|_endpoint| reqwest::Client::builder())?)
}

/// One charge: a plain POST. The report says how it went.
async fn pay(payments: Client, charge: Charge) -> Outcome {
    match payments.post("/charges").json(&charge).send().await {
        Ok(reply) => {
            let report = reply.extensions().get::<Report>().cloned();
            let receipt = receipt(reply).await;
            Outcome {
                paid: receipt.is_ok_and(|receipt| receipt.order == charge.order),
                attempts: report
                    .as_ref()
                    .map_or(1, |report| report.attempts().len() as u32),
                story: report.map(|report| report.to_string()).unwrap_or_default(),
            }
        }
        Err(error) => Outcome {
            paid: false,
            attempts: error.report().attempts().len() as u32,
            story: error.to_string(),
        },
    }
}

async fn receipt(reply: reqwest::Response) -> Fallible<Receipt> {
    Ok(reply.error_for_status()?.json().await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::from(2);
        }
    };
    match run(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("evenkeel charged twice, lost a charge or paid less than 99.9 %");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both clients through the same weather and says whether evenkeel did well.
async fn run(args: Args) -> Fallible<bool> {
    // Only because this workspace's tests speak TLS; plain http needs no provider.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let length = PACE.saturating_mul(args.calls as u32);
    let weather = faults::schedule(args.seed, SERVERS, length);
    let (fleet, naive_fleet) = (Fleet::start(args.seed)?, Fleet::start(args.seed)?);
    let payments = client(fleet.addresses())?;
    let naive = Naive::new(naive_fleet.addresses(), ATTEMPT_TIMEOUT)?;
    // The first call builds the endpoints' clients, as the naive one has been built by now.
    payments.get("/health").send().await?.error_for_status()?;

    let (bar, naive_bar) = progress(args.calls);
    let (calls, ()) = tokio::join!(
        drive(args.calls, &bar, |charge| pay(payments.clone(), charge)),
        fleet.suffer(&weather),
    );
    let (naive_calls, ()) = tokio::join!(
        drive(args.calls, &naive_bar, |charge| naive
            .clone()
            .charge(charge)),
        naive_fleet.suffer(&weather),
    );

    let trips = payments.circuit_breaker().map(evenkeel::Breaker::opened);
    let score = Score::of(&calls, &fleet, trips);
    let naive_score = Score::of(&naive_calls, &naive_fleet, None);
    print::table(&score, &naive_score);
    print::legend();
    print::samples(&calls);
    if args.json {
        print::json(&score, &naive_score);
    }
    Ok(score.is_good())
}

/// One bar for each client, on stderr, and none where that is no terminal.
fn progress(calls: u64) -> (ProgressBar, ProgressBar) {
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {pos}/{len}")
        .expect("a valid template");
    let both = MultiProgress::new();
    let bar = |name| {
        both.add(
            ProgressBar::new(calls)
                .with_style(style.clone())
                .with_prefix(name),
        )
    };
    (bar("evenkeel"), bar("naive client"))
}
