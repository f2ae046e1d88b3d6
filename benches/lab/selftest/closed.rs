//! Closed forms.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::Check;
use crate::{
    arrivals::{Arrivals, MILLI, Nanos, SECOND},
    config::{Scenario, scenario},
    draws::{For, Sequence},
    times::{Times, exponential},
    upstream::{Attempt, NEVER, Reply, Server},
};

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![fan_out(), poisson(), erlang_c(), means()];
    // Mitzenmacher: ln n / ln ln n without a choice, ln ln n / ln d with one.
    let balls = [(1, 8.7), (2, 4.0), (3, 3.0)];
    checks.extend(balls.map(|(choices, most)| balls_in_bins(choices, most)));
    checks
        .extend([(2, 2.61), (3, 2.03)].map(|(choices, time)| supermarket(0.9, choices, time, 200)));
    checks
}

pub(super) fn slow() -> Vec<Check> {
    vec![
        supermarket(0.9, 1, 10.0, 3000),
        supermarket(0.99, 2, 5.43, 8000),
    ]
}

/// One of n parts is slow: 1 - (1 - p)^n.
fn fan_out() -> Check {
    let mut draws = Sequence::new(1, For::Fault, 0);
    let reads = 20_000;
    let slow = (0..reads)
        .filter(|_| (0..100).fold(false, |slow, _| slow | (draws.unit() < 0.01)))
        .count();
    let should = 1.0 - 0.99_f64.powi(100);
    Check::new(
        "one of 100 parts is slow, 1 % each: share of reads",
        slow as f64 / f64::from(reads),
        should,
        0.02,
    )
}

/// In a Poisson process counts vary by their mean.
fn poisson() -> Check {
    let mut counts = vec![0.0; 1000];
    for arrival in Arrivals::new(1, 50.0, 1, 1000 * SECOND as Nanos) {
        counts[(arrival.at / SECOND as Nanos) as usize] += 1.0;
    }
    let mean = counts.iter().sum::<f64>() / 1000.0;
    let variance = counts
        .iter()
        .map(|count| (count - mean).powi(2))
        .sum::<f64>()
        / 999.0;
    Check::new(
        "arrivals: variance of counts over their mean",
        variance / mean,
        1.0,
        0.1,
    )
}

fn means() -> Check {
    let mut draws = Sequence::new(1, For::Work, 0);
    let times = [
        Times::Exp(10.0),
        Times::Erlang { k: 4, mean: 10.0 },
        Times::Normal {
            mean: 10.0,
            sd: 1.0,
        },
        Times::Uniform(8.0, 12.0),
        Times::Const(10.0),
    ];
    let total: f64 = (0..50_000)
        .map(|round| times[round % 5].draw(&mut draws))
        .sum();
    Check::new(
        "service times: mean of five kinds, ms",
        total / 50_000.0,
        10.0,
        0.02,
    )
}

/// Mean time in an M/M/8 at 0.7 of its capacity, by Erlang's C.
fn erlang_c() -> Check {
    let (workers, load) = (8.0_f64, 0.7);
    let offered = workers * load;
    let term = |k: i32| offered.powi(k) / f64::from((1..=k).product::<i32>());
    let all_busy = term(8) / (1.0 - load);
    let waits = all_busy / ((0..8).map(term).sum::<f64>() + all_busy);
    let should = 10.0 + waits * 10.0 / (workers * (1.0 - load));
    let scenario = Scenario {
        network_ms: 0.0,
        fault: Vec::new(),
        ..scenario("S2", true)
    };
    let mut server = Server::new(&scenario, 0);
    let arrivals = Arrivals::new(1, 560.0, 1, 600 * SECOND as Nanos);
    let times: Vec<f64> = arrivals
        .map(|arrival| {
            let fate = server.take(Attempt {
                seed: 1,
                call: arrival.call,
                number: 0,
                sent: arrival.at,
                gives_up: NEVER,
            });
            assert_eq!(fate.reply, Reply::Status(200));
            (fate.at - arrival.at) as f64 / MILLI
        })
        .collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    Check::new("8 workers at 0.7: mean time, ms", mean, should, 0.03)
}

/// The fullest of a million bins with a million balls, each in the emptiest of some.
fn balls_in_bins(choices: u32, should: f64) -> Check {
    let bins = 1_000_000;
    let fullest = |seed| {
        let mut draws = Sequence::new(seed, For::Policy, u64::from(choices));
        let mut count = vec![0_u8; bins];
        for _ in 0..bins {
            let candidates = (0..choices).map(|_| (draws.bits() % bins as u64) as usize);
            let emptiest = candidates.min_by_key(|bin| count[*bin]).unwrap_or(0);
            count[emptiest] += 1;
        }
        f64::from(count.iter().copied().max().unwrap_or(0))
    };
    let mean = (1..=3).map(fullest).sum::<f64>() / 3.0;
    Check::new(
        format!("fullest of 10^6 bins, {choices} choices"),
        mean,
        should,
        0.1,
    )
}

/// Mean time in the system of many queues, each call in the shortest of some: sum of load^((d^i - d) / (d - 1)).
fn supermarket(load: f64, choices: u32, should: f64, lengths: u32) -> Check {
    let queues = 1000_usize;
    let mut draws = Sequence::new(7, For::Policy, u64::from(choices));
    let mut length = vec![0_u32; queues];
    let mut free = vec![0.0_f64; queues];
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut now, mut total, mut counted) = (0.0, 0.0, 0.0);
    let warm = f64::from(lengths) / 2.0;
    while now < f64::from(lengths) {
        now += exponential(1.0 / (load * queues as f64), draws.unit());
        while let Some(Reverse((_, queue))) = ends
            .peek()
            .copied()
            .filter(|Reverse((end, _))| f64::from_bits(*end) <= now)
        {
            ends.pop();
            length[queue] -= 1;
        }
        let candidates = (0..choices).map(|_| (draws.bits() % queues as u64) as usize);
        let queue = candidates.min_by_key(|queue| length[*queue]).unwrap_or(0);
        let end = free[queue].max(now) + exponential(1.0, draws.unit());
        (free[queue], length[queue]) = (end, length[queue] + 1);
        // Times above zero are in the order of their bits.
        ends.push(Reverse((end.to_bits(), queue)));
        if now > warm {
            (total, counted) = (total + end - now, counted + 1.0);
        }
    }
    Check::new(
        format!("supermarket at {load}, {choices} choices: mean time"),
        total / counted,
        should,
        0.03,
    )
}
