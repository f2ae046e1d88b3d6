//! The table, and the same as JSON.

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;

use crate::{
    config::Scenario,
    goals::Goal,
    metrics::{Metric, Scope},
    runs::Done,
};

/// One run as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    scenario: &'a str,
    variant: Option<&'a str>,
    policy: &'a str,
    clients: u32,
    seed: u64,
    success: Option<f64>,
    amplification: Option<f64>,
    extra: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    /// Null too if it never came.
    ttr_s: Option<f64>,
    wasted: Option<f64>,
    max_over_mean: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

pub(crate) struct Report<'a> {
    pub(crate) scenarios: &'a [Scenario],
    pub(crate) done: &'a [Done],
}

impl Report<'_> {
    fn scenario(&self, done: &Done) -> &Scenario {
        &self.scenarios[done.scenario]
    }

    /// The run that a goal compares with.
    fn other(&self, goal: &Goal, done: &Done) -> Option<&Done> {
        let versus = goal.versus.as_ref()?;
        let own = self.scenario(done);
        let policy = versus.policy.as_ref().unwrap_or(&done.policy);
        let variant = versus.variant.as_ref().unwrap_or(&own.variant);
        let is_it = |other: &&Done| {
            let scenario = self.scenario(other);
            (&scenario.id, &scenario.variant, &other.policy) == (&own.id, variant, policy)
                && (other.clients, other.seed) == (done.clients, done.seed)
        };
        self.done.iter().find(is_it)
    }

    fn figure(&self, goal: &Goal, done: &Done) -> Option<f64> {
        let scope = goal.scope();
        let other = self.other(goal, done);
        let other = other.and_then(|other| other.figure(goal.metric, &scope));
        goal.compared(done.figure(goal.metric, &scope)?, other)
    }

    fn clients_index(&self, done: &Done) -> usize {
        let counts = &self.scenario(done).clients;
        counts
            .iter()
            .position(|count| *count == done.clients)
            .unwrap_or(0)
    }

    fn row<'a>(&'a self, done: &'a Done) -> Row<'a> {
        let scenario = self.scenario(done);
        let of = |metric| {
            let figure = done.figure(metric, &Scope::whole());
            figure.filter(|figure| figure.is_finite()).map(rounded)
        };
        let goals: Vec<&Goal> = scenario
            .goal
            .iter()
            .filter(|goal| goal.policy == done.policy)
            .collect();
        let index = self.clients_index(done);
        let said = goals.iter().filter_map(|goal| {
            let figure = self.figure(goal, done)?;
            Some(format!(
                "{} {} ({})",
                goal.name(),
                goal.bounds(index),
                rounded(figure)
            ))
        });
        let said: Vec<String> = said.collect();
        Row {
            scenario: &scenario.id,
            variant: Some(scenario.variant.as_str()).filter(|name| !name.is_empty()),
            policy: &done.policy,
            clients: done.clients,
            seed: done.seed,
            success: of(Metric::Success),
            amplification: of(Metric::Amplification),
            extra: of(Metric::Extra),
            p50_ms: of(Metric::P50),
            p99_ms: of(Metric::P99),
            p999_ms: of(Metric::P999),
            ttr_s: of(Metric::Ttr),
            wasted: of(Metric::Wasted),
            max_over_mean: of(Metric::MaxOverMean),
            goal: (!said.is_empty()).then(|| said.join("; ")),
            met: goals
                .iter()
                .filter_map(|goal| goal.is_met(self.figure(goal, done)?, index))
                .reduce(|one, other| one && other),
        }
    }

    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, file: &Path) -> Result<(), String> {
        let mut text = String::from("[\n");
        for (index, done) in self.done.iter().enumerate() {
            let row = serde_json::to_string(&self.row(done)).map_err(|error| error.to_string())?;
            let end = if index + 1 == self.done.len() {
                "\n"
            } else {
                ",\n"
            };
            let _ = write!(text, "{row}{end}");
        }
        text.push_str("]\n");
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Prints a line for each goal, with the median and the worst seed of each policy, and counts the lost ones.
    pub(crate) fn print(&self) -> usize {
        let mut lost = 0;
        for (index, scenario) in self.scenarios.iter().enumerate() {
            let of_this: Vec<&Done> = self
                .done
                .iter()
                .filter(|done| done.scenario == index)
                .collect();
            if of_this.is_empty() {
                continue;
            }
            println!("\n{}: {}", scenario.name(), scenario.title);
            for (at, clients) in scenario.clients.iter().enumerate() {
                let same: Vec<&Done> = of_this
                    .iter()
                    .copied()
                    .filter(|done| done.clients == *clients)
                    .collect();
                if same.is_empty() {
                    continue;
                }
                for goal in &scenario.goal {
                    lost += usize::from(self.line(scenario, goal, at, *clients, &same));
                }
            }
        }
        lost
    }

    /// Whether a goal is lost that counts.
    fn line(
        &self,
        scenario: &Scenario,
        goal: &Goal,
        at: usize,
        clients: u32,
        runs: &[&Done],
    ) -> bool {
        let mut line = format!("{clients:>5} clients  {:<30}", goal.name());
        let mut met = None;
        for policy in &scenario.policies {
            let figures: Vec<f64> = runs
                .iter()
                .filter(|done| done.policy == *policy)
                .filter_map(|done| self.figure(goal, done))
                .collect();
            let Some((median, worst)) = spread(&figures, goal.low_is_worst()) else {
                continue;
            };
            if *policy == goal.policy {
                met = goal.is_met(worst, at);
            }
            let _ = write!(line, "  {policy} {}/{}", shown(median), shown(worst));
        }
        let verdict = match (met, &goal.because) {
            (None, _) => "",
            (Some(true), _) => "met",
            (Some(false), None) => "LOST",
            (Some(false), Some(_)) => "not met",
        };
        println!("{line}  | {} {verdict}", goal.bounds(at));
        verdict == "LOST"
    }
}

/// Median and worst.
fn spread(figures: &[f64], low_is_worst: bool) -> Option<(f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let worst = if low_is_worst {
        sorted.first()
    } else {
        sorted.last()
    };
    Some((sorted.get(sorted.len() / 2).copied()?, worst.copied()?))
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

fn shown(figure: f64) -> String {
    match figure.abs() {
        size if !size.is_finite() => "never".to_owned(),
        size if size >= 1000.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}
