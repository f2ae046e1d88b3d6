use std::sync::Arc;

use super::{
    super::{
        chunks::Chunks,
        claim::{TriedSet, Wish, claim},
        ejected::Caller,
        ejection_rule::Ejection,
        set::{Rules, Set, Stats},
    },
    *,
};
use crate::{
    balance::config::{Pick, SlowStart},
    discover::Endpoint,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

impl Basis for (Arc<Shared>, Terms) {
    fn shared(&self) -> &Shared {
        &self.0
    }

    fn terms(&self) -> Terms {
        self.1
    }

    fn unit(&self) -> f64 {
        0.0
    }
}

struct Bench {
    shared: Arc<Shared>,
    start: Instant,
}

impl Bench {
    /// Two endpoints; successes so far took 100 ms.
    fn new() -> Self {
        let start = Instant::now();
        let rules = Rules {
            pick: Pick::default(),
            ejection: Ejection::consecutive(1),
            slow_start: SlowStart::default(),
            max_in_flight: 9,
        };
        let shared = Shared::new(rules, start, 0);
        let mut seats = Chunks::default();
        for index in 0..2u16 {
            let address = ([10, 0, 0, 1], index + 1).into();
            seats.put(
                index.into(),
                Seat {
                    stats: Arc::new(Stats::new(u64::from(index) + 1, None)),
                    endpoint: Arc::new(Endpoint::new(address)),
                },
            );
        }
        shared.set.store(Arc::new(Set::of(seats)));
        let bench = Self {
            shared: Arc::new(shared),
            start,
        };
        let mut warm = bench.ticket(Terms {
            deadline: Deadline::NEVER,
            slow: None,
        });
        warm.head(Class::Success, bench.at(100));
        warm.over(bench.at(100));
        bench
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + MS(ms)
    }

    fn ticket(&self, terms: Terms) -> Ticket<(Arc<Shared>, Terms)> {
        let wish = Wish {
            within: None,
            now: self.start,
            tried: &TriedSet::NONE,
            caller: Caller::Any,
            limit: None,
        };
        let claim = claim(&self.shared, &self.shared.set.load(), &wish, 0).expect("nobody is full");
        Ticket::new((Arc::clone(&self.shared), terms), claim)
    }

    fn by(&self, deadline: u64, slow: Option<u64>) -> Ticket<(Arc<Shared>, Terms)> {
        self.ticket(Terms {
            deadline: Deadline::at(self.at(deadline)),
            slow: slow.map(MS),
        })
    }
}

fn is_out(ticket: &Ticket<(Arc<Shared>, Terms)>) -> bool {
    ticket.seat().stats.health.is_out()
}

fn penalty(bench: &Bench, ticket: &Ticket<(Arc<Shared>, Terms)>) -> f32 {
    ticket
        .seat()
        .stats
        .load
        .penalty(bench.shared.tick(bench.start), bench.shared.forget)
}

#[test]
fn a_call_given_up_early_is_nobodys_fault() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, Some(1_500));
    ticket.over(bench.at(900));
    assert!(!is_out(&ticket));
    assert_eq!(
        (
            penalty(&bench, &ticket),
            ticket.seat().stats.load.in_flight()
        ),
        (1.0, 0)
    );
}

#[test]
fn a_call_given_up_after_the_slow_time_or_at_its_deadline_is_a_failure() {
    for (deadline, slow, dropped) in [
        (3_000, Some(1_500), 1_500),
        (3_000, None, 3_000),
        (250, Some(1_500), 250),
    ] {
        let bench = Bench::new();
        let mut ticket = bench.by(deadline, slow);
        ticket.over(bench.at(dropped));
        assert!(is_out(&ticket), "{deadline} {slow:?} {dropped}");
    }
}

#[test]
fn a_deadline_too_short_for_a_usual_answer_blames_nobody() {
    let bench = Bench::new();
    let mut dropped = bench.by(150, Some(1_500));
    dropped.over(bench.at(150));
    let mut failed = bench.by(150, Some(1_500));
    failed.failed(
        &Error::new(ErrorKind::DeadlineExceeded),
        Class::Failure,
        bench.at(150),
    );
    assert!(!is_out(&dropped) && !is_out(&failed));
}

#[test]
fn an_attempt_timeout_is_a_failure() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, Some(200));
    ticket.failed(
        &Error::new(ErrorKind::AttemptTimeout),
        Class::Failure,
        bench.at(200),
    );
    assert!(is_out(&ticket));
}

#[test]
fn a_refusal_by_a_layer_of_ours_below_sends_calls_elsewhere_and_ejects_nobody() {
    let bench = Bench::new();
    for kind in [
        ErrorKind::CircuitOpen { retry_in: None },
        ErrorKind::Overloaded,
    ] {
        let mut ticket = bench.by(3_000, None);
        ticket.failed(&Error::new(kind), Class::Neutral, bench.at(0));
        assert!(!is_out(&ticket) && ticket.is_over());
        assert!(penalty(&bench, &ticket) > 1.0);
    }
}

