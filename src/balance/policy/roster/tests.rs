use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use std::{collections::HashMap, net::SocketAddr};

use super::*;
use crate::balance::{
    config::{Pick, SlowStart},
    policy::{ejection_rule::Ejection, set::Rules},
};

fn shared(now: Instant) -> Shared {
    let rules = Rules {
        pick: Pick::default(),
        ejection: Ejection::consecutive(1),
        slow_start: SlowStart::default(),
        max_in_flight: 9,
    };
    Shared::new(rules, now, 0)
}

fn endpoint((port, weight): (u16, u32)) -> Endpoint {
    Endpoint::new(SocketAddr::from(([10, 0, 0, 1], port))).with_weight(weight)
}

/// Makes "services" that are the port and a number of their own, and fails for ports from 90 on.
fn answer(
    roster: &mut Roster<(u16, u64)>,
    shared: &Shared,
    now: Instant,
    set: &[(u16, u32)],
) -> Option<Snapshot<(u16, u64)>> {
    let set: Vec<_> = set.iter().copied().map(endpoint).collect();
    let (set, new) = roster.look_at(set).expect("each can be reached");
    let made = new.into_iter().map(|endpoint| {
        let port = endpoint.address().port();
        let service = match port {
            90.. => Err(Cause::new("no")),
            _ => Ok((port, roster.last_serial)),
        };
        (endpoint, service)
    });
    let made = made.collect();
    roster.update(&set, made, shared, now)
}

fn ports(snapshot: &Snapshot<(u16, u64)>) -> Vec<u16> {
    let seats = snapshot.set.seats.iter().zip(snapshot.services.iter());
    let mut ports: Vec<_> = seats
        .map(|(seat, service)| {
            assert_eq!(seat.endpoint.address().port(), service.0);
            service.0
        })
        .collect();
    ports.sort_unstable();
    ports
}

#[test]
fn an_endpoint_that_stays_keeps_its_service_and_its_statistics() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let first = answer(&mut roster, &shared, now, &[(1, 1), (2, 1)]).expect("a first set");
    let second = answer(&mut roster, &shared, now, &[(2, 5), (3, 1)]).expect("another set");
    let stats = |snapshot: &Snapshot<(u16, u64)>| {
        let mut seats = snapshot.set.seats.iter();
        let seat = seats.find(|seat| seat.endpoint.address().port() == 2);
        Arc::clone(&seat.expect("it stayed").stats)
    };
    assert!(Arc::ptr_eq(&stats(&first), &stats(&second)));
    assert_eq!(ports(&second), [2, 3]);
    assert_eq!(roster.take_gone(), [(1, 0)]);
}

#[test]
fn the_same_answer_again_is_no_change() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let set = [(1, 0), (2, 3), (95, 1)];
    assert!(answer(&mut roster, &shared, now, &set).is_some());
    for _ in 0..10 {
        assert!(answer(&mut roster, &shared, now, &set).is_none());
    }
}

#[test]
fn the_weights_and_zones_of_a_set_are_known_whatever_changed() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let mut equal = |set: &[(u16, u32)]| {
        let snapshot = answer(&mut roster, &shared, now, set);
        snapshot.expect("another set").set.is_of_equals()
    };
    assert!(equal(&[(1, 2), (2, 2), (3, 2)]));
    assert!(equal(&[(1, 2), (4, 2), (3, 2)]));
    assert!(!equal(&[(1, 2), (4, 5), (3, 2)]));
    assert!(!equal(&[(1, 3), (4, 5), (3, 2)]));
    assert!(equal(&[(1, 5), (4, 5)]));
    assert!(equal(&[(5, 7)]));
    assert!(!equal(&[(5, 7), (6, 8)]));
}

#[test]
fn only_those_that_join_somebody_start_slowly() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let joined = |snapshot: Snapshot<_>| {
        let seats = snapshot.set.seats.iter();
        seats.filter(|seat| seat.stats.joined.is_some()).count()
    };
    let first = answer(&mut roster, &shared, now, &[(1, 1), (2, 1)]);
    assert_eq!(first.map(joined), Some(0));
    let second = answer(&mut roster, &shared, now, &[(1, 1), (2, 1), (3, 1)]);
    assert_eq!(second.map(joined), Some(1));
    let replaced = answer(&mut roster, &shared, now, &[(4, 1), (5, 1)]);
    assert_eq!(replaced.map(joined), Some(0), "there is nobody to be warm");
}

#[test]
fn an_ejected_endpoint_that_leaves_or_loses_its_weight_takes_up_no_place() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let snapshot = answer(&mut roster, &shared, now, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    for seat in snapshot.expect("a set").set.seats.iter().take(2) {
        let failed = super::super::ejection::Failed {
            size: 4,
            age: Duration::ZERO,
            unit: 0.0,
        };
        let health = &seat.stats.health;
        let others = super::super::tally::Counted::default;
        health.failure(
            health.permit(),
            &shared.ejected,
            &shared.rules.ejection,
            failed,
            others,
        );
    }
    assert_eq!(shared.ejected.count(), 2);
    answer(&mut roster, &shared, now, &[(1, 0), (3, 1), (4, 1)]);
    assert_eq!(shared.ejected.count(), 0);
}

