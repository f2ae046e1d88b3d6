use std::{fs, process::ExitCode};

use serde_json::{Value, json};

use super::{
    measure::{Row, Used},
    options::Options,
};

/// A table for people.
pub(super) fn print(rows: &[Row<'_>]) {
    let mut part = "";
    for row in rows {
        if row.case.part != part {
            part = row.case.part;
            println!(
                "\n{part}\n{:<34} {:>5} {:>9} {:>7} {:>9} {:>9} {:>7}  target",
                "case", "tasks", "cpu us", "x", "over us", "wall us", "allocs"
            );
        }
        println!("{}", line(row, rows).trim_end());
    }
    println!(
        "\ncpu: of the client's thread, per call; x: of the row above that it is compared with, the median of the rounds.\n\
         wall: with 32 tasks the time between two answers. allocs: on the client's thread, per call."
    );
}

fn line(row: &Row<'_>, rows: &[Row<'_>]) -> String {
    let figures = Figures::of(row, rows);
    let number = |value: Option<f64>, digits| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    format!(
        "{:<34} {:>5} {:>9.2} {:>7} {:>9} {:>9.2} {:>7.1}  {}",
        row.case.name,
        row.tasks,
        figures.cpu,
        number(figures.ratio, 3),
        number(figures.over, 2),
        figures.wall,
        figures.allocations,
        verdict(row, figures.ratio),
    )
}

fn verdict(row: &Row<'_>, ratio: Option<f64>) -> String {
    match (row.case.target, ratio) {
        (Some(target), Some(ratio)) if ratio <= target => format!("<= {target}x  met"),
        (Some(target), _) => format!("<= {target}x  MISSED"),
        (None, _) => String::new(),
    }
}

/// Medians of the rounds.
struct Figures {
    cpu: f64,
    wall: f64,
    allocations: f64,
    ratio: Option<f64>,
    over: Option<f64>,
}

impl Figures {
    fn of(row: &Row<'_>, rows: &[Row<'_>]) -> Self {
        let medians = |figure: fn(&Used) -> f64| {
            let values = row.rounds.iter().map(figure).collect();
            median(values).unwrap_or_default()
        };
        let beside = rows
            .iter()
            .find(|other| Some(other.case.name) == row.case.over && other.tasks == row.tasks);
        let over = beside.and_then(|beside| {
            let rounds = row.rounds.iter().zip(&beside.rounds);
            median(rounds.map(|(one, other)| one.cpu - other.cpu).collect())
        });
        Self {
            cpu: medians(|used| used.cpu),
            wall: medians(|used| used.wall),
            allocations: medians(|used| used.allocations),
            ratio: median(row.ratios.clone()),
            over,
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Writes the figures where they are asked for.
pub(super) fn write(rows: &[Row<'_>], options: &Options) -> ExitCode {
    let Some(file) = &options.json else {
        return ExitCode::SUCCESS;
    };
    let figures: Vec<Value> = rows.iter().map(|row| figures(row, rows)).collect();
    if let Err(error) = fs::write(file, format!("{:#}\n", Value::from(figures))) {
        eprintln!("{} was not written: {error}", file.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn figures(row: &Row<'_>, rows: &[Row<'_>]) -> Value {
    let figures = Figures::of(row, rows);
    json!({
        "part": row.case.part,
        "case": row.case.name,
        "tasks": row.tasks,
        "cpu_us": figures.cpu,
        "wall_us": figures.wall,
        "allocations": figures.allocations,
        "ratio": figures.ratio,
        "over_us": figures.over,
        "target": row.case.target,
        "met": row.case.target.zip(figures.ratio).map(|(target, ratio)| ratio <= target),
    })
}
