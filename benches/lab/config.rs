//! Scenario files: TOML tables, of which a variant, and the short form, replace single entries.

use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    arrivals::{MILLI, Nanos, SECOND},
    goals::Goal,
    times::Times,
};

const FILES: &[(&str, &str)] = &[
    ("S0", include_str!("scenarios/S0.toml")),
    ("S1", include_str!("scenarios/S1.toml")),
    ("S2", include_str!("scenarios/S2.toml")),
    ("S3", include_str!("scenarios/S3.toml")),
    ("S5", include_str!("scenarios/S5.toml")),
    ("S7", include_str!("scenarios/S7.toml")),
    ("S9", include_str!("scenarios/S9.toml")),
    ("S11", include_str!("scenarios/S11.toml")),
    ("S15", include_str!("scenarios/S15.toml")),
    ("S18", include_str!("scenarios/S18.toml")),
];

/// One scenario in one variant and form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) variant: String,
    /// What it shows, in one line.
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Calls a second of all clients together.
    pub(crate) rps: f64,
    /// How many servers there are at first.
    pub(crate) servers: u32,
    /// Of each server; 0: no queue.
    pub(crate) workers: u32,
    pub(crate) service_ms: Times,
    #[serde(default = "half_a_milli")]
    pub(crate) network_ms: f64,
    #[serde(default = "one_second")]
    pub(crate) deadline_ms: f64,
    pub(crate) duration_s: f64,
    pub(crate) clients: Vec<u32>,
    /// The servers drop work whose caller has given up.
    #[serde(default)]
    pub(crate) deadline_aware: bool,
    /// Callers drop their calls at the deadline.
    #[serde(default = "yes")]
    pub(crate) cancel: bool,
    pub(crate) policies: Vec<String>,
    /// When the process of all clients restarts.
    pub(crate) client_restarts_s: Option<f64>,
    #[serde(default)]
    pub(crate) fault: Vec<Fault>,
    #[serde(default)]
    pub(crate) join: Vec<Join>,
    #[serde(default)]
    pub(crate) goal: Vec<Goal>,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Fleet,
    Herd,
    Cascade,
    Payments,
}

/// What some servers do for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// None named: all.
    #[serde(default)]
    pub(crate) servers: Vec<u32>,
    #[serde(default)]
    pub(crate) from_s: f64,
    #[serde(default = "for_ever")]
    pub(crate) to_s: f64,
    pub(crate) does: Does,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Does {
    /// Answers with this status after so long, without a queue.
    Status { code: u16, after_ms: f64 },
    /// Answers a share of its calls, by chance and after their work, with this status.
    Noise { share: f64, code: u16 },
    /// Refuses connections.
    Refuse,
    /// Connections do not come about.
    NoConnect,
    /// Takes calls and never answers.
    Hang,
    /// Answers after so long, without a queue.
    Takes { ms: f64 },
    /// Does nothing; goes on with everything afterwards.
    Freeze,
    /// Takes so many times as long.
    Slow { times: f64 },
    /// Is slower at first, down to its usual speed at the end.
    Cold { times: f64 },
    /// Is farther away, each way.
    Far { ms: f64 },
    /// Drops all it has, refuses connections until the end.
    Restart,
    /// A share of calls ends in a reset before their work.
    ResetBefore { share: f64 },
    /// A share of calls ends in a reset after their work.
    ResetAfter { share: f64 },
    /// A share of calls takes so much longer.
    Stall { share: f64, ms: f64 },
}

/// Servers that join later.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    pub(crate) at_s: f64,
    pub(crate) servers: u32,
}

fn half_a_milli() -> f64 {
    0.5
}

fn one_second() -> f64 {
    1000.0
}

fn yes() -> bool {
    true
}

fn for_ever() -> f64 {
    1e6
}

impl Scenario {
    pub(crate) fn deadline(&self) -> Nanos {
        (self.deadline_ms * MILLI) as Nanos
    }

    pub(crate) fn duration(&self) -> Nanos {
        (self.duration_s * SECOND) as Nanos
    }

    /// Those that join later included.
    pub(crate) fn all_servers(&self) -> u32 {
        self.servers + self.join.iter().map(|join| join.servers).sum::<u32>()
    }

    pub(crate) fn name(&self) -> String {
        match self.variant.is_empty() {
            true => self.id.clone(),
            false => format!("{} {}", self.id, self.variant),
        }
    }
}

/// All variants of the scenarios that are asked for (all, if none is).
///
/// # Errors
/// If a file does not hold what it should, or one that is asked for is not there.
pub(crate) fn scenarios(asked: &[String], full: bool) -> Result<Vec<Scenario>, String> {
    if let Some(unknown) = asked
        .iter()
        .find(|id| FILES.iter().all(|(name, _)| name != id))
    {
        return Err(format!("there is no scenario {unknown}"));
    }
    let wanted = FILES
        .iter()
        .filter(|(id, _)| asked.is_empty() || asked.iter().any(|name| name == id));
    let mut all = Vec::new();
    for (id, text) in wanted {
        all.extend(variants(text, full).map_err(|error| format!("{id}.toml: {error}"))?);
    }
    Ok(all)
}

/// One of them by its name, variant included.
///
/// # Panics
/// If it is not there.
pub(crate) fn scenario(name: &str, full: bool) -> Scenario {
    let id = name.split(' ').next().unwrap_or(name);
    let all = scenarios(&[id.to_owned()], full).expect("the files hold scenarios");
    let found = all.into_iter().find(|scenario| scenario.name() == name);
    found.unwrap_or_else(|| panic!("there is no scenario {name}"))
}

fn variants(text: &str, full: bool) -> Result<Vec<Scenario>, String> {
    let mut base: Table = text.parse().map_err(|error| format!("{error}"))?;
    let short = overlay(&mut base, "short")?;
    let variants = overlay(&mut base, "variants")?;
    let mut found = vec![read(base.clone(), Table::new(), &short, full)?];
    for (name, changes) in variants {
        let Value::Table(mut changes) = changes else {
            return Err(format!("variant {name} is no table"));
        };
        changes.insert("variant".to_owned(), Value::String(name));
        found.push(read(base.clone(), changes, &short, full)?);
    }
    // A variant may stand in one form only.
    Ok(found
        .into_iter()
        .filter(|one| !one.clients.is_empty())
        .collect())
}

fn overlay(from: &mut Table, name: &str) -> Result<Table, String> {
    match from.remove(name) {
        None => Ok(Table::new()),
        Some(Value::Table(table)) => Ok(table),
        Some(_) => Err(format!("{name} is no table")),
    }
}

fn read(
    mut base: Table,
    mut changes: Table,
    short: &Table,
    full: bool,
) -> Result<Scenario, String> {
    let own_short = overlay(&mut changes, "short")?;
    if !full {
        base.extend(short.clone());
    }
    base.extend(changes);
    if !full {
        base.extend(own_short);
    }
    Value::Table(base)
        .try_into()
        .map_err(|error| format!("{error}"))
}
