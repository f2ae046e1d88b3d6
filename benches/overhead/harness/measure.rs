use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::{
    runtime::{Builder, EnterGuard, Runtime},
    task::yield_now,
    time::{Sleep, sleep},
};

use super::{
    allocations,
    callgrind::Counter,
    case::{Batch, Case, RAW},
    options::Options,
};

/// Short, so that most batches meet no other load of the machine.
const BATCH: Duration = Duration::from_millis(1);
const BATCHES: usize = 61;
/// Calls over which allocations are counted.
const COUNTED: u64 = 1000;

/// A runtime that waits for an earlier timer than any of the calls': as a busy client's does, so that
/// registering one wakes nobody.
pub(super) struct BusyRuntime {
    runtime: Runtime,
    _earlier: Pin<Box<Sleep>>,
}

impl BusyRuntime {
    #[expect(
        clippy::async_yields_async,
        reason = "the timer is kept armed, and nobody waits for it"
    )]
    pub(super) fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without sockets can be had");
        let earlier = runtime.block_on(async {
            let mut earlier = Box::pin(sleep(Duration::from_millis(100)));
            poll_fn(|cx| {
                let _ = earlier.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            // Lets the driver see it.
            yield_now().await;
            earlier
        });
        Self {
            runtime,
            _earlier: earlier,
        }
    }

    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }
}

/// The figures of one case.
pub(super) struct Row<'a> {
    pub(super) case: &'a Case,
    /// Median nanoseconds of an operation, for each run.
    pub(super) runs: Vec<f64>,
    pub(super) allocations: Option<f64>,
    /// Bytes of those allocations.
    pub(super) bytes: Option<f64>,
    pub(super) instructions: Option<f64>,
}

impl Row<'_> {
    pub(super) fn nanos(&self) -> f64 {
        median(&self.runs)
    }
}

/// Measures the cases that are asked for.
pub(super) fn all<'a>(cases: &'a [Case], options: &Options) -> Vec<Row<'a>> {
    let mut chosen: Vec<Chosen> = cases
        .iter()
        .filter(|case| is_needed(case, cases, options))
        .map(Chosen::new)
        .collect();
    for run in 1..=options.runs {
        eprintln!("run {run} of {}: {} cases", options.runs, chosen.len());
        one_run(&mut chosen);
    }
    let counter = Counter::new(options.callgrind);
    match counter {
        Counter::Missing(why) => eprintln!("instructions are not counted: {why}"),
        Counter::Valgrind => eprintln!("counting instructions under valgrind"),
    }
    chosen
        .into_iter()
        .map(|chosen| chosen.into_row(&counter))
        .collect()
}

/// Asked for, or what one that is asked for is compared with.
fn is_needed(case: &Case, cases: &[Case], options: &Options) -> bool {
    let asked = |case: &Case| {
        let filter = options.filter.as_ref();
        filter.is_none_or(|filter| case.name.contains(filter))
    };
    let compared = |other: &Case| asked(other) && other.over.as_ref() == Some(&case.name);
    case.name == RAW || asked(case) || cases.iter().any(compared)
}

struct Chosen<'a> {
    case: &'a Case,
    batch: Batch,
    /// Operations that fill a batch.
    count: u64,
    runs: Vec<f64>,
}

impl<'a> Chosen<'a> {
    fn new(case: &'a Case) -> Self {
        let mut batch = (case.make)();
        let count = calibrate(&mut batch);
        Self {
            case,
            batch,
            count,
            runs: Vec::new(),
        }
    }

    fn nanos(&mut self) -> f64 {
        (self.batch)(self.count).as_nanos() as f64 / self.count as f64
    }

    fn into_row(mut self, counter: &Counter) -> Row<'a> {
        let counted = !self.case.is_shared;
        let asked = counted.then(|| asked_for(&mut self.batch));
        Row {
            case: self.case,
            allocations: asked.map(|(count, _)| count),
            bytes: asked.map(|(_, bytes)| bytes),
            instructions: counted.then(|| counter.count(&self.case.name)).flatten(),
            runs: self.runs,
        }
    }
}

/// All cases in turn, batch by batch, so that other load of the machine meets them alike.
fn one_run(chosen: &mut [Chosen<'_>]) {
    let mut batches: Vec<Vec<f64>> = vec![Vec::with_capacity(BATCHES); chosen.len()];
    for _ in 0..BATCHES {
        for (case, batches) in chosen.iter_mut().zip(&mut batches) {
            batches.push(case.nanos());
        }
    }
    for (case, batches) in chosen.iter_mut().zip(&batches) {
        case.runs.push(median(batches));
    }
}

/// Finds how many operations fill a batch, and warms up.
fn calibrate(batch: &mut Batch) -> u64 {
    let mut count = 64;
    // The best of a few: another load of the machine must not pass for a slow operation.
    let mut best = |count| (0..8).map(|_| batch(count)).min().unwrap_or_default();
    while best(count) < BATCH / 4 {
        count *= 2;
    }
    let fitting = count as f64 * BATCH.as_secs_f64() / best(count).as_secs_f64();
    (fitting as u64).max(1)
}

/// Allocations of an operation, and their bytes.
fn asked_for(batch: &mut Batch) -> (f64, f64) {
    let before = (allocations::count(), allocations::bytes());
    batch(COUNTED);
    let after = (allocations::count(), allocations::bytes());
    let each = |total: u64| total as f64 / COUNTED as f64;
    (each(after.0 - before.0), each(after.1 - before.1))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
