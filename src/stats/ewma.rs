//! Exponentially weighted averages in one atomic word: the value and when it was last written.
//!
//! Every method takes the instant as a [`Tick`], so that a hot path converts its clock reading once. Updates are one
//! compare-and-swap; no update is lost, which matters for a peak.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One tick is 2^16 ns (65.5 us): fine enough for a decay of milliseconds, and the counter turns over after 78 hours.
const TICK_SHIFT: u32 = 16;

/// Differences this near to a full turn are read as "written a moment later than `now`", not as 78 hours of silence:
/// two threads may write in the other order than they read the clock.
const LATE_WRITER: u32 = 1 << 24;

/// A point in time, counted in 65.5 us from the base of one component; wraps after 78 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(u32);

impl Tick {
    /// The tick at this time after the base.
    pub(crate) fn after(age: Duration) -> Self {
        // Wrapping: so do ticks, long before.
        let nanos = age
            .as_secs()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(age.subsec_nanos().into());
        Self((nanos >> TICK_SHIFT) as u32)
    }

    /// The tick as a number, never 0, for words in which 0 means "none".
    pub(crate) fn stamp(self) -> u32 {
        self.0.max(1)
    }

    /// The tick that [`stamp`](Self::stamp) gave as a number.
    pub(crate) fn of_stamp(stamp: u32) -> Self {
        Self(stamp)
    }

    /// Ticks from `earlier` to here; 0 if `earlier` is the later one.
    pub(crate) fn since(self, earlier: Self) -> u32 {
        let ticks = self.0.wrapping_sub(earlier.0);
        if ticks > u32::MAX - LATE_WRITER {
            0
        } else {
            ticks
        }
    }

    /// Seconds from `earlier` to here; 0 if `earlier` is the later one.
    pub(crate) fn seconds_since(self, earlier: Self) -> f32 {
        Self::seconds(self.since(earlier))
    }

    /// So many ticks in seconds.
    pub(crate) fn seconds(ticks: u32) -> f32 {
        ticks as f32 * (1u64 << TICK_SHIFT) as f32 * 1e-9
    }

    fn latest(self, other: Self) -> Self {
        if self.since(other) == 0 { other } else { self }
    }
}

/// How fast an average forgets: after one decay time `1/e` of the old value is left. `Duration::MAX` never forgets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay {
    per_tick: f32,
}

impl Decay {
    pub(crate) fn over(time: Duration) -> Self {
        let ticks = time.as_nanos() as f64 / (1u64 << TICK_SHIFT) as f64;
        Self {
            per_tick: (1.0 / ticks.max(1.0)) as f32,
        }
    }

    /// What is left of a value after `ticks`: 1 at once, 0 in the long run.
    fn left(self, ticks: u32) -> f32 {
        let x = ticks as f32 * self.per_tick;
        // The first two terms are exact to 1e-4 here and save the exponential on a busy path.
        if x < 1.0 / 64.0 { 1.0 - x } else { (-x).exp() }
    }
}

/// A positive value that decays, with the tick of its last writing; empty until the first sample.
#[derive(Debug, Default)]
pub(crate) struct Ewma(AtomicU64);

impl Ewma {
    /// The value now, drawn towards `toward` by the time since the last sample; `None` before any sample.
    pub(crate) fn toward(&self, now: Tick, toward: f32, decay: Decay) -> Option<f32> {
        let (value, at) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(drawn(value, now.since(at), toward, decay))
    }

    /// The last value written, without decay; `None` before any sample.
    pub(crate) fn last(&self) -> Option<f32> {
        unpack(self.0.load(Ordering::Relaxed)).map(|(value, _)| value)
    }

    /// Takes a sample as a peak: a higher one at once, a lower one by the decay since the last sample.
    pub(crate) fn peak(&self, sample: f32, now: Tick, decay: Decay) {
        self.update(now, |old| match old {
            Some((value, ticks)) if sample < value => drawn(value, ticks, sample, decay),
            _ => sample,
        });
    }

    /// Takes a sample as an average over time. Samples within one tick after another count once, so that a word which
    /// many threads share is written at most once a tick.
    pub(crate) fn average(&self, sample: f32, now: Tick, decay: Decay) {
        match unpack(self.0.load(Ordering::Relaxed)) {
            Some((_, at)) if now.since(at) == 0 => {}
            _ => self.update(now, |old| match old {
                Some((value, ticks)) => drawn(value, ticks, sample, decay),
                None => sample,
            }),
        }
    }

    /// Raises the value to `sample` if it is lower now, and never lowers it below what it reads now.
    /// Without a sample so far the value is taken to be `toward`.
    pub(crate) fn raise(&self, sample: f32, now: Tick, toward: f32, decay: Decay) {
        self.update(now, |old| {
            let value = old.map_or(toward, |(value, ticks)| drawn(value, ticks, toward, decay));
            value.max(sample)
        });
    }

    /// Replaces the value; 0 empties it.
    pub(crate) fn set(&self, value: f32, now: Tick) {
        self.0.store(pack(value, now), Ordering::Relaxed);
    }

