//! The machine beside the model.

use std::time::{Duration, Instant};

use proptest_state_machine::{StateMachineTest, prop_state_machine};

use self::circuit_model::{Circuit, DRAWN, End, Step, Sums};
use super::{
    super::config::{BreakerConfig, CloseWhen},
    Admission, Finished, Machine, Outcome, Pass, State,
};

#[expect(dead_code, reason = "the tests of the handle have it too")]
#[path = "../../../tests/support/circuit_model.rs"]
mod circuit_model;

struct Bench {
    machine: Machine,
    now: Instant,
    /// Those let through, and when.
    calls: Vec<(Pass, Instant)>,
}

impl Bench {
    fn acquire(&mut self, limit: Option<u64>) -> Result<(), Option<u64>> {
        let limit = limit.map(Duration::from_millis);
        match self.machine.acquire(limit, || self.now, || DRAWN).0 {
            Admission::Admitted(pass) => {
                self.calls.push((pass, self.now));
                Ok(())
            }
            Admission::Rejected { retry_in } => Err(retry_in.map(millis)),
        }
    }

    fn settle(&mut self, call: usize, end: End) {
        let (pass, at) = self.calls.swap_remove(call);
        let end = Finished {
            ran: Some(self.now - at),
            ..Finished::new(outcome(end))
        };
        self.machine.settle(pass, &end, self.now, || DRAWN);
    }
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Success => Outcome::Success,
        End::Throttled => Outcome::Throttled,
        End::Failure => Outcome::Failure,
        End::Neutral => Outcome::Neutral,
        End::Abandoned => Outcome::Abandoned,
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl StateMachineTest for Bench {
    type SystemUnderTest = Self;
    type Reference = Circuit<true>;

    fn init_test(model: &Circuit<true>) -> Self {
        let now = Instant::now();
        Self {
            machine: Machine::new(&model.shape.config(), now),
            now,
            calls: Vec::new(),
        }
    }

    fn apply(mut bench: Self, model: &Circuit<true>, step: Step) -> Self {
        match step {
            Step::Wait(millis) => bench.now += Duration::from_millis(millis),
            Step::Acquire { limit, .. } => assert_eq!(bench.acquire(limit), model.answer),
            Step::Settle(call, end) => bench.settle(call, end),
            Step::Reset => drop(bench.machine.reset(bench.now)),
            Step::ForceOpen => drop(bench.machine.force_open(bench.now)),
            Step::ForceClosed => drop(bench.machine.force_closed(bench.now)),
        }
        bench
    }

    fn check_invariants(bench: &Self, model: &Circuit<true>) {
        let view = bench.machine.view(bench.now);
        assert_eq!(view.state, model.state());
        assert_eq!(view.forced, model.is_forced());
        assert_eq!(view.next_probe_in.map(millis), model.next_probe_in());
        assert_eq!(u32::from(view.probes), model.probes());
        let sums = Sums {
            run: view.run,
            within: view.within,
            results: view.failures.total(),
            failures: view.failures.bad,
            timed: view.slow.total(),
            slow: view.slow.bad,
        };
        assert_eq!(sums, model.sums());
    }
}

prop_state_machine! {
    #![proptest_config(proptest::test_runner::Config::with_cases(400))]
    #[test]
    fn the_machine_does_what_the_model_does(sequential 1..200 => Bench);
}
