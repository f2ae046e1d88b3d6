//! What one endpoint costs at the moment: its latency, its failures, its calls in flight and how old the oldest is.

use std::time::Duration;

use crate::stats::ewma::{Decay, Ewma, Tick};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Failures are forgotten in 5 s: a server that recovered is back in full use in about 10 s.
const FAILURE_DECAY: Duration = Duration::from_secs(5);

/// One failure moves the failure share a tenth of the way to 1, one success a tenth of the way back.
const FAILURE_STEP: f32 = 0.1;

/// A failing endpoint looks up to 21 times as loaded. A fixed penalty (a second, say) would make a busy client shun a
/// good endpoint for one stray error.
const FAILURE_WEIGHT: f32 = 20.0;

/// Below this share a failure is forgotten, so that healthy endpoints are written to by failures alone.
const FORGOTTEN: f32 = 1e-3;

/// Factors up to this count as none: otherwise the last trace of one error would lose every tie for seconds.
const NEGLIGIBLE_PENALTY: f32 = 1.5;

/// Latencies below 10 us are all alike to a balancer.
const SHORTEST: f32 = 1e-5;

/// How many calls in flight have their start remembered; the age of further ones is not seen.
const STARTS: usize = 8;

/// An endpoint that costs this much more than the mean is seldom picked, so its cost may be out of date ...
const DEAR: f32 = 1.5;

/// ... and after both this time and this many calls elsewhere, the next call goes there.
const REVISIT_AFTER_SECONDS: f32 = 5.0;
const REVISIT_AFTER_CALLS: u32 = 1000;

/// One pick in 16 is counted, as 16, so that picks seldom write to what all endpoints share.
const COUNTED: u32 = 16;

/// How fast the measures of one set forget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forget {
    latency: Decay,
    failures: Decay,
}

impl Forget {
    pub(crate) fn latency_over(time: Duration) -> Self {
        Self {
            latency: Decay::over(time),
            failures: Decay::over(FAILURE_DECAY),
        }
    }
}

/// What all endpoints of a set share: the mean latency of successes, and a count of picks.
#[derive(Debug, Default)]
pub(crate) struct SetLoad {
    mean: Ewma,
    picks: AtomicU32,
}

impl SetLoad {
    /// The mean latency of successes in seconds; `None` before the first.
    pub(crate) fn mean(&self) -> Option<f32> {
        self.mean.last()
    }

    /// Counts a pick, by `random` bits: see [`COUNTED`].
    pub(crate) fn count_pick(&self, random: u32) {
        if random.is_multiple_of(COUNTED) {
            self.picks.fetch_add(COUNTED, Ordering::Relaxed);
        }
    }
}

/// The load of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// When it was last picked: the tick, and how many picks the set had seen.
    picked: AtomicU64,
    latency: Ewma,
    failures: Ewma,
    starts: [AtomicU32; STARTS],
}

/// Where the start of a call is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u8);

const UNTRACKED: Slot = Slot(u8::MAX);

impl Load {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a place for one call; `false` if `cap` are taken.
    pub(crate) fn enter(&self, cap: u32) -> bool {
        // Not by adding and taking back: in between another call would find it full that is not.
        let order = Ordering::Relaxed;
        let more = |taken| (taken < cap).then_some(taken + 1);
        self.in_flight.fetch_update(order, order, more).is_ok()
    }

