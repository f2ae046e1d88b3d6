//! The published model of backoff (Brooker, 2015): clients that each have to write one row under optimistic locking.
//! A read and a write take four messages of about 10 ms; who meets a newer version waits and begins anew.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use evenkeel::{Backoff, Jitter};

use super::Check;
use crate::{
    draws::{For, Sequence},
    times::normal,
};

/// Writes that all clients need together, and the seconds until the last has done its own.
#[derive(Clone, Copy, Debug)]
struct Contention {
    writes: f64,
    seconds: f64,
}

/// How a client waits before it begins anew.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Not,
    /// By the crate's own backoff.
    Ours(Jitter),
    /// Decorrelated as published: what lies above the cap is cut to it. Ours draws again.
    Decorrelated,
}

const WAITS: [(&str, Wait); 6] = [
    ("no wait", Wait::Not),
    ("exponential", Wait::Ours(Jitter::None)),
    ("equal", Wait::Ours(Jitter::Equal)),
    ("full", Wait::Ours(Jitter::Full)),
    ("decorrelated", Wait::Decorrelated),
    (
        "decorrelated, drawn again",
        Wait::Ours(Jitter::Decorrelated),
    ),
];

/// Published means of 100 clients over 100 seeds: writes and seconds.
const OF_100: [(f64, f64); 5] = [
    (2422.0, 2.0),
    (1868.0, 63.9),
    (812.0, 6.7),
    (796.0, 4.8),
    (1002.0, 4.6),
];

/// And of 1000 clients over 5 seeds, those with jitter.
const OF_1000: [(f64, f64); 3] = [(14_741.0, 27.0), (16_983.0, 24.0), (23_504.0, 25.4)];

pub(super) fn few() -> Vec<Check> {
    let waits = WAITS.into_iter().zip(OF_100);
    waits
        .flat_map(|((name, wait), published)| compared(name, 100, mean(wait, 100, 100), published))
        .collect()
}

pub(super) fn many() -> Vec<Check> {
    let means: Vec<_> = WAITS[2..]
        .iter()
        .map(|(name, wait)| (*name, *wait, mean(*wait, 1000, 5)))
        .collect();
    let checks = means
        .iter()
        .zip(OF_1000)
        .flat_map(|((name, _, mean), published)| compared(name, 1000, *mean, published));
    let default = Wait::Ours(Jitter::default());
    let ours = means
        .iter()
        .find(|(_, wait, _)| *wait == default)
        .map(|(.., mean)| *mean);
    let beats = |other: Contention| {
        ours.is_some_and(|ours| other.writes < ours.writes && other.seconds < ours.seconds)
    };
    let beaten = means.iter().filter(|(.., other)| beats(*other)).count();
    let dominated = Check::new(
        "waits that beat the default in writes and seconds",
        beaten as f64,
        0.0,
        0.0,
    );
    checks.chain([dominated]).collect()
}

fn compared(
    name: &str,
    clients: u32,
    mean: Contention,
    (writes, seconds): (f64, f64),
) -> [Check; 2] {
    [
        Check::new(
            format!("writes of {clients} clients, {name}"),
            mean.writes,
            writes,
            0.1,
        ),
        Check::new(
            format!("seconds of {clients} clients, {name}"),
            mean.seconds,
            seconds,
            0.1,
        ),
    ]
}

fn mean(wait: Wait, clients: u32, seeds: u32) -> Contention {
    let runs = (1..=seeds).map(|seed| run(wait, clients, u64::from(seed)));
    let sum = runs.fold((0.0, 0.0), |sum, run| {
        (sum.0 + run.writes, sum.1 + run.seconds)
    });
    Contention {
        writes: sum.0 / f64::from(seeds),
        seconds: sum.1 / f64::from(seeds),
    }
}

impl Wait {
    fn draw(self, known: &Client, unit: f64) -> Duration {
        // The model doubles before its first wait; decorrelated waits begin at the base itself.
        let (base, first, cap) = (5.0, 10, 2000.0_f64);
        match self {
            Self::Not => Duration::ZERO,
            Self::Decorrelated => {
                let last = known
                    .waited
                    .map_or(base, |waited| waited.as_secs_f64() * 1000.0);
                let wait = base + (last * 3.0 - base) * unit;
                Duration::from_secs_f64(wait.min(cap) / 1000.0)
            }
            Self::Ours(jitter) => {
                let first = if jitter == Jitter::Decorrelated {
                    5
                } else {
                    first
                };
                let backoff = Backoff::default()
                    .initial(Duration::from_millis(first))
                    .max(Duration::from_secs(2))
                    .jitter(jitter);
                backoff.delay(known.retries, known.waited, unit)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The read reaches the server.
    Read,
    /// The version reaches the client, which writes.
    Version(u64),
    /// The write reaches the server.
    Write(u64),
    Ended(bool),
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    retries: u32,
    waited: Option<Duration>,
}

fn run(wait: Wait, clients: u32, seed: u64) -> Contention {
    let mut draws = Sequence::new(seed, For::Policy, u64::from(clients));
    let mut state = vec![Client::default(); clients as usize];
    let mut steps = BinaryHeap::new();
    for client in 0..clients as usize {
        steps.push(Reverse((message(&mut draws), client, Step::Read)));
    }
    let (mut version, mut writes, mut last) = (0, 0, 0);
    while let Some(Reverse((now, client, step))) = steps.pop() {
        let next = match step {
            Step::Read => Some((0, Step::Version(version))),
            Step::Version(seen) => Some((0, Step::Write(seen))),
            Step::Write(seen) => {
                writes += 1;
                let won = seen == version;
                version += u64::from(won);
                Some((0, Step::Ended(won)))
            }
            Step::Ended(true) => {
                last = now;
                None
            }
            Step::Ended(false) => {
                let known = &mut state[client];
                known.retries += 1;
                let wait = wait.draw(known, draws.unit());
                known.waited = Some(wait);
                Some((wait.as_nanos() as u64, Step::Read))
            }
        };
        if let Some((wait, step)) = next {
            steps.push(Reverse((now + wait + message(&mut draws), client, step)));
        }
    }
    Contention {
        writes: f64::from(writes),
        seconds: last as f64 / 1e9,
    }
}

/// How long a message takes.
fn message(draws: &mut Sequence) -> u64 {
    ((10.0 + 2.0 * normal(draws)).abs() * 1e6) as u64
}
