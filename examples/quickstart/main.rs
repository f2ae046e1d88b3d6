//! Two clients pay the same orders to the same failing payment servers: evenkeel, and the client that
//! most of us have written by hand. Once over HTTP, once over gRPC.
//!
//! Each client has eight servers over one ledger to itself. The servers are slow, turn charges away,
//! lose replies after they have charged, hang, and are killed and restarted; up to three at once.
//! `http/client.rs` and `grpc/client.rs` are all that it takes to come through that.

#![expect(unreachable_pub, reason = "the modules of a program have no outside")]

mod args;
mod desk;
mod drive;
mod faults;
mod fleet;
mod grpc;
mod http;
mod ledger;
mod naive;
mod print;
mod score;
mod server;

use std::error::Error;
use std::process::ExitCode;

use evenkeel::Breaker;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::args::Args;
use crate::drive::{Outcome, PACE, drive};
use crate::faults::Episode;
use crate::fleet::{Fleet, SERVERS};
use crate::grpc::payments::payments_client::PaymentsClient;
use crate::ledger::Charge;
use crate::score::{Run, Scores};
use crate::server::Protocol;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

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

/// Runs all clients through the same weather and says whether evenkeel did well.
async fn run(args: Args) -> Fallible<bool> {
    // Only because this workspace's tests speak TLS; plain http needs no provider.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let length = PACE.saturating_mul(args.calls as u32);
    let weather = faults::schedule(args.seed, SERVERS, length);
    let bars = MultiProgress::new();
    let test = |protocol, name| Test {
        protocol,
        args,
        weather: &weather,
        bar: bars.add(bar(name, args.calls)),
    };
    let tests = [
        test(Protocol::Http, "HTTP"),
        test(Protocol::Grpc, "gRPC"),
        test(Protocol::Http, "HTTP, naive"),
        test(Protocol::Grpc, "gRPC, naive"),
    ];
    let [http, grpc, naive_http, naive_grpc] = &tests;

    // evenkeel's two one after the other. Those by hand run side by side, to save ten seconds: they
    // come out the same alone, since all of this needs a quarter of one core.
    let (http, grpc) = (evenkeel_http(http).await?, evenkeel_grpc(grpc).await?);
    let (naive_http, naive_grpc) =
        tokio::try_join!(by_hand_http(naive_http), by_hand_grpc(naive_grpc))?;

    let scores = Scores {
        http: http.score(),
        naive_http: naive_http.score(),
        grpc: grpc.score(),
        naive_grpc: naive_grpc.score(),
    };
    print::table(&scores);
    print::legend();
    print::samples("HTTP", &http.calls);
    print::samples("gRPC", &grpc.calls);
    print::reading();
    if args.json {
        print::json(&scores);
    }
    Ok(scores.http.is_good() && scores.grpc.is_good())
}

/// What one client has to come through.
struct Test<'a> {
    protocol: Protocol,
    args: Args,
    weather: &'a [Episode],
    bar: ProgressBar,
}

impl Test<'_> {
    fn fleet(&self) -> Fallible<Fleet> {
        Ok(Fleet::start(self.protocol, self.args.seed)?)
    }

    async fn run<C, F>(&self, fleet: Fleet, client: C) -> Run
    where
        C: Fn(Charge) -> F,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (calls, ()) = tokio::join!(
            drive(self.args.calls, &self.bar, client),
            fleet.suffer(self.weather),
        );
        Run {
            calls,
            fleet,
            trips: None,
        }
    }
}

async fn evenkeel_http(test: &Test<'_>) -> Fallible<Run> {
    let fleet = test.fleet()?;
    let payments = http::client::client(fleet.addresses())?;
    // The first call builds the endpoints' clients, as those of the naive one are built beforehand.
    payments.get("/health").send().await?.error_for_status()?;
    let run = test.run(fleet, |charge| http::client::pay(payments.clone(), charge));
    Ok(Run {
        trips: payments.circuit_breaker().map(Breaker::opened),
        ..run.await
    })
}

async fn evenkeel_grpc(test: &Test<'_>) -> Fallible<Run> {
    let fleet = test.fleet()?;
    let channel = grpc::client::channel(fleet.addresses())?;
    let payments = PaymentsClient::new(channel.clone());
    let run = test.run(fleet, |charge| grpc::client::pay(payments.clone(), charge));
    Ok(Run {
        trips: Some(channel.circuit_breaker().opened()),
        ..run.await
    })
}

async fn by_hand_http(test: &Test<'_>) -> Fallible<Run> {
    let fleet = test.fleet()?;
    let naive = http::naive::client(fleet.addresses())?;
    let pay = |charge| naive.clone().charge(charge, http::naive::attempt);
    Ok(test.run(fleet, pay).await)
}

async fn by_hand_grpc(test: &Test<'_>) -> Fallible<Run> {
    let fleet = test.fleet()?;
    let naive = grpc::naive::client(fleet.addresses())?;
    let pay = |charge| naive.clone().charge(charge, grpc::naive::attempt);
    Ok(test.run(fleet, pay).await)
}

/// One bar for each client, on stderr, and none where that is no terminal.
fn bar(name: &'static str, calls: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {pos}/{len}")
        .expect("a valid template");
    ProgressBar::new(calls).with_style(style).with_prefix(name)
}
