//! What a person reads at the end.

use std::fmt::Display;

use serde::Serialize;

use crate::drive::Call;
use crate::score::{Figures, Score, millis};

/// The two clients side by side.
pub fn table(evenkeel: &Score, naive: &Score) {
    row("", "evenkeel", "naive client");
    let both =
        |name: &str, value: &dyn Fn(&Score) -> String| row(name, value(evenkeel), value(naive));
    both("calls", &|s| s.calls.to_string());
    both("ok", &|s| {
        format!("{} ({:.2} %)", s.ok, 100.0 * s.ok as f64 / s.calls as f64)
    });
    both("failed", &|s| (s.calls - s.ok).to_string());
    both("attempts per call", &|s| {
        format!("{:.3}", s.attempts_per_call())
    });
    both("latency p50", &|s| format!("{:.1} ms", millis(s.p50)));
    both("latency p99", &|s| format!("{:.1} ms", millis(s.p99)));
    both("charged twice", &|s| s.double_charges.to_string());
    both("lost", &|s| s.lost.to_string());
    both("breaker trips", &|s| {
        s.trips
            .map_or_else(|| "has none".to_owned(), |trips| trips.to_string())
    });
    for server in 0..evenkeel.shares.len() {
        both(&format!("traffic of server {}", server + 1), &|s| {
            format!("{:.1} %", s.shares[server])
        });
    }
}

fn row(name: &str, evenkeel: impl Display, naive: impl Display) {
    println!("  {name:<20}{evenkeel:>18}{naive:>18}");
}

pub fn legend() {
    println!(
        "
  ok             the caller got the receipt of its own order
  latency        from the moment the charge was due, retries included
  charged twice  orders that are in the ledger more than once
  lost           orders reported as paid that the ledger does not know
  breaker trips  how often the breaker of the whole service opened
  traffic        requests that reached the server; one that failed is trusted again over some seconds"
    );
}

/// The stories of two calls: one that a retry saved, and the hardest of the others.
pub fn samples(calls: &[Call]) {
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
                "\n{title}: order {}, {:.1} ms",
                call.order,
                millis(call.latency)
            );
            for line in call.outcome.story.lines() {
                println!("  {line}");
            }
        }
    }
    println!(
        "
  #1, #2 ...       each attempt: its server, how it ended, how long it ran
  tried elsewhere  no pause, since the fault was that server's own and another one was there
  waited           the pause before the next attempt: what Retry-After asked for, or backoff with jitter
  not tried again  why there was no further attempt"
    );
}

/// The same figures for a program.
pub fn json(evenkeel: &Score, naive: &Score) {
    #[derive(Serialize)]
    struct Line {
        http: Figures,
        naive_http: Figures,
    }
    let line = Line {
        http: evenkeel.figures(),
        naive_http: naive.figures(),
    };
    println!(
        "{}",
        serde_json::to_string(&line).expect("numbers are JSON")
    );
}
