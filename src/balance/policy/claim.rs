//! Choosing an endpoint for one attempt and taking a place on it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;

use super::{
    draws::Draws,
    ejected::Caller,
    ejection::Permit,
    load::{self, Slot},
    pick::{self, Field, Seen, Tried},
    set::{Seat, Set, Shared},
    slow_start,
    weights::Weights,
};
use crate::{
    call::{Call, Confinement},
    stats::ewma::Tick,
};

/// How many endpoints a call remembers as tried.
const REMEMBERED: usize = 8;

/// More untried endpoints than this need not be counted: that there are some is what matters.
const COUNTED_UNTRIED: usize = 16;

/// The endpoints that a call has tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TriedSet {
    serials: [u64; REMEMBERED],
    len: usize,
}

impl FromIterator<u64> for TriedSet {
    fn from_iter<I: IntoIterator<Item = u64>>(serials: I) -> Self {
        let mut set = Self::NONE;
        for serial in serials.into_iter().take(REMEMBERED) {
            set.serials[set.len] = serial;
            set.len += 1;
        }
        set
    }
}

impl TriedSet {
    pub(crate) const NONE: Self = Self {
        serials: [0; REMEMBERED],
        len: 0,
    };

    pub(crate) fn contains(&self, serial: u64) -> bool {
        self.serials[..self.len].contains(&serial)
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Whether a failed attempt of this call is likely to be retried: it may carry a probe.
pub(crate) fn caller(method: &Method, call: &Call) -> Caller {
    let harmless = call.policy().idempotent_given();
    let harmless = harmless.unwrap_or_else(|| method.is_idempotent() || call.key().is_some());
    let more = call.attempt_number() <= 1 && call.policy().max_attempts_given() != Some(1);
    if call.is_retried() && harmless && more {
        Caller::MayRetry
    } else {
        Caller::Any
    }
}

/// What a pick has to know of the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) now: Instant,
    pub(crate) tried: &'a TriedSet,
    /// Where the call has to stay.
    pub(crate) within: Option<&'a Confinement>,
    /// Whether somebody retries the call if it fails.
    pub(crate) caller: Caller,
    /// How long the attempt may take.
    pub(crate) limit: Option<Duration>,
}

/// A place on an endpoint.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Where the endpoint stands in the set.
    pub(crate) index: usize,
    /// Of the balancer, when it was picked.
    pub(crate) age: Duration,
    pub(crate) seat: Seat,
    pub(crate) slot: Slot,
    pub(crate) permit: Permit,
}

/// Picks an endpoint by random bits and takes a place on it; `None` if all that it may go to are full.
pub(crate) fn claim(shared: &Shared, set: &Set, wish: &Wish<'_>, seed: u64) -> Option<Claim> {
    let field = Look::new(shared, set, wish);
    if let Some(probe) = probe(&field) {
        return Some(probe);
    }
    let mut draws = Draws::new(seed);
    loop {
        let index = pick::choose(&shared.rules.pick, &shared.turns, &field, &mut draws)?;
        let seat = set.seats.get(index)?;
        // Lost only to another call that took the last place: it is full now, so the next round looks elsewhere.
        if seat.stats.load.enter(shared.rules.max_in_flight) {
            shared.load.count_pick(draws.bits());
            return Some(field.take(index, seat, seat.stats.health.permit()));
        }
    }
}

/// How many endpoints are usable and untried; counted up to 16.
pub(crate) fn untried(shared: &Shared, set: &Set, wish: &Wish<'_>) -> usize {
    let look = Look::new(shared, set, wish);
    let free = |index: &usize| {
        let seen = look.place(*index).map(|seat| look.seen(seat));
        seen.is_some_and(|seen| seen.usable && seen.tried != Tried::Endpoint)
    };
    (0..set.len()).filter(free).take(COUNTED_UNTRIED).count()
}

/// The place on an ejected endpoint whose time is over, if there is one.
fn probe(field: &Look<'_>) -> Option<Claim> {
    let (shared, set, wish, age) = (field.shared, field.set, field.wish, field.age);
    if !shared.ejected.probe_may_be_due(wish.caller, age) {
        return None;
    }
    let rule = &shared.rules.ejection;
    let mut claimed = None;
    for (index, seat) in set.seats.iter().enumerate() {
        let health = &seat.stats.health;
        let open = !wish.tried.contains(seat.stats.serial) && field.admits(seat);
        if claimed.is_none() && open {
            let permit = health.claim_probe(rule, wish.caller, wish.limit, age);
            claimed = permit.and_then(|permit| enter(field, index, seat, permit));
        }
        shared.ejected.expect_probe(health, rule);
    }
    claimed
}

fn enter(field: &Look<'_>, index: usize, seat: &Seat, permit: Permit) -> Option<Claim> {
    let shared = field.shared;
    if seat.stats.load.enter(shared.rules.max_in_flight) {
        return Some(field.take(index, seat, permit));
    }
    let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
    seat.stats
        .health
        .abandoned(permit, ejected, rule, field.age);
    None
}

