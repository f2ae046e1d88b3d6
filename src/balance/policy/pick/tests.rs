use std::cell::Cell;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;

/// A set whose every fact is written down.
struct Plain {
    weights: Weights,
    loads: Vec<u32>,
    costs: Vec<f32>,
    penalties: Vec<f32>,
    seen: Vec<Seen>,
    revisit: Cell<Option<usize>>,
}

const FREE: Seen = Seen {
    usable: true,
    tried: Tried::Nothing,
    kept: 1.0,
};

impl Plain {
    fn of(n: usize) -> Self {
        Self {
            weights: Weights::Equal,
            loads: vec![0; n],
            costs: vec![1.0; n],
            penalties: vec![1.0; n],
            seen: vec![FREE; n],
            revisit: Cell::new(None),
        }
    }

    fn weighted(weights: &[u32]) -> Self {
        Self {
            weights: Weights::of(weights.iter().copied()),
            ..Self::of(weights.len())
        }
    }
}

impl Field for Plain {
    type Place = usize;

    fn len(&self) -> usize {
        self.loads.len()
    }
    fn weights(&self) -> &Weights {
        &self.weights
    }
    fn place(&self, index: usize) -> Option<usize> {
        Some(index)
    }
    fn seen(&self, place: usize) -> Seen {
        self.seen[place]
    }
    fn in_flight(&self, place: usize) -> u32 {
        self.loads[place]
    }
    fn cost(&self, place: usize) -> f32 {
        self.costs[place]
    }
    fn penalty(&self, place: usize) -> f32 {
        self.penalties[place]
    }
    fn claim_revisit(&self, place: usize, _cost: f32) -> bool {
        self.revisit.get() == Some(place)
    }
}

const ALL: [Pick; 7] = [
    Pick::least_cost(),
    Pick::p2c_peak_ewma(),
    Pick::p2c_in_flight(),
    Pick::choices(3),
    Pick::least_in_flight(),
    Pick::round_robin(),
    Pick::random(),
];

const BY_LOAD: [Pick; 5] = [
    Pick::least_cost(),
    Pick::p2c_peak_ewma(),
    Pick::p2c_in_flight(),
    Pick::choices(3),
    Pick::least_in_flight(),
];

fn shares(pick: &Pick, field: &Plain, picks: usize) -> Vec<f64> {
    let (mut draws, turns) = (Draws::new(7), AtomicU64::new(3));
    let mut count = vec![0usize; field.len()];
    for _ in 0..picks {
        count[choose(pick, &turns, field, &mut draws).expect("somebody is usable")] += 1;
    }
    count
        .into_iter()
        .map(|count| count as f64 / picks as f64)
        .collect()
}

fn near(shares: &[f64], wanted: &[f64]) -> bool {
    shares
        .iter()
        .zip(wanted)
        .all(|(share, wanted)| (share - wanted).abs() < 0.02)
}

// LB-10, dotnet/yarp#2065
#[test]
fn one_two_and_three_endpoints_end_every_pick_and_share_alike() {
    for pick in ALL {
        for n in 1..=3 {
            let shares = shares(&pick, &Plain::of(n), 10_000);
            assert!(
                near(&shares, &vec![1.0 / n as f64; n]),
                "{pick:?} {n}: {shares:?}"
            );
        }
    }
}

// LB-10, PostHog/posthog#64326
#[test]
fn of_two_the_lighter_is_always_taken() {
    let field = Plain {
        loads: vec![10, 1],
        ..Plain::of(2)
    };
    for pick in BY_LOAD {
        assert_eq!(shares(&pick, &field, 1000), [0.0, 1.0], "{pick:?}");
    }
}

#[test]
fn candidates_are_distinct() {
    for n in 1..12 {
        for d in 1..=n {
            let (field, mut draws) = (Plain::of(n), Draws::new(1));
            for _ in 0..200 {
                let mut sample = Sample::<_, MOST>::of(&field, Tier::Kept, None);
                assert_eq!(sample.fill(d, &mut draws), None);
                let indices = sample.candidates().iter().map(|one| one.index);
                let mut sorted: Vec<_> = indices.collect();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), d);
            }
        }
    }
}

#[test]
fn calm_shares_follow_the_weights() {
    for pick in ALL {
        let shares = shares(&pick, &Plain::weighted(&[1, 2, 5]), 40_000);
        assert!(near(&shares, &[0.125, 0.25, 0.625]), "{pick:?}: {shares:?}");
    }
}

#[test]
fn calls_in_flight_count_by_weight() {
    let field = Plain {
        loads: vec![2, 3],
        ..Plain::weighted(&[1, 3])
    };
    for pick in BY_LOAD {
        assert_eq!(shares(&pick, &field, 100), [0.0, 1.0], "{pick:?}");
    }
}

#[test]
fn a_failing_endpoint_looks_loaded_to_every_pick_by_load() {
    let field = Plain {
        penalties: vec![3.0, 1.0],
        loads: vec![0, 1],
        ..Plain::of(2)
    };
    for pick in BY_LOAD {
        assert_eq!(shares(&pick, &field, 100), [0.0, 1.0], "{pick:?}");
    }
}

