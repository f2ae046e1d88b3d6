use std::{fs, process::ExitCode};

use serde_json::{Value, json};

use super::{
    Figure,
    case::{Limit, RAW, REFERENCE_RAW},
    measure::Row,
    options::Options,
};

const COLUMNS: usize = 9;
const HEADINGS: [&str; COLUMNS] = [
    "case", "ns", "over", "x", "insns", "allocs", "bytes", "target", "",
];

/// A table for people.
pub(super) fn print(rows: &[Row<'_>], figures: &[Figure]) {
    let compared = Compared { rows };
    let mut part = "";
    let mut lines: Vec<[String; COLUMNS]> = vec![HEADINGS.map(str::to_owned)];
    for row in rows {
        if row.case.part != part {
            part = row.case.part;
            let mut heading = [""; COLUMNS];
            heading[0] = part;
            lines.push(heading.map(str::to_owned));
        }
        lines.push(line(row, &compared));
    }
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let width = |line: &[String; COLUMNS]| line[column].chars().count();
        lines
            .iter()
            .filter(|line| column > 0 || !line[1].is_empty())
            .map(width)
            .max()
            .unwrap_or(0)
    });
    for line in &lines {
        println!("{}", aligned(line, &widths));
    }
    for figure in figures {
        let verdict = match figure.value <= figure.target {
            true => "met",
            false => "MISSED",
        };
        println!(
            "\n{}: {} {}  (at most {}: {verdict})",
            figure.name,
            short(figure.value),
            figure.unit,
            figure.target
        );
    }
    println!(
        "\nns: median of an operation, by the median of the runs. over, x, allocs and bytes: over the row that a row is compared \
         with,\nwhere there is one. Targets in ns are for a machine on which `{RAW}` takes {REFERENCE_RAW:.0} ns, and are \
         scaled\nby that row."
    );
}

fn aligned(line: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    if line[1].is_empty() {
        return format!("\n{}", line[0]);
    }
    let cells: Vec<String> = line
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| match column {
            0 | 7.. => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}

fn line(row: &Row<'_>, compared: &Compared<'_, '_>) -> [String; COLUMNS] {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let limits = &row.case.limits;
    let targets: Vec<String> = limits.iter().map(|limit| limit.to_string()).collect();
    let missed: Vec<&Limit> = limits
        .iter()
        .filter(|limit| compared.is_kept(row, limit) == Some(false))
        .collect();
    let verdict = match (limits.is_empty(), missed.is_empty()) {
        (true, _) => String::new(),
        (false, true) => "met".to_owned(),
        (false, false) => {
            let names: Vec<&str> = missed.iter().map(|limit| limit.unit()).collect();
            format!("MISSED: {}", names.join(", "))
        }
    };
    [
        row.case.name.clone(),
        short(row.nanos()),
        number(compared.nanos_over(row)),
        compared
            .ratio(row)
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        number(row.instructions),
        number(compared.allocations_over(row)),
        number(compared.bytes_over(row)),
        targets.join(", "),
        verdict,
    ]
}

/// As many digits as mean something.
fn short(value: f64) -> String {
    let tenth = (value * 10.0).round() / 10.0;
    if tenth.abs() < 20.0 && tenth.fract() != 0.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Writes the figures where they are asked for, and says whether the gate is passed.
pub(super) fn finish(rows: &[Row<'_>], others: &[Figure], options: &Options) -> ExitCode {
    let compared = Compared { rows };
    if let Some(file) = &options.json {
        let rows = rows.iter().map(|row| figures(row, &compared));
        let figures: Vec<Value> = rows.chain(others.iter().map(other)).collect();
        if let Err(error) = fs::write(file, format!("{:#}\n", Value::from(figures))) {
            eprintln!("{} was not written: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    let missed = |row: &&Row<'_>| {
        let exact = row.case.limits.iter().filter(|limit| limit.is_exact());
        exact
            .map(|limit| compared.is_kept(row, limit))
            .any(|kept| kept == Some(false))
    };
    let missing = rows.iter().filter(missed).count();
    if options.gate && missing > 0 {
        eprintln!("{missing} rows miss a target in instructions or allocations");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn figures(row: &Row<'_>, compared: &Compared<'_, '_>) -> Value {
    let limits =
        row.case.limits.iter().map(
            |limit| json!({ "target": limit.to_string(), "met": compared.is_kept(row, limit) }),
        );
    json!({
        "part": row.case.part,
        "case": row.case.name,
        "nanos": row.nanos(),
        "runs": row.runs,
        "over": compared.nanos_over(row),
        "ratio": compared.ratio(row),
        "instructions": row.instructions,
        "bytes_over": compared.bytes_over(row),
        "allocations_over": compared.allocations_over(row),
        "targets": limits.collect::<Vec<Value>>(),
    })
}

fn other(figure: &Figure) -> Value {
    json!({
        "case": figure.name,
        "unit": figure.unit,
        "value": figure.value,
        "target": figure.target,
        "met": figure.value <= figure.target,
    })
}

/// Rows beside those that they are compared with.
struct Compared<'a, 'b> {
    rows: &'a [Row<'b>],
}

impl<'b> Compared<'_, 'b> {
    fn row(&self, name: &str) -> Option<&Row<'b>> {
        self.rows.iter().find(|row| row.case.name == name)
    }

    fn beside(&self, row: &Row<'_>) -> Option<&Row<'b>> {
        self.row(row.case.over.as_ref()?)
    }

    fn nanos_over(&self, row: &Row<'_>) -> Option<f64> {
        Some(row.nanos() - self.beside(row)?.nanos())
    }

    fn ratio(&self, row: &Row<'_>) -> Option<f64> {
        Some(row.nanos() / self.beside(row)?.nanos())
    }

    fn allocations_over(&self, row: &Row<'_>) -> Option<f64> {
        let beside = self.beside(row).map_or(Some(0.0), |row| row.allocations);
        Some(row.allocations? - beside?)
    }

    fn bytes_over(&self, row: &Row<'_>) -> Option<f64> {
        let beside = self.beside(row).map_or(Some(0.0), |row| row.bytes);
        Some(row.bytes? - beside?)
    }

    /// How much slower this machine is than that of the targets.
    fn scale(&self) -> Option<f64> {
        Some(self.row(RAW)?.nanos() / REFERENCE_RAW)
    }

    /// `None` if it was not measured.
    fn is_kept(&self, row: &Row<'_>, limit: &Limit) -> Option<bool> {
        Some(match *limit {
            Limit::Over(nanos) => self.nanos_over(row)? <= nanos * self.scale()?,
            Limit::Nanos(nanos) => row.nanos() <= nanos * self.scale()?,
            Limit::Instructions(count) => row.instructions? <= count,
            Limit::InstructionsOver(count) => {
                row.instructions? - self.beside(row)?.instructions? <= count
            }
            Limit::Allocations(count) => self.allocations_over(row)? <= count,
        })
    }
}

impl Limit {
    /// Whether it is measured by a count that repeats exactly.
    fn is_exact(self) -> bool {
        !matches!(self, Self::Over(_) | Self::Nanos(_))
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Over(_) | Self::Nanos(_) => "ns",
            Self::Instructions(_) | Self::InstructionsOver(_) => "insns",
            Self::Allocations(_) => "allocs",
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Over(nanos) => write!(f, "+{nanos} ns"),
            Self::Nanos(nanos) => write!(f, "{nanos} ns"),
            Self::Instructions(count) => write!(f, "{count} insns"),
            Self::InstructionsOver(count) => write!(f, "+{count} insns"),
            Self::Allocations(count) => write!(f, "{count} allocs"),
        }
    }
}
