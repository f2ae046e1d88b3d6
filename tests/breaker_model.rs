//! The public handle of a circuit beside the model: permits by hand and futures, dropped and finished in any order.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use evenkeel::{
    Breaker, BreakerConfig, Error, ErrorKind,
    breaker::{CloseWhen, Permit, State, Transitions},
    classify::Class,
};
use futures::FutureExt;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    time::advance,
};

use self::circuit_model::{Circuit, Counted, End, Step, Sums};

#[path = "support/circuit_model.rs"]
mod circuit_model;

/// A call under way.
enum Call {
    ByHand(Permit),
    Future(Running, oneshot::Sender<Class>),
}

type Running = Pin<Box<dyn Future<Output = Result<Class, Error>>>>;

struct Handle {
    breaker: Breaker,
    transitions: Transitions,
    moves: Vec<(State, State)>,
    calls: Vec<Call>,
    /// Its clock stands still unless it is moved.
    runtime: Runtime,
}

impl Handle {
    fn acquire(&self, as_future: bool) -> Result<Call, Error> {
        if !as_future {
            return self.breaker.try_acquire().map(Call::ByHand);
        }
        let (end, ended) = oneshot::channel();
        let work = async { Ok::<_, Infallible>(ended.await.expect("it is told or dropped")) };
        let classify = |result: &Result<Class, Infallible>| result.unwrap_or(Class::Neutral);
        let mut running: Running = Box::pin(self.breaker.run_with(work, classify));
        match poll(&mut running) {
            Poll::Pending => Ok(Call::Future(running, end)),
            Poll::Ready(result) => Err(result.expect_err("the work is not over")),
        }
    }

    fn settle(&mut self, call: usize, end: End) {
        let class = match end {
            End::Success => Class::Success,
            End::Throttled => Class::Throttled,
            End::Failure => Class::Failure,
            End::Neutral => Class::Neutral,
            End::Abandoned => return drop(self.calls.swap_remove(call)),
        };
        match self.calls.swap_remove(call) {
            Call::ByHand(permit) => permit.finish(class),
            Call::Future(mut running, end) => {
                end.send(class).expect("it waits");
                assert!(matches!(poll(&mut running), Poll::Ready(Ok(told)) if told == class));
            }
        }
    }
}

fn poll(running: &mut Running) -> Poll<Result<Class, Error>> {
    running
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl StateMachineTest for Handle {
    type SystemUnderTest = Self;
    type Reference = Circuit<false>;

    fn init_test(model: &Circuit<false>) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let breaker = {
            let _entered = runtime.enter();
            model.shape.config().build().expect("settings in range")
        };
        Self {
            transitions: breaker.watch(),
            breaker,
            moves: Vec::new(),
            calls: Vec::new(),
            runtime,
        }
    }

    fn apply(mut handle: Self, model: &Circuit<false>, step: Step) -> Self {
        let time = handle.runtime.handle().clone();
        let entered = time.enter();
        match step {
            Step::Wait(0) => {}
            Step::Wait(millis) => {
                handle
                    .runtime
                    .block_on(advance(Duration::from_millis(millis)));
            }
            Step::Acquire { as_future, .. } => {
                let answer = handle.acquire(as_future);
                let answer = answer.map(|call| handle.calls.push(call));
                let answer = answer.map_err(|error| match error.kind() {
                    ErrorKind::CircuitOpen { retry_in } => retry_in.map(millis),
                    kind => panic!("{kind:?}"),
                });
                assert_eq!(answer, model.answer);
            }
            Step::Settle(call, end) => handle.settle(call, end),
            Step::Reset => handle.breaker.reset(),
            Step::ForceOpen => handle.breaker.force_open(),
            Step::ForceClosed => handle.breaker.force_closed(),
        }
        while let Some(Some(moved)) = handle.transitions.next().now_or_never() {
            handle.moves.push((moved.from, moved.to));
        }
        drop(entered);
        handle
    }

    fn check_invariants(handle: &Self, model: &Circuit<false>) {
        let _entered = handle.runtime.enter();
        let seen = handle.breaker.snapshot();
        assert_eq!(
            (seen.state, handle.breaker.state()),
            (model.state(), model.state())
        );
        assert_eq!(seen.forced, model.is_forced());
        assert_eq!(seen.next_probe_in.map(millis), model.next_probe_in());
        assert_eq!(u32::from(seen.probes), model.probes());
        let sums = Sums {
            run: seen.consecutive_failures,
            within: seen.failures_within,
            results: seen.window_results,
            failures: seen.window_failures,
            timed: seen.window_timed,
            slow: seen.window_slow,
        };
        assert_eq!(sums, model.sums());
        let counted = Counted {
            opened: seen.opened,
            rejected: seen.rejected,
            failed: seen.failed,
            throttled: seen.throttled,
            neutral: seen.neutral,
            abandoned: seen.abandoned,
            late: seen.late,
        };
        assert_eq!(counted, model.counted);
        assert_eq!(handle.moves, model.moves);
    }

    /// Whatever is still under way gives its slot back.
    fn teardown(mut handle: Self, mut model: Circuit<false>) {
        let time = handle.runtime.handle().clone();
        let entered = time.enter();
        handle.calls.clear();
        drop(entered);
        model.abandon_all();
        Self::check_invariants(&handle, &model);
    }
}

prop_state_machine! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]
    #[test]
    fn the_handle_does_what_the_model_does(sequential 1..150 => Handle);
}