#[test]
fn costs_within_the_tolerance_are_equal_and_beyond_it_are_not() {
    let field = Plain {
        costs: vec![1.0, 1.4, 1.6],
        ..Plain::of(3)
    };
    assert!(near(
        &shares(&Pick::least_cost(), &field, 10_000),
        &[0.5, 0.5, 0.0]
    ));
    assert_eq!(
        shares(&Pick::least_cost().tolerance(1.0), &field, 100),
        [1.0, 0.0, 0.0]
    );
}

#[test]
fn a_slow_endpoint_is_taken_when_the_others_are_crowded() {
    let field = Plain {
        costs: vec![1.0, 4.0],
        loads: vec![4, 0],
        ..Plain::of(2)
    };
    assert_eq!(shares(&Pick::least_cost(), &field, 100), [0.0, 1.0]);
}

// LB-09, envoyproxy/envoy#2259
#[test]
fn tried_endpoints_then_tried_zones_are_avoided_while_there_are_others() {
    let tried = Seen {
        tried: Tried::Endpoint,
        ..FREE
    };
    let zone = Seen {
        tried: Tried::Zone,
        ..FREE
    };
    for pick in ALL {
        let picked = |seen: [Seen; 3]| {
            shares(
                &pick,
                &Plain {
                    seen: seen.to_vec(),
                    ..Plain::of(3)
                },
                200,
            )
        };
        assert_eq!(picked([tried, zone, FREE]), [0.0, 0.0, 1.0], "{pick:?}");
        assert_eq!(picked([tried, zone, tried]), [0.0, 1.0, 0.0], "{pick:?}");
        assert!(
            picked([tried, tried, tried])
                .iter()
                .all(|share| *share > 0.1),
            "{pick:?}"
        );
    }
}

#[test]
fn slow_start_keeps_a_tenth_and_everybody_when_nobody_is_kept() {
    let young = Seen { kept: 0.1, ..FREE };
    let picked = |pick: &Pick, seen: Vec<Seen>| {
        shares(
            pick,
            &Plain {
                seen,
                ..Plain::of(2)
            },
            10_000,
        )
    };
    for pick in ALL {
        let share = picked(&pick, vec![FREE, young])[1];
        assert!((0.02..0.12).contains(&share), "{pick:?}: {share}");
        let share = picked(&pick, vec![young, young])[1];
        assert!((0.45..0.55).contains(&share), "{pick:?}: {share}");
    }
}

#[test]
fn barred_neighbours_do_not_double_a_share() {
    let mut field = Plain::of(10);
    field.seen[3].usable = false;
    for pick in ALL {
        let shares = shares(&pick, &field, 20_000);
        assert_eq!(shares[3], 0.0);
        assert!(
            shares
                .iter()
                .enumerate()
                .all(|(i, share)| i == 3 || (share - 1.0 / 9.0).abs() < 0.02),
            "{shares:?}"
        );
    }
}

#[test]
fn an_endpoint_that_claims_a_visit_gets_it() {
    let field = Plain {
        costs: vec![9.0, 1.0],
        revisit: Cell::new(Some(0)),
        ..Plain::of(2)
    };
    assert_eq!(shares(&Pick::least_cost(), &field, 10), [1.0, 0.0]);
}

#[test]
fn nobody_usable_is_nobody_picked() {
    let (turns, mut draws) = (AtomicU64::new(0), Draws::new(5));
    for pick in ALL {
        let barred = Plain {
            seen: vec![
                Seen {
                    usable: false,
                    ..FREE
                };
                3
            ],
            ..Plain::of(3)
        };
        assert_eq!(choose(&pick, &turns, &barred, &mut draws), None);
        assert_eq!(choose(&pick, &turns, &Plain::of(0), &mut draws), None);
    }
}

#[test]
fn costs_without_end_still_yield_an_endpoint() {
    let field = Plain {
        costs: vec![f32::INFINITY; 2],
        ..Plain::of(2)
    };
    let turns = AtomicU64::new(0);
    assert!(choose(&Pick::least_cost(), &turns, &field, &mut Draws::new(5)).is_some());
}

proptest! {
    /// Whatever bars endpoints, whatever the draws are: a usable one is found, and no barred one is.
    #[test]
    fn a_usable_endpoint_is_always_found(
        usable in prop::collection::vec(proptest::bool::ANY, 1..200), seed: u64, which in 0usize..7,
    ) {
        let seen = usable.iter().map(|usable| Seen { usable: *usable, ..FREE }).collect();
        let field = Plain { seen, ..Plain::of(usable.len()) };
        let turns = AtomicU64::new(seed);
        let picked = choose(&ALL[which], &turns, &field, &mut Draws::new(seed));
        prop_assert_eq!(picked.is_some(), usable.contains(&true));
        prop_assert!(picked.is_none_or(|picked| usable[picked]));
    }
}
