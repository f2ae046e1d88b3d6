//! All runs that are asked for, on all cores.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    arrivals::Arrivals,
    config::{Kind, Scenario},
    driver,
    metrics::{Metric, Run, Scope},
    options::Options,
    policies::{self, Surroundings},
    world::World,
};

/// One run and what it came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) scenario: usize,
    pub(crate) policy: String,
    pub(crate) clients: u32,
    pub(crate) seed: u64,
    /// The calls themselves would fill the memory.
    figures: Vec<(Metric, Scope, Option<f64>)>,
}

impl Done {
    /// One of the figures that the scenario's goals, or its row, ask for.
    pub(crate) fn figure(&self, metric: Metric, scope: &Scope) -> Option<f64> {
        let asked = |known: &&(Metric, Scope, Option<f64>)| known.0 == metric && known.1 == *scope;
        self.figures.iter().find(asked)?.2
    }
}

/// Of the whole run, for its row.
pub(crate) const ROW: [Metric; 9] = [
    Metric::Success,
    Metric::Amplification,
    Metric::Extra,
    Metric::P50,
    Metric::P99,
    Metric::P999,
    Metric::Ttr,
    Metric::Wasted,
    Metric::MaxOverMean,
];

/// Figures for the row, and for the goals of all variants: another's goal may compare with this run.
fn figures(run: &Run, id: &str, scenarios: &[Scenario]) -> Vec<(Metric, Scope, Option<f64>)> {
    let same = scenarios.iter().filter(|scenario| scenario.id == id);
    let goals = same.flat_map(|scenario| &scenario.goal);
    let asked = goals.map(|goal| (goal.metric, goal.scope()));
    let row = ROW.map(|metric| (metric, Scope::whole()));
    let of = |(metric, scope): (Metric, Scope)| {
        let figure = run.figure(metric, &scope);
        (metric, scope, figure)
    };
    row.into_iter().chain(asked).map(of).collect()
}

struct Job {
    scenario: usize,
    policy: String,
    clients: u32,
    seed: u64,
}

/// In the order of scenarios, client counts, policies and seeds, however many cores there are.
pub(crate) fn all(scenarios: &[Scenario], options: &Options) -> Vec<Done> {
    let jobs = jobs(scenarios, options);
    let bar = ProgressBar::new(jobs.len() as u64).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} ({elapsed}, {eta} left)")
            .expect("a literal template"),
    );
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
            let scenario = &scenarios[job.scenario];
            bar.set_message(format!(
                "{} {} x{}",
                scenario.name(),
                job.policy,
                job.clients
            ));
            let run = run(scenario, &job.policy, job.clients, job.seed);
            done.lock().expect("no panic under the lock").push(Done {
                scenario: job.scenario,
                policy: job.policy.clone(),
                clients: job.clients,
                seed: job.seed,
                figures: figures(&run, &scenario.id, scenarios),
            });
            bar.inc(1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().expect("no panic under the lock");
    let place = |done: &Done| {
        jobs.iter().position(|job| {
            (job.scenario, &job.policy, job.clients, job.seed)
                == (done.scenario, &done.policy, done.clients, done.seed)
        })
    };
    done.sort_by_key(place);
    done
}

fn jobs(scenarios: &[Scenario], options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let asked = |count: &&u32| {
            options
                .clients
                .as_ref()
                .is_none_or(|list| list.contains(count))
        };
        let wanted = |name: &&String| {
            options
                .policies
                .as_ref()
                .is_none_or(|list| list.contains(name))
        };
        for clients in scenario.clients.iter().filter(asked) {
            for policy in scenario.policies.iter().filter(wanted) {
                jobs.extend(options.seeds.iter().map(|seed| Job {
                    scenario: index,
                    policy: policy.clone(),
                    clients: *clients,
                    seed: *seed,
                }));
            }
        }
    }
    jobs
}

pub(crate) fn run(scenario: &Scenario, policy: &str, clients: u32, seed: u64) -> Run {
    driver::on_paused_clock(async || {
        let world = World::new(scenario, seed);
        let around = Surroundings {
            scenario: scenario.clone(),
            world: world.clone(),
            clients,
            seed,
        };
        let mut policy = policies::make(policy, &around);
        let arrivals = match scenario.kind {
            Kind::Herd => Arrivals::at_once(clients, scenario.duration()),
            _ => Arrivals::new(seed, scenario.rps, clients, scenario.duration()),
        };
        let ejected = driver::drive(&world, policy.as_mut(), arrivals).await;
        Run::new(&mut world.state(), scenario, ejected)
    })
}
