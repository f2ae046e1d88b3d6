//! Drives one run: moves the paused clock from event to event, and lets all tasks come to rest at each.
//!
//! Arrivals and replies come at their exact nanosecond. Timers of policies are tokio's, which tick once a
//! millisecond: the clock stops at each of those too.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{runtime::Builder, task::yield_now, time::advance};

use crate::{
    arrivals::{Arrivals, MILLI, Nanos},
    policies::Policy,
    world::World,
};

const TICK: Nanos = MILLI as Nanos;

/// How long after the last arrival calls may still run.
const DRAIN: Nanos = 8_000_000_000;

/// Runs `body` on a runtime of its own whose clock stands still.
pub(crate) fn on_paused_clock<T>(body: impl AsyncFnOnce() -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // All tasks that are awake run before the clock is looked at.
        .event_interval(u32::MAX)
        .build()
        .expect("a runtime without sockets can be had");
    runtime.block_on(body())
}

/// Has all arrivals done by the policy, and waits for their ends. Says how much of their time endpoints were left out.
pub(crate) async fn drive(
    world: &World,
    policy: &mut dyn Policy,
    mut arrivals: Arrivals,
) -> Option<f64> {
    let mut ejected = Vec::new();
    let last = arrivals.until + DRAIN;
    let mut next = arrivals.next();
    let mut now = 0;
    loop {
        let due = next.map_or(last, |arrival| arrival.at);
        let then = due
            .min(world.state().next_reply())
            .min((now / TICK + 1) * TICK);
        step(then - now, then.is_multiple_of(TICK), || {
            let mut state = world.state();
            state.now = then;
            state.deliver();
            drop(state);
            while let Some(arrival) = next.filter(|arrival| arrival.at <= then) {
                world.state().call(arrival.call).at = arrival.at;
                policy.start(arrival);
                next = arrivals.next();
            }
        })
        .await;
        now = then;
        if now.is_multiple_of(100 * TICK) && next.is_some() {
            ejected.extend(policy.ejected());
        }
        if now.is_multiple_of(100 * TICK) {
            policy.tick();
        }
        let all_ended = || {
            let state = world.state();
            state.open == 0 && state.calls.iter().all(|call| call.took > 0)
        };
        if now >= last || (next.is_none() && now.is_multiple_of(100 * TICK) && all_ended()) {
            let looks = ejected.len() as f64;
            return (looks > 0.0).then(|| ejected.iter().sum::<f64>() / looks);
        }
    }
}

/// Moves the clock, does `events` at the new instant, and lets what they woke come to rest.
async fn step(by: Nanos, timers: bool, events: impl FnOnce()) {
    let mut moved = pin!(advance(Duration::from_nanos(by)));
    // The first poll moves the clock; the second comes when all tasks have run.
    let first = poll_fn(|cx| Poll::Ready(moved.as_mut().poll(cx))).await;
    events();
    if first.is_pending() {
        moved.await;
    }
    if timers {
        // The timers that fired have woken tasks.
        yield_now().await;
    }
}
