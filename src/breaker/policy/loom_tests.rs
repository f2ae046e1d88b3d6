//! The circuit under every order of two threads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loom::{model::Builder, thread};

use super::{
    super::config::{BreakerConfig, CloseWhen},
    Admission, Finished, Machine, Outcome, Pass, Settled, State,
};

const SECOND: Duration = Duration::from_secs(1);

/// Every order in which no thread is interrupted more often than this at a bad moment.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

/// A circuit and a moment.
#[derive(Clone)]
struct Bench {
    machine: Arc<Machine>,
    now: Instant,
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let now = Instant::now();
        Self {
            machine: Arc::new(Machine::new(&config, now)),
            now,
        }
    }

    /// Just opened by one failure, and its break is over.
    fn half_open(probes: u32, close_when: CloseWhen) -> Self {
        let config = BreakerConfig::new()
            .consecutive_failures(1)
            .half_open(probes, close_when);
        let bench = Self::new(config);
        bench.call(Outcome::Failure);
        bench.after(5 * SECOND)
    }

    fn after(&self, wait: Duration) -> Self {
        Self {
            now: self.now + wait,
            ..self.clone()
        }
    }

    fn acquire(&self) -> Option<Pass> {
        match self.machine.acquire(None, || self.now, || 0.5).0 {
            Admission::Admitted(pass) => Some(pass),
            Admission::Rejected { .. } => None,
        }
    }

    fn settle(&self, pass: Pass, outcome: Outcome) -> Settled {
        let end = Finished::new(outcome);
        self.machine.settle(pass, &end, self.now, || 0.5)
    }

    fn call(&self, outcome: Outcome) -> Option<Settled> {
        let pass = self.acquire()?;
        Some(self.settle(pass, outcome))
    }

    fn state(&self) -> State {
        self.machine.state(self.now)
    }

    fn probes(&self) -> u8 {
        self.machine.view(self.now).probes
    }
}

#[test]
fn one_slot_lets_one_probe_through() {
    model(|| {
        let bench = Bench::half_open(1, CloseWhen::Successes(1));
        let other = bench.clone();
        let other = thread::spawn(move || other.acquire());
        let this = bench.acquire();
        let other = other.join().expect("no panic");
        assert_eq!(this.iter().chain(&other).count(), 1);
        assert_eq!(bench.probes(), 1);
    });
}

#[test]
fn slots_of_probes_that_say_nothing_are_all_given_back() {
    model(|| {
        let bench = Bench::half_open(2, CloseWhen::Successes(1));
        let other = bench.clone();
        let other = thread::spawn(move || other.call(Outcome::Abandoned));
        bench.call(Outcome::Neutral);
        other.join().expect("no panic");
        assert_eq!((bench.state(), bench.probes()), (State::HalfOpen, 0));
    });
}

#[test]
fn the_failure_that_is_one_too_many_opens_it_once() {
    model(|| {
        let bench = Bench::new(BreakerConfig::new().consecutive_failures(2));
        let other = bench.clone();
        let other = thread::spawn(move || other.call(Outcome::Failure));
        let this = bench.call(Outcome::Failure);
        let changed = |end: &Option<Settled>| matches!(end, Some(Settled::Changed(_)));
        let ends = [this, other.join().expect("no panic")];
        assert_eq!(
            ends.iter().filter(|end| changed(end)).count(),
            1,
            "{ends:?}"
        );
        assert_eq!(bench.state(), State::Open);
    });
}

#[test]
fn a_probe_that_comes_late_takes_nothing_from_those_that_took_its_slot_over() {
    for outcome in [Outcome::Success, Outcome::Abandoned] {
        model(move || {
            let bench = Bench::half_open(2, CloseWhen::FailureRateBelow(0.5));
            let (quick, slow) = (bench.acquire(), bench.acquire());
            bench.settle(quick.expect("a slot"), Outcome::Success);
            let later = bench.after(10 * SECOND);
            let other = later.clone();
            let other = thread::spawn(move || other.settle(slow.expect("a slot"), outcome));
            let took_over = later.call(Outcome::Success);
            other.join().expect("no panic");
            assert!(took_over.is_some());
            assert_eq!(bench.state(), State::Closed, "two probes succeeded");
        });
    }
}

#[test]
fn slots_that_two_calls_take_over_at_once_are_taken_over_once() {
    model(|| {
        let bench = Bench::half_open(2, CloseWhen::FailureRateBelow(1.0));
        let (quick, _hung) = (bench.acquire(), bench.acquire());
        bench.settle(quick.expect("a slot"), Outcome::Success);
        let later = bench.after(10 * SECOND);
        let other = later.clone();
        let other = thread::spawn(move || other.acquire());
        let this = later.acquire();
        let other = other.join().expect("no panic");
        assert_eq!(
            this.iter().chain(&other).count(),
            1,
            "one of two has finished"
        );
        assert_eq!(bench.probes(), 2);
    });
}

#[test]
fn what_somebody_forces_stands_whatever_a_probe_says_at_that_moment() {
    for outcome in [Outcome::Success, Outcome::Failure] {
        model(move || {
            let bench = Bench::half_open(1, CloseWhen::Successes(1));
            let probe = bench.acquire().expect("a slot");
            let other = bench.clone();
            let other = thread::spawn(move || other.settle(probe, outcome));
            bench.machine.force_open(bench.now);
            other.join().expect("no panic");
            assert_eq!(bench.state(), State::Open);
            assert!(bench.machine.view(bench.now).forced);
            assert_eq!(bench.acquire(), None);
        });
    }
}

#[test]
fn a_reset_forgets_a_break_that_begins_at_that_moment() {
    model(|| {
        let config = BreakerConfig::new()
            .consecutive_failures(1)
            .max_break_duration(60 * SECOND)
            .break_jitter(0.0);
        let bench = Bench::new(config);
        let before = bench.acquire().expect("closed");
        let other = bench.clone();
        let other = thread::spawn(move || other.settle(before, Outcome::Failure));
        bench.machine.reset(bench.now);
        bench.call(Outcome::Failure);
        other.join().expect("no panic");
        let wait = bench.machine.view(bench.now).next_probe_in;
        assert_eq!(wait, Some(5 * SECOND), "the first since the reset");
    });
}

#[test]
fn a_failure_from_before_a_reset_does_not_count_after_it() {
    model(|| {
        let bench = Bench::new(BreakerConfig::new().consecutive_failures(2));
        let before = bench.acquire().expect("closed");
        let other = bench.clone();
        let other = thread::spawn(move || other.settle(before, Outcome::Failure));
        bench.machine.reset(bench.now);
        bench.call(Outcome::Failure);
        other.join().expect("no panic");
        assert_eq!(bench.state(), State::Closed);
        bench.call(Outcome::Failure);
        assert_eq!(bench.state(), State::Open, "the second since the reset");
    });
}
