//! Calls in flight and ejections under every order of two threads.

use std::{sync::Arc, time::Duration};

use loom::{model, thread};

use super::{
    ejected::{Caller, Ejected},
    ejection::{Failed, Health},
    ejection_rule::Ejection,
    load::Load,
    tally::Counted,
};

const AT: Duration = Duration::from_secs(1);

#[test]
fn the_last_place_is_taken_once_and_nobody_finds_it_full_that_is_not() {
    model(|| {
        let load = Arc::new(Load::default());
        assert!(load.enter(2));
        let other = Arc::clone(&load);
        let other = thread::spawn(move || other.enter(2));
        let this = load.enter(2);
        assert!(this ^ other.join().expect("no panic"));
        assert_eq!(load.in_flight(), 2);
    });
}

#[test]
fn a_place_that_is_free_is_found_while_another_call_is_turned_away() {
    model(|| {
        let load = Arc::new(Load::default());
        assert!(load.enter(1));
        let other = Arc::clone(&load);
        let turned_away = thread::spawn(move || !other.enter(1));
        load.leave();
        let found = load.enter(1);
        assert_eq!(turned_away.join().expect("no panic"), found);
        assert_eq!(load.in_flight(), 1);
    });
}

#[test]
fn places_that_are_left_add_up_to_none() {
    model(|| {
        let load = Arc::new(Load::default());
        let call = |load: &Load| load.enter(4).then(|| load.leave());
        let other = Arc::clone(&load);
        let other = thread::spawn(move || call(&other));
        call(&load);
        other.join().expect("no panic");
        assert_eq!(load.in_flight(), 0);
    });
}

/// A set of two of which one may be out; a single failure ejects.
#[derive(Clone, Default)]
struct Pair {
    ejected: Arc<Ejected>,
    healths: Arc<[Health; 2]>,
}

impl Pair {
    fn fail(&self, endpoint: usize) {
        let failed = Failed {
            size: 2,
            age: AT,
            unit: 0.5,
        };
        let health = &self.healths[endpoint];
        let permit = health.permit();
        health.failure(permit, &self.ejected, &rule(), failed, Counted::default);
    }

    fn out(&self) -> usize {
        self.healths.iter().filter(|health| health.is_out()).count()
    }
}

fn rule() -> Ejection {
    Ejection::consecutive(1)
}

#[test]
fn no_more_are_ejected_than_may_be() {
    model(|| {
        let pair = Pair::default();
        let other = pair.clone();
        let other = thread::spawn(move || other.fail(0));
        pair.fail(1);
        other.join().expect("no panic");
        assert_eq!((pair.out(), pair.ejected.count()), (1, 1));
    });
}

#[test]
fn the_count_of_ejected_ones_follows_one_that_leaves_the_set_while_it_fails() {
    model(|| {
        let pair = Pair::default();
        let other = pair.clone();
        let other = thread::spawn(move || other.fail(0));
        pair.healths[0].retire(&pair.ejected);
        other.join().expect("no panic");
        assert_eq!((pair.out(), pair.ejected.count()), (0, 0));
    });
}

#[test]
fn one_call_carries_the_probe() {
    model(|| {
        let pair = Pair::default();
        pair.fail(0);
        let probe = |pair: &Pair| {
            let late = Duration::from_secs(60);
            pair.healths[0].claim_probe(&rule(), Caller::MayRetry, None, late)
        };
        let other = pair.clone();
        let other = thread::spawn(move || probe(&other).is_some());
        let this = probe(&pair).is_some();
        assert!(this ^ other.join().expect("no panic"));
    });
}

#[test]
fn a_success_that_races_with_clearing_gives_its_place_back_once() {
    model(|| {
        let pair = Pair::default();
        pair.fail(0);
        let late = Duration::from_secs(60);
        let probe = pair.healths[0].claim_probe(&rule(), Caller::MayRetry, None, late);
        let other = pair.clone();
        let other = thread::spawn(move || {
            let permit = probe.expect("it is due");
            other.healths[0].success(permit, &other.ejected, late);
        });
        pair.healths[0].clear(&pair.ejected);
        other.join().expect("no panic");
        assert_eq!((pair.out(), pair.ejected.count()), (0, 0));
    });
}
