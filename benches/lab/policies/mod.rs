//! What calls are made with.

mod cascade;
mod herd;
mod naive;
mod node;
mod ours;
mod payments;
mod tower;

use crate::{
    arrivals::Arrival,
    config::{Kind, Scenario},
    world::World,
};

/// Makes the calls of all clients of a run.
pub(crate) trait Policy {
    /// Starts a call as a task of its own, which says in the world how it ended.
    fn start(&mut self, arrival: Arrival);

    /// Called ten times a second.
    fn tick(&mut self) {}

    /// How much of their time endpoints were left out, of 1; looked at now and then.
    fn ejected(&self) -> Option<f64> {
        None
    }
}

/// A run's surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) scenario: Scenario,
    pub(crate) world: World,
    pub(crate) clients: u32,
    pub(crate) seed: u64,
}

/// # Panics
/// If the scenario names a policy that is not there.
pub(crate) fn make(name: &str, around: &Surroundings) -> Box<dyn Policy> {
    match around.scenario.kind {
        Kind::Fleet => fleet(name, around),
        Kind::Herd => Box::new(herd::Herd::new(name, around)),
        Kind::Cascade => Box::new(cascade::Cascade::new(name, around)),
        Kind::Payments => Box::new(payments::Payments::new(name, around)),
    }
}

fn fleet(name: &str, around: &Surroundings) -> Box<dyn Policy> {
    match name {
        "ours" => Box::new(ours::Ours::new(around, ours::Parts::All)),
        "ours-no-ejection" => Box::new(ours::Ours::new(around, ours::Parts::NoEjection)),
        "ours-bare" => Box::new(ours::Ours::new(around, ours::Parts::NoBreaker)),
        "naive" => Box::new(naive::Naive::new(around, 0)),
        "naive3" => Box::new(naive::Naive::new(around, 3)),
        "tower" => Box::new(tower::Tower::full(around)),
        "tower-p2c" => Box::new(tower::Tower::in_flight(around)),
        "tower-ewma" => Box::new(tower::Tower::peak_ewma(around)),
        other => panic!("there is no policy {other}"),
    }
}

/// Says how a call ended.
pub(crate) fn ended(world: &World, call: u32, good: bool) {
    let mut state = world.state();
    let now = state.now;
    let call = state.call(call);
    call.took = (now - call.at).max(1);
    call.good = good;
}
