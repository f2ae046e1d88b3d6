//! The machine by hand-made instants.

mod rules;

use std::time::{Duration, Instant};

use super::super::config::{BreakerConfig, CloseWhen};
use super::{Admission, Cause, Finished, Machine, Outcome, Pass, Seen, Settled, State};

const SECOND: Duration = Duration::from_secs(1);

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let now = Instant::now();
        let machine = Machine::new(&config, now);
        Self { machine, now }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn acquire(&self) -> Admission {
        self.machine.acquire(None, || self.now, || 0.5).0
    }

    #[track_caller]
    fn admitted(&self) -> Pass {
        match self.acquire() {
            Admission::Admitted(pass) => pass,
            Admission::Rejected { retry_in } => panic!("rejected, retry in {retry_in:?}"),
        }
    }

    #[track_caller]
    fn rejected(&self) -> Option<Duration> {
        match self.acquire() {
            Admission::Admitted(pass) => panic!("admitted: {pass:?}"),
            Admission::Rejected { retry_in } => retry_in,
        }
    }

    fn end(&self, pass: Pass, end: Finished) -> Settled {
        self.machine.settle(pass, &end, self.now, || 0.5)
    }

    fn settle(&self, pass: Pass, outcome: Outcome) -> Settled {
        self.end(pass, Finished::new(outcome))
    }

    #[track_caller]
    fn call(&self, outcome: Outcome) -> Settled {
        self.settle(self.admitted(), outcome)
    }

    fn calls(&self, count: usize, outcome: Outcome) {
        for _ in 0..count {
            self.call(outcome);
        }
    }

    fn state(&self) -> State {
        self.machine.state(self.now)
    }
}

fn one_failure() -> BreakerConfig {
    BreakerConfig::new().consecutive_failures(1)
}