    /// Replaces the value by what `next` makes of the old one and its age in ticks; 0 empties it.
    fn update(&self, now: Tick, next: impl Fn(Option<(f32, u32)>) -> f32) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let old = unpack(word);
                let value = next(old.map(|(value, at)| (value, now.since(at))));
                Some(pack(value, old.map_or(now, |(_, at)| now.latest(at))))
            });
    }

    /// Replaces the value by what `next` makes of the old one, decayed towards 0; 0 empties it.
    pub(crate) fn step(&self, now: Tick, decay: Decay, next: impl Fn(f32) -> f32) {
        self.update(now, |old| {
            next(old.map_or(0.0, |(value, ticks)| drawn(value, ticks, 0.0, decay)))
        });
    }
}

fn drawn(value: f32, ticks: u32, toward: f32, decay: Decay) -> f32 {
    toward + (value - toward) * decay.left(ticks)
}

/// Value in the high half, tick in the low one; a value of 0 is "no sample".
fn pack(value: f32, at: Tick) -> u64 {
    if value > 0.0 {
        u64::from(value.to_bits()) << 32 | u64::from(at.0)
    } else {
        0
    }
}

fn unpack(word: u64) -> Option<(f32, Tick)> {
    (word != 0).then(|| (f32::from_bits((word >> 32) as u32), Tick(word as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    fn ticks(s: f64) -> Tick {
        Tick::after(secs(s))
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= 1e-3 * b.abs().max(1e-3)
    }

    #[test]
    fn a_higher_sample_counts_at_once_and_a_lower_one_by_the_time_that_passed() {
        let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
        ewma.peak(0.1, ticks(0.0), decay);
        ewma.peak(0.5, ticks(0.0), decay);
        assert_eq!(ewma.last(), Some(0.5));
        ewma.peak(0.1, ticks(10.0), decay);
        assert!(close(ewma.last().unwrap(), 0.1 + 0.4 * (-1f32).exp()));
    }

    #[test]
    fn silence_draws_a_value_to_the_mean_from_above_and_below() {
        let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
        ewma.set(1.0, ticks(0.0));
        assert!(close(
            ewma.toward(ticks(10.0), 0.2, decay).unwrap(),
            0.2 + 0.8 * (-1f32).exp()
        ));
        assert!(close(ewma.toward(ticks(1000.0), 0.2, decay).unwrap(), 0.2));
        ewma.set(0.01, ticks(0.0));
        assert!(close(ewma.toward(ticks(1000.0), 0.2, decay).unwrap(), 0.2));
    }

    #[test]
    fn a_failure_raises_an_estimate_and_never_lowers_it() {
        let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
        ewma.raise(0.001, ticks(0.0), 0.05, decay);
        assert_eq!(
            ewma.last(),
            Some(0.05),
            "the mean stands in for a missing estimate"
        );
        ewma.raise(2.0, ticks(0.0), 0.05, decay);
        ewma.raise(0.001, ticks(0.0), 0.05, decay);
        assert_eq!(ewma.last(), Some(2.0));
    }

    #[test]
    fn an_endless_decay_time_never_forgets() {
        let (ewma, decay) = (Ewma::default(), Decay::over(Duration::MAX));
        ewma.set(1.0, ticks(0.0));
        assert_eq!(ewma.toward(ticks(3600.0), 0.0, decay), Some(1.0));
    }

    #[test]
    fn a_writer_that_is_late_by_a_moment_ages_nothing() {
        let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
        ewma.set(1.0, ticks(5.0));
        ewma.peak(0.5, ticks(4.9), decay);
        assert_eq!(ewma.last(), Some(1.0));
        assert_eq!(ewma.toward(ticks(4.0), 0.0, decay), Some(1.0));
        assert!(close(
            ewma.toward(ticks(15.0), 0.0, decay).unwrap(),
            (-1f32).exp()
        ));
    }

    #[test]
    fn peaks_of_many_threads_are_all_seen() {
        let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ewma = &ewma;
                scope.spawn(move || {
                    (0..1000)
                        .for_each(|i| ewma.peak((thread * 1000 + i) as f32 + 1.0, Tick(0), decay));
                });
            }
        });
        assert_eq!(ewma.last(), Some(4000.0));
    }

    proptest! {
        #[test]
        fn an_average_stays_between_its_samples(samples in prop::collection::vec((1e-5f32..10.0, 0.0f64..30.0), 1..40)) {
            let (ewma, decay) = (Ewma::default(), Decay::over(secs(10.0)));
            let mut at = 0.0;
            for (sample, pause) in &samples {
                at += pause;
                ewma.average(*sample, ticks(at), decay);
            }
            let low = samples.iter().map(|s| s.0).fold(f32::MAX, f32::min);
            let high = samples.iter().map(|s| s.0).fold(0.0, f32::max);
            let value = ewma.last().unwrap();
            prop_assert!(value >= low * 0.999 && value <= high * 1.001);
        }
    }
}