    /// Gives the place back.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Remembers when a call started, until it is answered.
    pub(crate) fn started(&self, now: Tick) -> Slot {
        let free = |start: &AtomicU32| {
            start.load(Ordering::Relaxed) == 0
                && start
                    .compare_exchange(0, now.stamp(), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        };
        self.starts
            .iter()
            .position(free)
            .map_or(UNTRACKED, |slot| Slot(slot as u8))
    }

    /// Forgets a start: the call is answered, or given up.
    pub(crate) fn answered(&self, slot: Slot) {
        if let Some(start) = self.starts.get(usize::from(slot.0)) {
            start.store(0, Ordering::Relaxed);
        }
    }

    /// Takes the latency of a success, which alone may lower the estimate.
    pub(crate) fn success(&self, took: Duration, now: Tick, set: &SetLoad, forget: Forget) {
        let took = seconds(took);
        self.latency.peak(took, now, forget.latency);
        set.mean.average(took, now, forget.latency);
        if self.failures.last().is_some() {
            self.failures.step(now, forget.failures, |share| {
                let share = share * (1.0 - FAILURE_STEP);
                if share < FORGOTTEN { 0.0 } else { share }
            });
        }
    }

    /// Takes a failure (timeout, throttling) after `took`: it may raise the estimate, and it raises the penalty.
    pub(crate) fn failure(&self, took: Duration, now: Tick, set: &SetLoad, forget: Forget) {
        self.at_least(took, now, set, forget);
        self.failures.step(now, forget.failures, |share| {
            share + FAILURE_STEP * (1.0 - share)
        });
    }

    /// Takes a lower bound of a latency: the call was given up after `took`.
    pub(crate) fn at_least(&self, took: Duration, now: Tick, set: &SetLoad, forget: Forget) {
        // Without any success to compare with, a quick failure would look like a quick endpoint.
        if let Some(mean) = set.mean() {
            self.latency.raise(seconds(took), now, mean, forget.latency);
        }
    }

    /// Forgets what was measured: the endpoint came back and starts again at the mean.
    pub(crate) fn reset(&self, now: Tick) {
        self.latency.set(0.0, now);
        self.failures.set(0.0, now);
    }

    /// The latency to expect in seconds: the estimate, or the age of the oldest call if that is more. Without any
    /// success in the set all endpoints cost 1.
    #[inline(always)]
    pub(crate) fn cost(&self, now: Tick, mean: Option<f32>, forget: Forget) -> f32 {
        let Some(mean) = mean else { return 1.0 };
        let estimate = self
            .latency
            .toward(now, mean, forget.latency)
            .unwrap_or(mean);
        if self.in_flight() == 0 {
            estimate
        } else {
            estimate.max(self.oldest(now))
        }
    }

    /// The factor by which recent failures make it look more loaded: 1 to 21.
    #[inline(always)]
    pub(crate) fn penalty(&self, now: Tick, forget: Forget) -> f32 {
        let share = self
            .failures
            .toward(now, 0.0, forget.failures)
            .unwrap_or(0.0);
        let factor = 1.0 + FAILURE_WEIGHT * share;
        if factor <= NEGLIGIBLE_PENALTY {
            1.0
        } else {
            factor
        }
    }

    /// Age in seconds of the oldest call that waits for its answer.
    fn oldest(&self, now: Tick) -> f32 {
        let ages = self
            .starts
            .iter()
            .map(|start| match start.load(Ordering::Relaxed) {
                0 => 0,
                stamp => now.since(Tick::of_stamp(stamp)),
            });
        Tick::seconds(ages.fold(0, u32::max))
    }

    /// Notes that the endpoint is picked.
    pub(crate) fn picked(&self, now: Tick, set: &SetLoad) {
        self.picked.store(pick_stamp(now, set), Ordering::Relaxed);
    }

    /// Whether this dear endpoint was left alone so long that a call should look at it again. True for one caller.
    #[cold]
    pub(crate) fn claim_revisit(&self, now: Tick, set: &SetLoad) -> bool {
        let last = self.picked.load(Ordering::Relaxed);
        if last == 0 {
            return false;
        }
        let next = pick_stamp(now, set);
        let idle = now.seconds_since(Tick::of_stamp((last >> 32) as u32));
        let calls = (next as u32).wrapping_sub(last as u32);
        idle >= REVISIT_AFTER_SECONDS
            && calls >= REVISIT_AFTER_CALLS
            && self
                .picked
                .compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Whether an endpoint of this cost is so dear that its cost may be out of date.
pub(crate) fn is_dear(cost: f32, mean: Option<f32>) -> bool {
    mean.is_some_and(|mean| cost > DEAR * mean)
}

fn pick_stamp(now: Tick, set: &SetLoad) -> u64 {
    u64::from(now.stamp()) << 32 | u64::from(set.picks.load(Ordering::Relaxed))
}

fn seconds(took: Duration) -> f32 {
    took.as_secs_f32().max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn forget() -> Forget {
        Forget::latency_over(Duration::from_secs(10))
    }

    fn at(ms: u64) -> Tick {
        Tick::after(MS(ms))
    }

    fn warm() -> (Load, SetLoad) {
        let (load, set) = (Load::default(), SetLoad::default());
        load.success(MS(50), at(0), &set, forget());
        (load, set)
    }

    #[test]
    fn before_any_success_every_endpoint_costs_the_same() {
        let (failed, fresh, set) = (Load::default(), Load::default(), SetLoad::default());
        failed.failure(MS(1), at(1), &set, forget());
        assert_eq!(
            failed.cost(at(2), set.mean(), forget()),
            fresh.cost(at(2), set.mean(), forget())
        );
    }

    #[test]
    fn an_endpoint_without_a_sample_costs_the_mean() {
        let (_, set) = warm();
        assert_eq!(Load::default().cost(at(0), set.mean(), forget()), 0.05);
    }

    // LB-01, Netflix/astyanax#17
    #[test]
    fn failing_fast_is_no_low_latency() {
        let (good, set) = warm();
        let bad = Load::default();
        for _ in 0..100 {
            bad.failure(MS(1), at(10), &set, forget());
        }
        assert!(bad.cost(at(10), set.mean(), forget()) >= good.cost(at(10), set.mean(), forget()));
        assert!(bad.penalty(at(10), forget()) > 20.0);
    }

    #[test]
    fn a_timeout_raises_the_cost_to_its_duration() {
        let (load, set) = warm();
        load.failure(MS(800), at(800), &set, forget());
        assert!((load.cost(at(800), set.mean(), forget()) - 0.8).abs() < 1e-3);
    }

    #[test]
    fn one_stray_failure_is_forgotten_by_successes_and_by_time() {
        let (load, set) = warm();
        load.failure(MS(1), at(0), &set, forget());
        assert!((load.penalty(at(0), forget()) - 3.0).abs() < 1e-3);
        assert!(load.penalty(at(7_000), forget()) < 1.51);
        assert_eq!(load.penalty(at(8_000), forget()), 1.0);
        for _ in 0..15 {
            load.success(MS(50), at(0), &set, forget());
        }
        assert_eq!(load.penalty(at(0), forget()), 1.0);
        for _ in 0..60 {
            load.success(MS(50), at(0), &set, forget());
        }
        assert!(
            load.failures.last().is_none(),
            "nothing is left to write to"
        );
    }

    #[test]
    fn the_age_of_the_oldest_unanswered_call_counts() {
        let (load, set) = warm();
        assert!(load.enter(9));
        let slot = load.started(at(0));
        assert!((load.cost(at(3_000), set.mean(), forget()) - 3.0).abs() < 0.01);
        load.answered(slot);
        assert!(load.cost(at(3_000), set.mean(), forget()) <= 0.05);
    }

    #[test]
    fn more_calls_than_slots_stay_untracked_and_harm_nothing() {
        let load = Load::default();
        let slots: Vec<_> = (0..STARTS + 3)
            .map(|i| load.started(at(i as u64)))
            .collect();
        assert_eq!(slots.iter().filter(|slot| **slot == UNTRACKED).count(), 3);
        slots.iter().for_each(|slot| load.answered(*slot));
        assert_eq!(load.oldest(at(9_000)), 0.0);
    }

    #[test]
    fn the_cap_of_calls_in_flight_is_exact_and_places_come_back() {
        let load = Load::default();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter(|_| load.enter(64)).count()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert!(taken <= 64);
        (0..taken).for_each(|_| load.leave());
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn a_dear_endpoint_left_alone_for_5_s_and_1000_calls_is_visited_once() {
        let (load, set) = warm();
        load.picked(at(0), &set);
        load.failure(MS(900), at(0), &set, forget());
        let revisit = |ms| {
            is_dear(load.cost(at(ms), set.mean(), forget()), set.mean())
                && load.claim_revisit(at(ms), &set)
        };
        assert!(!revisit(6_000), "no calls elsewhere");
        (0..1008).for_each(|i| set.count_pick(i));
        assert!(!revisit(4_000), "too soon");
        assert!(revisit(6_000));
        assert!(!revisit(6_001), "one call is enough");
    }

    #[test]
    fn an_idle_endpoint_drifts_to_the_mean_so_that_a_bad_estimate_cannot_last() {
        let (load, set) = warm();
        load.failure(MS(5_000), at(0), &set, forget());
        assert!(load.cost(at(120_000), set.mean(), forget()) < 0.06);
    }

    #[test]
    fn a_reset_puts_an_endpoint_at_the_mean() {
        let (load, set) = warm();
        load.failure(MS(5_000), at(0), &set, forget());
        load.reset(at(1));
        assert_eq!(load.cost(at(1), set.mean(), forget()), 0.05);
        assert_eq!(load.penalty(at(1), forget()), 1.0);
    }
}
