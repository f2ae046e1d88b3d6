//! The cases in turn, round by round, so that other load of the machine meets them alike.

use std::{sync::Arc, time::Instant};

use tokio::runtime::Runtime;

use super::{
    allocations,
    cases::{Call, Case},
    cpu,
    options::Options,
};

/// Calls of one case in one round: some 10 ms.
const CALLS: usize = 512;

/// One case with so many tasks.
pub(super) struct Row<'a> {
    pub(super) case: &'a Case,
    pub(super) tasks: usize,
    /// Of each round.
    pub(super) rounds: Vec<Used>,
    /// The client's time compared with that of the row it is compared with, of each round.
    pub(super) ratios: Vec<f64>,
}

/// What a call took.
#[derive(Clone, Copy)]
pub(super) struct Used {
    /// Microseconds of the client's thread.
    pub(super) cpu: f64,
    /// Microseconds on the wall, all tasks together.
    pub(super) wall: f64,
    pub(super) allocations: f64,
}

pub(super) fn all<'a>(client: &Runtime, cases: &'a [Case], options: &Options) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = options
        .tasks
        .iter()
        .flat_map(|&tasks| cases.iter().map(move |case| (case, tasks)))
        .filter(|(case, _)| is_needed(case, cases, options))
        .map(|(case, tasks)| Row {
            case,
            tasks,
            rounds: Vec::new(),
            ratios: Vec::new(),
        })
        .collect();
    // Opens the connections and warms up.
    for row in &rows {
        round(client, row);
    }
    for _ in 0..options.rounds {
        for index in 0..rows.len() {
            let used = round(client, &rows[index]);
            rows[index].rounds.push(used);
            if let Some(beside) = beside(&rows, index) {
                rows[index].ratios.push(used.cpu / beside.cpu);
            }
        }
    }
    rows
}

fn is_needed(case: &Case, cases: &[Case], options: &Options) -> bool {
    let asked = |case: &Case| {
        let filter = options.filter.as_ref();
        filter.is_none_or(|filter| format!("{}: {}", case.part, case.name).contains(filter))
    };
    let compared = |other: &Case| {
        !options.alone && asked(other) && (other.part, other.over) == (case.part, Some(case.name))
    };
    asked(case) || cases.iter().any(compared)
}

/// What the row it is compared with took in this round.
fn beside(rows: &[Row<'_>], index: usize) -> Option<Used> {
    let row = &rows[index];
    let name = row.case.over?;
    let beside = rows
        .iter()
        .find(|other| other.case.name == name && other.tasks == row.tasks)?;
    beside.rounds.last().copied()
}

fn round(client: &Runtime, row: &Row<'_>) -> Used {
    let call = &row.case.call;
    client.block_on(async {
        let (start, cpu, allocations) = (Instant::now(), cpu::used(), allocations::count());
        make_calls(call, row.tasks).await;
        let per_call = |total: f64| total / CALLS as f64;
        let micros = |seconds: f64| per_call(seconds * 1e6);
        Used {
            cpu: micros((cpu::used() - cpu).as_secs_f64()),
            wall: micros(start.elapsed().as_secs_f64()),
            allocations: per_call((allocations::count() - allocations) as f64),
        }
    })
}

async fn make_calls(call: &Arc<Call>, tasks: usize) {
    let some = |call: Arc<Call>| async move {
        for _ in 0..CALLS.div_ceil(tasks) {
            call().await;
        }
    };
    let tasks: Vec<_> = (0..tasks)
        .map(|_| tokio::spawn(some(Arc::clone(call))))
        .collect();
    for task in tasks {
        task.await.expect("every call is answered");
    }
}