#[test]
fn what_calls_still_say_of_an_endpoint_that_lost_its_weight_does_not_eject_it() {
    let now = Instant::now();
    let (mut roster, shared) = (Roster::default(), shared(now));
    let snapshot = answer(&mut roster, &shared, now, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let set = snapshot.expect("a set").set;
    let mut seats = set.seats.iter();
    let drained = seats.find(|seat| seat.endpoint.address().port() == 1);
    let health = &drained.expect("it is there").stats.health;
    let in_flight = health.permit();
    answer(&mut roster, &shared, now, &[(1, 0), (2, 1), (3, 1), (4, 1)]);
    let failed = super::super::ejection::Failed {
        size: 3,
        age: Duration::ZERO,
        unit: 0.0,
    };
    let others = super::super::tally::Counted::default;
    let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
    health.failure(in_flight, ejected, rule, failed, others);
    assert_eq!(shared.ejected.count(), 0, "nobody could probe it");
    // A call that picked from the set before.
    health.failure(health.permit(), ejected, rule, failed, others);
    answer(&mut roster, &shared, now, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(shared.ejected.count(), 0, "it starts again");
    assert!(!health.is_out());
}

proptest! {
    /// After any answers the seats are those with a weight (all, if none has one), each with its own service, and a
    /// serial number stands for one stay of one endpoint.
    #[test]
    fn the_set_is_what_the_last_answer_says(
        answers in prop::collection::vec(prop::collection::btree_map(1u16..100, 0u32..3, 0..90), 1..12),
        turns in prop::collection::vec(0usize..90, 12),
    ) {
        let now = Instant::now();
        let (mut roster, shared) = (Roster::default(), shared(now));
        let mut serials: HashMap<u64, u16> = HashMap::new();
        let mut last = None;
        for (set, turn) in answers.iter().zip(&turns) {
            let set: Vec<_> = set.iter().map(|(port, weight)| (*port, *weight)).collect();
            let mut given = set.clone();
            let by = (*turn).min(set.len());
            given.rotate_left(by);
            last = answer(&mut roster, &shared, now, &given).or(last);
            let Some(snapshot) = &last else { continue };
            let served = || set.iter().filter(|(port, _)| *port < 90);
            let weightless = served().all(|(_, weight)| *weight == 0);
            let expected: Vec<_> = served()
                .filter(|(_, weight)| weightless || *weight > 0)
                .map(|(port, _)| *port)
                .collect();
            prop_assert_eq!(ports(snapshot), expected);
            for seat in snapshot.set.seats.iter() {
                let port = seat.endpoint.address().port();
                prop_assert_eq!(*serials.entry(seat.stats.serial).or_insert(port), port);
            }
            prop_assert_eq!(roster.status(&shared, now).len(), set.len());
            prop_assert!(snapshot.set.len() > 0 || matches!(snapshot.answer, Answer::Given(Some(_))));
        }
    }
}

/// A service whose clone panics when its turn comes.
#[derive(Debug)]
struct Fragile(u16, Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_ne!(self.1.fetch_sub(1, Relaxed), 1, "a clone panics");
        Self(self.0, Arc::clone(&self.1))
    }
}

/// Wherever a clone panics while an answer is taken, the same answer again brings the set that it says.
#[test]
fn a_panic_of_a_clone_is_mended_by_the_next_answer() {
    for panics_at in 1..=30 {
        let now = Instant::now();
        let (mut roster, shared) = (Roster::default(), shared(now));
        let clones = Arc::new(AtomicUsize::new(usize::MAX / 2));
        let mut take = |set: &[u16]| {
            let set: Vec<_> = set.iter().map(|&port| endpoint((port, 1))).collect();
            let (set, new) = roster.look_at(set).expect("each can be reached");
            let made = new.into_iter();
            let service =
                |endpoint: &Endpoint| Fragile(endpoint.address().port(), Arc::clone(&clones));
            let made = made.map(|endpoint| (endpoint.clone(), Ok(service(&endpoint))));
            let made = made.collect();
            let taken = AssertUnwindSafe(|| roster.update(&set, made, &shared, now));
            catch_unwind(taken)
        };
        take(&[1, 2, 3, 4]).expect("no panic").expect("a first set");
        clones.store(panics_at, Relaxed);
        let torn = take(&[4, 5, 6]).is_err();
        clones.store(usize::MAX / 2, Relaxed);
        let mended = take(&[4, 5, 6]).expect("no panic");
        assert_eq!(mended.is_some(), torn, "after a panic of clone {panics_at}");
        let Some(mended) = mended else { continue };
        let seats = mended
            .set
            .seats
            .iter()
            .map(|seat| seat.endpoint.address().port());
        let mut seats: Vec<_> = seats.collect();
        let services: Vec<_> = mended.services.iter().map(|service| service.0).collect();
        assert_eq!(seats, services, "after a panic of clone {panics_at}");
        seats.sort_unstable();
        assert_eq!(seats, [4, 5, 6], "after a panic of clone {panics_at}");
    }
}