/// One call's look at the set.
struct Look<'a> {
    shared: &'a Shared,
    set: &'a Set,
    wish: &'a Wish<'a>,
    /// Of the balancer, at this moment.
    age: Duration,
    tick: Tick,
    /// The mean latency of the set.
    mean: Option<f32>,
    zones: [Option<&'a Arc<str>>; REMEMBERED],
    panic: bool,
}

impl<'a> Look<'a> {
    fn new(shared: &'a Shared, set: &'a Set, wish: &'a Wish<'a>) -> Self {
        let panic = shared.ejected.is_panic(set.len(), &shared.rules.ejection);
        let age = shared.age(wish.now);
        Self {
            shared,
            set,
            wish,
            age,
            tick: Tick::after(age),
            mean: shared.load.mean(),
            zones: zones(set, wish.tried),
            // Rather one of those that fail than one where the key is not known.
            panic: panic || wish.within.is_some_and(|place| all_are_out(set, place)),
        }
    }

    /// Whether the call may go there.
    fn admits(&self, seat: &Seat) -> bool {
        self.wish.within.is_none_or(|place| seat.lies_in(place))
    }

    fn take(&self, index: usize, seat: &Seat, permit: Permit) -> Claim {
        seat.stats.load.picked(self.tick, &self.shared.load);
        Claim {
            index,
            age: self.age,
            slot: seat.stats.load.started(self.tick),
            seat: seat.clone(),
            permit,
        }
    }

    #[inline(always)]
    fn tried(&self, seat: &Seat) -> Tried {
        match self.wish.tried.is_empty() {
            true => Tried::Nothing,
            false => self.tried_before(seat),
        }
    }

    #[cold]
    fn tried_before(&self, seat: &Seat) -> Tried {
        if self.wish.tried.contains(seat.stats.serial) {
            Tried::Endpoint
        } else if seat.endpoint.zone().is_some() && self.zones.contains(&seat.endpoint.zone()) {
            Tried::Zone
        } else {
            Tried::Nothing
        }
    }
}

/// Whether every endpoint there is ejected.
fn all_are_out(set: &Set, place: &Confinement) -> bool {
    let mut there = set.seats.iter().filter(|seat| seat.lies_in(place));
    there.all(|seat| seat.stats.health.is_out())
}

/// The zones of the tried endpoints, where the set has several.
fn zones<'a>(set: &'a Set, tried: &TriedSet) -> [Option<&'a Arc<str>>; REMEMBERED] {
    let mut zones = [None; REMEMBERED];
    if set.zoned && !tried.is_empty() {
        let seats = set.seats.iter();
        let found = seats.filter(|seat| tried.contains(seat.stats.serial));
        for (zone, seat) in zones.iter_mut().zip(found) {
            *zone = seat.endpoint.zone();
        }
    }
    zones
}

impl<'a> Field for Look<'a> {
    type Place = &'a Seat;

    fn len(&self) -> usize {
        self.set.len()
    }

    fn weights(&self) -> &Weights {
        &self.set.weights
    }