#[test]
fn a_call_that_could_not_be_sent_says_nothing_of_the_endpoint() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, None);
    let error = Error::new(ErrorKind::InvalidCall);
    ticket.failed(&error, Class::Neutral, bench.at(5));
    assert!(!is_out(&ticket) && ticket.is_over());
    assert_eq!(penalty(&bench, &ticket), 1.0);
}

#[test]
fn a_good_head_is_final_at_the_end_of_the_body_or_when_it_is_dropped() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, None);
    ticket.head(Class::Success, bench.at(100));
    assert!(ticket.is_provisional());
    ticket.over(bench.at(9_000));
    assert!(!is_out(&ticket));
    assert_eq!(ticket.seat().stats.load.in_flight(), 0);
}

#[test]
fn a_body_that_breaks_is_one_failure_also_long_after_a_good_head() {
    for frames in [vec![], vec![150], vec![150, 5_000]] {
        let bench = Bench::new();
        let mut ticket = bench.by(60_000, None);
        ticket.head(Class::Success, bench.at(100));
        frames
            .iter()
            .for_each(|frame| ticket.frame(bench.at(*frame)));
        assert_eq!(ticket.is_provisional(), !frames.contains(&5_000));
        ticket.body_failed(bench.at(9_000));
        assert!(is_out(&ticket), "{frames:?}");
    }
}

#[test]
fn a_long_body_is_no_latency() {
    let bench = Bench::new();
    let mut ticket = bench.by(60_000, None);
    ticket.head(Class::Success, bench.at(100));
    let cost = |ms| {
        let shared = &bench.shared;
        ticket
            .seat()
            .stats
            .load
            .cost(shared.tick(bench.at(ms)), shared.load.mean(), shared.forget)
    };
    assert!(cost(50_000) < 0.11);
    ticket.over(bench.at(50_000));
    assert!(bench.shared.load.mean().is_some_and(|mean| mean < 0.11));
}

#[test]
fn everything_is_given_back_once() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, None);
    for _ in 0..3 {
        ticket.over(bench.at(5));
    }
    ticket.unused(bench.at(6));
    assert_eq!(ticket.seat().stats.load.in_flight(), 0);
}

#[test]
fn success_of_a_probe_starts_the_measures_again_at_the_mean() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, None);
    ticket.head(Class::Failure, bench.at(2_000));
    ticket.over(bench.at(2_000));
    assert!(is_out(&ticket));
    let wish = Wish {
        within: None,
        now: bench.at(60_000),
        tried: &TriedSet::NONE,
        caller: Caller::Any,
        limit: None,
    };
    let claim = claim(&bench.shared, &bench.shared.set.load(), &wish, 0).expect("a probe");
    let terms = Terms {
        deadline: Deadline::NEVER,
        slow: None,
    };
    let mut probe = Ticket::new((Arc::clone(&bench.shared), terms), claim);
    assert_eq!(probe.seat().stats.serial, ticket.seat().stats.serial);
    probe.head(Class::Success, bench.at(60_900));
    probe.over(bench.at(60_900));
    assert!(!is_out(&probe));
    let shared = &bench.shared;
    let cost = probe.seat().stats.load.cost(
        shared.tick(bench.at(60_900)),
        shared.load.mean(),
        shared.forget,
    );
    assert_eq!(Some(cost), shared.load.mean());
}

#[test]
fn a_stream_that_breaks_after_an_hour_leaves_the_latency_as_it_was() {
    let bench = Bench::new();
    let mut ticket = bench.by(60_000, None);
    ticket.head(Class::Success, bench.at(100));
    ticket.frame(bench.at(5_000));
    ticket.body_failed(bench.at(3_600_000));
    let shared = &bench.shared;
    let tick = shared.tick(bench.at(3_600_000));
    let cost = ticket
        .seat()
        .stats
        .load
        .cost(tick, shared.load.mean(), shared.forget);
    assert!(cost < 0.11, "{cost}");
}

#[test]
fn an_attempt_that_had_its_limit_is_a_failure_also_before_any_success() {
    let bench = Bench::new();
    let mut ticket = bench.by(3_000, Some(1_500));
    let error = Error::new(ErrorKind::AttemptTimeout);
    ticket.failed(&error, Class::Failure, bench.at(30));
    assert!(is_out(&ticket));
}

#[test]
fn the_end_of_one_call_leaves_the_age_of_another_alone() {
    let bench = Bench::new();
    let terms = Terms {
        deadline: Deadline::NEVER,
        slow: None,
    };
    let on_first = || loop {
        let ticket = bench.ticket(terms);
        if ticket.seat().stats.serial == 1 {
            break ticket;
        }
    };
    let mut one = on_first();
    one.head(Class::Success, bench.at(100));
    let two = on_first();
    one.over(bench.at(200));
    let shared = &bench.shared;
    let tick = shared.tick(bench.at(9_000));
    let cost = two
        .seat()
        .stats
        .load
        .cost(tick, shared.load.mean(), shared.forget);
    assert!(cost > 8.9, "{cost}");
}
