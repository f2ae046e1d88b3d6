//! Figures that were published for simple policies: the lab has to find them again before its own count.

use super::Check;
use crate::{
    config::{Does, Fault, Scenario, scenario},
    metrics::{Metric, Scope},
    runs,
    times::Times,
    upstream::nanos,
};

const SEEDS: u64 = 3;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    // One slow server, callers who wait on: calls later than a second, in percent (Buoyant 2016: 5, 1 and 0.1).
    for (policy, clients, lost) in [
        ("naive", 1, 4.55),
        ("tower-p2c", 1, 0.52),
        ("naive", 100, 4.54),
        ("tower-p2c", 100, 1.90),
        ("tower-ewma", 100, 0.38),
    ] {
        let slow = figure(
            "S1 without cancelling",
            policy,
            clients,
            Metric::Failed,
            None,
        );
        checks.push(Check::new(
            format!("S1 late calls %, {policy}, {clients} clients"),
            slow,
            lost,
            0.1,
        ));
    }
    // One failing server: errors while it fails, in percent.
    for (policy, clients, errors) in [
        ("naive", 1, 10.0),
        ("tower-p2c", 1, 20.0),
        ("tower-ewma", 1, 20.1),
        ("naive", 100, 10.0),
        ("tower-p2c", 100, 10.3),
        ("tower-ewma", 100, 19.4),
    ] {
        let failed = figure("S2", policy, clients, Metric::Failed, Some((10.0, 40.0)));
        checks.push(Check::new(
            format!("S2 errors %, {policy}, {clients} clients"),
            failed,
            errors,
            0.1,
        ));
    }
    checks.extend(black_hole());
    // A frozen service: the backlog drains at what is left of its capacity.
    let back = figure("S5 at 0.7", "naive", 100, Metric::Ttr, None);
    checks.push(Check::new(
        "S5 at 0.7: seconds until recovery, naive",
        back,
        22.0,
        0.1,
    ));
    let load = figure(
        "S5 at 0.7",
        "naive3",
        100,
        Metric::Amplification,
        Some((40.0, 120.0)),
    );
    checks.push(Check::new(
        "S5 at 0.7: attempts per call, three blind retries",
        load,
        3.9,
        0.1,
    ));
    checks
}

/// Few calls over servers of 8 to 12 ms, of which one fails in 1 ms: what tower's balancer alone was measured to send
/// there, in percent, as errors.
fn black_hole() -> Vec<Check> {
    let mut checks = Vec::new();
    for (servers, policy, errors) in [
        (10, "naive", 10.0),
        (10, "tower-p2c", 14.4),
        (10, "tower-ewma", 19.8),
        (3, "naive", 33.3),
        (3, "tower-p2c", 56.1),
        (3, "tower-ewma", 66.8),
    ] {
        let does = Does::Status {
            code: 503,
            after_ms: 1.0,
        };
        let fault = Fault {
            servers: vec![0],
            from_s: 5.0,
            to_s: 35.0,
            does,
        };
        let scenario = Scenario {
            rps: 500.0,
            servers,
            workers: 0,
            service_ms: Times::Uniform(8.0, 12.0),
            network_ms: 0.0,
            duration_s: 35.0,
            fault: vec![fault],
            ..scenario("S2", true)
        };
        let failed = figure_of(&scenario, policy, 1, Metric::Failed, Some((5.0, 35.0)));
        let what = format!("errors % of {servers} servers, one fails in 1 ms, {policy}");
        checks.push(Check::new(what, failed, errors, 0.1));
    }
    checks
}

fn figure(
    name: &str,
    policy: &str,
    clients: u32,
    metric: Metric,
    window: Option<(f64, f64)>,
) -> f64 {
    figure_of(&scenario(name, true), policy, clients, metric, window)
}

/// The mean over some seeds.
fn figure_of(
    scenario: &Scenario,
    policy: &str,
    clients: u32,
    metric: Metric,
    window: Option<(f64, f64)>,
) -> f64 {
    let figures = (1..=SEEDS).map(|seed| {
        let run = runs::run(scenario, policy, clients, seed);
        let (from, to) = window.unwrap_or((0.0, scenario.duration_s));
        let scope = Scope {
            from: nanos(from),
            to: nanos(to),
            servers: Vec::new(),
        };
        run.figure(metric, &scope).unwrap_or(f64::NAN)
    });
    figures.sum::<f64>() / SEEDS as f64
}