    fn place(&self, index: usize) -> Option<&'a Seat> {
        self.set.seats.get(index)
    }

    #[inline(always)]
    fn seen(&self, seat: &'a Seat) -> Seen {
        let (stats, rules) = (&seat.stats, &self.shared.rules);
        Seen {
            usable: (self.panic || !stats.health.is_out())
                && stats.load.in_flight() < rules.max_in_flight
                && self.admits(seat),
            tried: self.tried(seat),
            kept: slow_start::kept(&rules.slow_start, stats.joined, self.wish.now),
        }
    }

    fn in_flight(&self, seat: &'a Seat) -> u32 {
        seat.stats.load.in_flight()
    }

    fn cost(&self, seat: &'a Seat) -> f32 {
        seat.stats
            .load
            .cost(self.tick, self.mean, self.shared.forget)
    }

    fn penalty(&self, seat: &'a Seat) -> f32 {
        seat.stats.load.penalty(self.tick, self.shared.forget)
    }

    fn claim_revisit(&self, seat: &'a Seat, cost: f32) -> bool {
        // Not with a call that failed already.
        load::is_dear(cost, self.mean)
            && self.wish.tried.is_empty()
            && seat.stats.load.claim_revisit(self.tick, &self.shared.load)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            chunks::Chunks,
            ejection_rule::Ejection,
            set::{Rules, Stats},
            ticket::{Terms, Ticket},
        },
        *,
    };
    use crate::{
        balance::config::{Pick, SlowStart},
        call::{Deadline, KeyScope},
        classify::Class,
        discover::Endpoint,
    };

    const PICKS: [Pick; 7] = [
        Pick::least_cost(),
        Pick::p2c_peak_ewma(),
        Pick::p2c_in_flight(),
        Pick::choices(3),
        Pick::least_in_flight(),
        Pick::round_robin(),
        Pick::random(),
    ];

    /// Endpoints in these regions, in this order.
    struct Bench {
        shared: Arc<Shared>,
        set: Arc<Set>,
        start: Instant,
        draws: u64,
    }

    impl Bench {
        fn new(pick: Pick, regions: &[&str]) -> Self {
            let start = Instant::now();
            let rules = Rules {
                pick,
                ejection: Ejection::consecutive(1),
                slow_start: SlowStart::default(),
                max_in_flight: 3,
            };
            let mut seats = Chunks::default();
            for (index, region) in regions.iter().enumerate() {
                let address = ([10, 0, 0, 1], index as u16 + 1).into();
                let endpoint = Endpoint::new(address).with_region(*region);
                let seat = Seat {
                    stats: Arc::new(Stats::new(index as u64 + 1, None)),
                    endpoint: Arc::new(endpoint),
                };
                seats.put(index, seat);
            }
            let (shared, set) = (Shared::new(rules, start, 0), Arc::new(Set::of(seats)));
            shared.set.store(Arc::clone(&set));
            let shared = Arc::new(shared);
            Self {
                shared,
                set,
                start,
                draws: 0,
            }
        }

        fn wish<'a>(&self, within: Option<&'a Confinement>) -> Wish<'a> {
            Wish {
                within,
                now: self.start,
                tried: &TriedSet::NONE,
                caller: Caller::Any,
                limit: None,
            }
        }

        fn claim(&mut self, within: Option<&Confinement>) -> Option<Claim> {
            self.draws += 1;
            let wish = self.wish(within);
            claim(&self.shared, &self.set, &wish, self.draws)
        }

        fn ticket(&self, claim: Claim) -> Ticket<(Arc<Shared>, Terms)> {
            let terms = Terms {
                deadline: Deadline::NEVER,
                slow: None,
            };
            Ticket::new((Arc::clone(&self.shared), terms), claim)
        }

        fn untried(&self, within: Option<&Confinement>, tried: &[u64]) -> usize {
            let tried = &tried.iter().copied().collect();
            let wish = Wish {
                tried,
                ..self.wish(within)
            };
            untried(&self.shared, &self.set, &wish)
        }
    }

    fn region(name: &str) -> Confinement {
        let around = KeyScope::Region.around(None, Some(&Arc::from(name)));
        around.expect("not everywhere")
    }

    #[test]
    fn a_confined_call_is_picked_for_within_its_region_until_that_is_full() {
        for pick in PICKS {
            let mut bench = Bench::new(pick, &["us", "eu", "us", "eu", "us"]);
            let eu = region("eu");
            let claims: Vec<_> = std::iter::from_fn(|| bench.claim(Some(&eu))).collect();
            assert_eq!(claims.len(), 6, "3 on each of 2: {pick:?}");
            assert!(claims.iter().all(|claim| claim.index % 2 == 1), "{pick:?}");
            assert!(bench.claim(None).is_some_and(|claim| claim.index % 2 == 0));
        }
    }

    #[test]
    fn nobody_is_picked_where_nobody_is() {
        for pick in PICKS {
            let mut bench = Bench::new(pick, &["us", "us"]);
            assert!(bench.claim(Some(&region("eu"))).is_none());
            assert!(!bench.set.reaches(&region("eu")) && bench.set.reaches(&region("us")));
        }
    }

    #[test]
    fn ejected_endpoints_are_used_rather_than_leaving_the_region() {
        for pick in PICKS {
            let mut bench = Bench::new(pick, &["us", "us", "us", "eu"]);
            let eu = region("eu");
            let first = bench.claim(Some(&eu)).expect("eu is free");
            let mut ticket = bench.ticket(first);
            ticket.head(Class::Failure, bench.start);
            assert!(ticket.seat().stats.health.is_out());
            drop(ticket);
            let out = |claim: &Claim| claim.index == 3;
            assert!(bench.claim(Some(&eu)).as_ref().is_some_and(out), "{pick:?}");
            assert!(!bench.claim(None).as_ref().is_some_and(out), "{pick:?}");
        }
    }

    #[test]
    fn a_probe_is_not_made_by_a_call_that_may_not_go_there() {
        let mut bench = Bench::new(Pick::default(), &["us", "us", "us", "eu"]);
        let first = bench.claim(Some(&region("eu"))).expect("eu is free");
        bench.ticket(first).head(Class::Failure, bench.start);
        bench.start += Duration::from_secs(60);
        let confined = bench.claim(Some(&region("us"))).expect("us is free");
        assert_ne!(confined.index, 3);
        let anywhere = bench.claim(None).expect("the probe");
        assert_eq!(anywhere.index, 3, "it was due");
    }

    #[test]
    fn untried_endpoints_elsewhere_are_none_for_a_confined_call() {
        let bench = Bench::new(Pick::default(), &["us", "eu", "us", "eu", "us"]);
        let eu = region("eu");
        assert_eq!(bench.untried(None, &[2]), 4);
        assert_eq!(bench.untried(Some(&eu), &[2]), 1);
        assert_eq!(bench.untried(Some(&eu), &[2, 4]), 0);
    }
}