fn tripped(config: BreakerConfig) -> Bench {
    let bench = Bench::new(config);
    bench.call(Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
    bench
}

#[test]
fn it_opens_on_the_last_of_so_many_failures_in_a_row() {
    let bench = Bench::new(BreakerConfig::new().consecutive_failures(3));
    assert_eq!(bench.call(Outcome::Failure), Settled::Counted);
    assert_eq!(bench.call(Outcome::Failure), Settled::Counted);
    let Settled::Changed(change) = bench.call(Outcome::Failure) else {
        panic!("it did not open");
    };
    assert_eq!((change.from, change.to), (State::Closed, State::Open));
    assert_eq!(change.cause, Cause::ConsecutiveFailures);
}

#[test]
fn a_success_ends_the_run_and_a_neutral_or_throttled_end_does_not() {
    let bench = Bench::new(BreakerConfig::new().consecutive_failures(2));
    for outcome in [Outcome::Failure, Outcome::Success, Outcome::Failure] {
        bench.call(outcome);
    }
    assert_eq!(bench.state(), State::Closed);
    for outcome in [Outcome::Neutral, Outcome::Abandoned, Outcome::Throttled] {
        bench.call(outcome);
    }
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn the_boundary_of_the_break_belongs_to_half_open() {
    let mut bench = tripped(one_failure().break_duration(5 * SECOND));
    bench.wait(4_999);
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.rejected(), Some(Duration::from_millis(1)));
    bench.wait(1);
    assert_eq!(bench.state(), State::HalfOpen);
    assert!(bench.admitted().probe);
}

#[test]
fn slots_given_up_are_for_others_and_their_late_results_for_nobody() {
    let mut bench = tripped(one_failure());
    bench.wait(5_000);
    let hung = bench.admitted();
    bench.wait(9_999);
    bench.rejected();
    bench.wait(1);
    let second = bench.admitted();
    assert_eq!(bench.settle(hung, Outcome::Failure), Settled::Late);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.settle(second, Outcome::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_probe_that_was_answered_is_waited_for_until_its_head_stands() {
    for limit in [None, Some(30 * SECOND)] {
        let mut bench = tripped(one_failure());
        bench.wait(5_000);
        let (Admission::Admitted(stream), _) = bench.machine.acquire(limit, || bench.now, || 0.5)
        else {
            panic!("the break is over");
        };
        bench.wait(300);
        bench.machine.answered(stream, bench.now);
        bench.wait(999);
        bench.rejected();
        bench.wait(1);
        let next = bench.admitted();
        assert_eq!(bench.settle(stream, Outcome::Failure), Settled::Late);
        bench.settle(next, Outcome::Success);
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn an_answer_cuts_short_the_wait_for_no_other_probe_and_no_other_generation() {
    let mut bench = tripped(one_failure().half_open(2, CloseWhen::Successes(2)));
    bench.wait(5_000);
    let (first, second) = (bench.admitted(), bench.admitted());
    bench.machine.answered(first, bench.now);
    bench.wait(9_999);
    bench.rejected();
    bench.settle(second, Outcome::Failure);
    bench.wait(5_000);
    bench.admitted();
    bench.machine.answered(first, bench.now);
    bench.wait(9_999);
    let slow = bench.admitted();
    bench.rejected();
    bench.settle(slow, Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_probe_with_a_long_limit_is_waited_for_that_long() {
    let mut bench = tripped(one_failure());
    bench.wait(5_000);
    let limit = Some(30 * SECOND);
    let (admission, _) = bench.machine.acquire(limit, || bench.now, || 0.5);
    assert!(matches!(
        admission,
        Admission::Admitted(Pass { probe: true, .. })
    ));
    bench.wait(29_999);
    bench.rejected();
    bench.wait(1);
    bench.admitted();
}

#[test]
fn what_probes_said_is_kept_when_others_hang() {
    let mut bench = tripped(one_failure().half_open(2, CloseWhen::FailureRateBelow(0.5)));
    bench.wait(5_000);
    let (first, _hung) = (bench.admitted(), bench.admitted());
    bench.settle(first, Outcome::Success);
    bench.rejected();
    bench.wait(10_000);
    let third = bench.admitted();
    bench.rejected();
    bench.settle(third, Outcome::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_throttled_probe_opens_it_again() {
    let mut bench = tripped(one_failure());
    bench.wait(5_000);
    bench.call(Outcome::Throttled);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn breaks_grow_until_a_healthy_period() {
    let config = one_failure()
        .max_break_duration(60 * SECOND)
        .break_jitter(0.0);
    let mut bench = tripped(config);
    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(bench.rejected(), Some(seconds * SECOND));
        bench.wait(u64::from(seconds) * 1_000);
        bench.call(Outcome::Failure);
    }
    bench.wait(60_000);
    bench.call(Outcome::Success);
    bench.wait(1_000);
    bench.call(Outcome::Failure);
    assert_eq!(bench.rejected(), Some(60 * SECOND), "it flaps");
    bench.wait(60_000);
    bench.call(Outcome::Success);
    bench.wait(60_000);
    bench.call(Outcome::Failure);
    assert_eq!(bench.rejected(), Some(5 * SECOND), "it was healthy");
}

#[test]
fn pushback_of_any_failure_of_the_period_lengthens_the_break() {
    let mut bench = Bench::new(BreakerConfig::new().consecutive_failures(2));
    let asked = Finished {
        pushback: Some(20 * SECOND),
        ..Finished::new(Outcome::Failure)
    };
    bench.end(bench.admitted(), asked);
    bench.wait(1_000);
    bench.call(Outcome::Failure);
    assert_eq!(bench.rejected(), Some(19 * SECOND));
}

#[test]
fn a_ramp_lets_a_growing_share_through() {
    let mut bench = tripped(one_failure().ramp(10 * SECOND));
    bench.wait(5_000);
    bench.call(Outcome::Success);
    assert_eq!(bench.state(), State::Closed);
    let passes = |bench: &Bench, unit| {
        let (admission, _) = bench.machine.acquire(None, || bench.now, || unit);
        matches!(admission, Admission::Admitted(_))
    };
    assert!(passes(&bench, 0.09) && !passes(&bench, 0.1));
    bench.wait(5_000);
    assert!(passes(&bench, 0.49) && !passes(&bench, 0.5));
    bench.wait(5_000);
    assert!(passes(&bench, 0.999));
    assert!(passes(&bench, 0.999), "the ramp is over");
}

#[test]
fn a_failure_on_the_ramp_opens_it() {
    let mut bench = tripped(one_failure().ramp(10 * SECOND));
    bench.wait(5_000);
    bench.call(Outcome::Success);
    bench.wait(10_000);
    let before = bench.admitted();
    let after = bench.admitted();
    bench.settle(before, Outcome::Success);
    bench.settle(after, Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn forced_states_last_until_somebody_says_otherwise() {
    let mut bench = Bench::new(one_failure());
    let before = bench.admitted();
    bench.machine.force_open(bench.now);
    bench.wait(86_400_000);
    assert_eq!(bench.rejected(), None);
    assert_eq!(bench.settle(before, Outcome::Success), Settled::Late);
    bench.machine.force_closed(bench.now);
    bench.calls(99, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.machine.reset(bench.now);
    bench.call(Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_clock_that_goes_back_and_the_longest_durations_do_not_panic() {
    let config = one_failure()
        .break_duration(Duration::MAX)
        .probe_timeout(Duration::MAX)
        .healthy_period(Duration::MAX);
    let mut bench = tripped(config);
    bench.now -= SECOND;
    assert!(bench.rejected().is_some());
    bench.now += 100 * 365 * 86_400 * SECOND;
    bench.admitted();
}
