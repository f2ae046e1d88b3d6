//! What a person reads at the end.

use std::fmt::Display;

use serde::Serialize;

use crate::drive::Call;
use crate::score::{Figures, Score, Scores, millis};

/// The clients side by side.
pub fn table(scores: &Scores) {
    let columns = [
        &scores.http,
        &scores.naive_http,
        &scores.grpc,
        &scores.naive_grpc,
    ];
    let all = |name: &str, value: &dyn Fn(&Score) -> String| row(name, columns.map(value));
    row("", ["HTTP", "HTTP", "gRPC", "gRPC"]);
    row("", ["evenkeel", "by hand", "evenkeel", "by hand"]);
    all("calls", &|s| s.calls.to_string());
    all("ok", &|s| s.ok.to_string());
    all("", &|s| {
        format!("{:.2} %", 100.0 * s.ok as f64 / s.calls as f64)
    });
    all("failed", &|s| (s.calls - s.ok).to_string());
    all("attempts per call", &|s| {
        format!("{:.3}", s.attempts_per_call())
    });
    all("latency p50", &|s| format!("{:.1} ms", millis(s.p50)));
    all("latency p99", &|s| format!("{:.1} ms", millis(s.p99)));
    all("charged twice", &|s| s.double_charges.to_string());
    all("lost", &|s| s.lost.to_string());
    all("breaker trips", &|s| {
        s.trips
            .map_or_else(|| "has none".to_owned(), |trips| trips.to_string())
    });
    for server in 0..scores.http.shares.len() {
        all(&format!("traffic of server {}", server + 1), &|s| {
            format!("{:.1} %", s.shares[server])
        });
    }
}

fn row(name: &str, [a, b, c, d]: [impl Display; 4]) {
    let line = format!("  {name:<20}{a:>14}{b:>14}{c:>14}{d:>14}");
    println!("{}", line.trim_end());
}

pub fn legend() {
    println!(
        "
  by hand        one timeout, three more tries on any error, the next server every time, no key
  ok             the caller got the receipt of its own order
  latency        from the moment the charge was due, retries included
  charged twice  orders that are in the ledger more than once
  lost           orders reported as paid that the ledger does not know
  breaker trips  how often the breaker of the whole service opened
  traffic        requests that reached the server; one that failed is trusted again over some seconds"
    );
}

/// The stories of two calls: one that a retry saved, and the hardest of the others.
pub fn samples(protocol: &str, calls: &[Call]) {
    let saved = calls
        .iter()
        .find(|call| call.outcome.paid && call.outcome.attempts == 2);
    let hardest = calls
        .iter()
        .filter(|call| saved.is_none_or(|saved| saved.order != call.order))
        .max_by_key(|call| (!call.outcome.paid, call.outcome.attempts, call.latency));
    for (title, call) in [("saved by a retry", saved), ("the hardest call", hardest)] {
        if let Some(call) = call {
            println!(
                "\n{protocol}, {title}: order {}, {:.1} ms",
                call.order,
                millis(call.latency)
            );
            for line in call.outcome.story.lines() {
                println!("  {line}");
            }
        }
    }
}

/// How to read a story.
pub fn reading() {
    println!(
        "
  #1, #2 ...       each attempt: its server, how it ended, how long it ran
  tried elsewhere  no pause, since the fault was that server's own and another one was there
  waited           the pause before the next attempt: what the server asked for, or backoff with jitter
  not tried again  why there was no further attempt"
    );
}

/// The same figures for a program.
pub fn json(scores: &Scores) {
    #[derive(Serialize)]
    struct Line {
        http: Figures,
        naive_http: Figures,
        grpc: Figures,
        naive_grpc: Figures,
    }
    let line = Line {
        http: scores.http.figures(),
        naive_http: scores.naive_http.figures(),
        grpc: scores.grpc.figures(),
        naive_grpc: scores.naive_grpc.figures(),
    };
    println!(
        "{}",
        serde_json::to_string(&line).expect("numbers are JSON")
    );
}
