//! The set that picks are made from, and what its endpoints share.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    chunks::Chunks,
    ejected::Ejected,
    ejection::Health,
    ejection_rule::Ejection,
    load::{Forget, Load, SetLoad},
    tally::Counted,
    weights::Weights,
};
use crate::{
    balance::config::{Pick, SlowStart},
    call::Confinement,
    discover::Endpoint,
    stats::ewma::Tick,
};

/// How many other endpoints are asked how often they fail.
const OTHERS_ASKED: usize = 64;

/// The rules of one balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) pick: Pick,
    pub(crate) ejection: Ejection,
    pub(crate) slow_start: SlowStart,
    pub(crate) max_in_flight: u32,
}

/// What all clones of a balancer, all its endpoints and all their calls share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) forget: Forget,
    pub(crate) load: SetLoad,
    pub(crate) ejected: Ejected,
    pub(crate) turns: AtomicU64,
    pub(crate) set: ArcSwap<Set>,
    base: Instant,
}

impl Shared {
    /// `base` is any instant from the start of the balancer, `first_turn` where round robin begins.
    pub(crate) fn new(rules: Rules, base: Instant, first_turn: u64) -> Self {
        Self {
            rules,
            forget: Forget::latency_over(rules.pick.decay_time()),
            load: SetLoad::default(),
            ejected: Ejected::default(),
            turns: AtomicU64::new(first_turn),
            set: ArcSwap::default(),
            base,
        }
    }

    /// Time since the start of the balancer.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.base)
    }

    pub(crate) fn tick(&self, now: Instant) -> Tick {
        Tick::after(self.age(now))
    }

    /// The instant this long after the start of the balancer; `None` if no clock reaches it.
    pub(crate) fn instant(&self, age: Duration) -> Option<Instant> {
        self.base.checked_add(age)
    }
}

/// What was seen of one endpoint as long as it has been in the set.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Never reused.
    pub(crate) serial: u64,
    /// When it joined a set that was warm already.
    pub(crate) joined: Option<Instant>,
    pub(crate) load: Load,
    pub(crate) health: Health,
}

impl Stats {
    pub(crate) fn new(serial: u64, joined: Option<Instant>) -> Self {
        Self {
            serial,
            joined,
            load: Load::default(),
            health: Health::default(),
        }
    }
}

/// An endpoint in its place in the set.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) stats: Arc<Stats>,
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Seat {
    pub(crate) fn lies_in(&self, place: &Confinement) -> bool {
        place.admits(self.endpoint.zone(), self.endpoint.region())
    }
}

/// An immutable set of endpoints that may be picked.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) seats: Chunks<Seat>,
    pub(crate) weights: Weights,
    /// Whether its endpoints lie in different zones.
    pub(crate) zoned: bool,
}

impl Default for Set {
    fn default() -> Self {
        Self {
            seats: Chunks::default(),
            weights: Weights::Equal,
            zoned: false,
        }
    }
}

impl Set {
    /// The set of these seats, which have the same weight and lie in the same zone.
    pub(crate) fn of_equals(seats: Chunks<Seat>) -> Self {
        Self {
            seats,
            ..Self::default()
        }
    }

    /// Whether its endpoints have the same weight and lie in the same zone.
    pub(crate) fn is_of_equals(&self) -> bool {
        self.weights == Weights::Equal && !self.zoned
    }

    /// The set of these seats.
    pub(crate) fn of(seats: Chunks<Seat>) -> Self {
        let weights = Weights::of(seats.iter().map(|seat| seat.endpoint.weight()));
        let zone = |index| {
            seats
                .get(index)
                .and_then(|seat: &Seat| seat.endpoint.zone())
        };
        let zoned = (1..seats.len()).any(|index| zone(index) != zone(0));
        Self {
            seats,
            weights,
            zoned,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether an endpoint lies there.
    pub(crate) fn reaches(&self, place: &Confinement) -> bool {
        self.seats.iter().any(|seat| seat.lies_in(place))
    }

    /// How often the calls of endpoints other than `serial` failed lately; a large set is sampled from `unit` of it on.
    pub(crate) fn others(&self, serial: u64, age: Duration, unit: f64) -> Counted {
        self.from(unit)
            .filter(|seat| seat.stats.serial != serial)
            .take(OTHERS_ASKED)
            .map(|seat| seat.stats.health.counted(age))
            .fold(Counted::default(), |sum, one| Counted {
                calls: sum.calls + one.calls,
                failures: sum.failures + one.failures,
                seconds: sum.seconds + one.seconds,
            })
    }

    /// The health of its endpoints; a large set is sampled from `unit` of it on.
    pub(crate) fn healths(&self, unit: f64) -> impl Iterator<Item = &Health> {
        let seats = self.from(unit).take(OTHERS_ASKED);
        seats.map(|seat| &seat.stats.health)
    }

    /// All once round, from `unit` of the set on.
    fn from(&self, unit: f64) -> impl Iterator<Item = &Seat> {
        let start = (unit * self.len() as f64) as usize;
        (start..self.len())
            .chain(0..start)
            .filter_map(|index| self.seats.get(index))
    }
}
