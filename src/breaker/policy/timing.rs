use std::time::Duration;

use super::super::config::{BreakerConfig, DEFAULT_GROWTH_JITTER, MAX_PUSHBACK};
use super::word::STAMP_MAX;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire};

/// How long breaks last.
#[derive(Debug)]
pub(super) struct Breaks {
    first: Duration,
    jitter: f64,
    /// The longest, where breaks grow.
    longest: Option<Duration>,
    healthy: u64,
    /// Breaks since the last healthy period: `generation:16 | breaks:48`, by the generation that
    /// the last one began or that a reset ended.
    streak: AtomicU64,
    /// Until when the server asked to be left alone: `generation:16 | milliseconds:48`.
    pushback: AtomicU64,
}

const PUSHBACK_BITS: u32 = 48;
const STREAK_BITS: u32 = 48;
const STREAK_MASK: u64 = (1 << STREAK_BITS) - 1;

impl Breaks {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        let growth_jitter = config.max_break.map_or(0.0, |_| DEFAULT_GROWTH_JITTER);
        Self {
            first: config.break_duration,
            jitter: config.break_jitter.unwrap_or(growth_jitter),
            longest: config.max_break,
            healthy: millis(config.healthy_period),
            streak: AtomicU64::new(0),
            pushback: AtomicU64::new(0),
        }
    }

    /// The break's number in its series, from how long the circuit was closed before (`None`: it
    /// was half-open).
    pub(super) fn level(&self, closed_for: Option<u64>) -> u64 {
        match closed_for {
            Some(millis) if millis >= self.healthy => 0,
            _ => self.streak.load(Acquire) & STREAK_MASK,
        }
    }

    /// Remembers that the break with this number has begun in this generation, unless that is over
    /// again.
    pub(super) fn began(&self, level: u64, generation: u16, live: impl Fn() -> bool) {
        let breaks = level.saturating_add(1).min(STREAK_MASK);
        let tagged = u64::from(generation) << STREAK_BITS | breaks;
        let _ = self
            .streak
            .fetch_update(AcqRel, Acquire, |_| live().then_some(tagged));
    }

    /// Forgets the breaks from before this generation.
    pub(super) fn forget(&self, generation: u16, live: impl Fn() -> bool) {
        let none = u64::from(generation) << STREAK_BITS;
        let _ = self
            .streak
            .fetch_update(AcqRel, Acquire, |_| live().then_some(none));
    }

    /// When a break that begins at `now` nanoseconds ends, in milliseconds; `unit` lies in [0, 1).
    pub(super) fn end(&self, now: u64, level: u64, generation: u16, unit: f64) -> u64 {
        let drawn = scaled(self.length(level), 1.0 - self.jitter * (1.0 - unit));
        let end = u128::from(now).saturating_add(drawn.as_nanos()) / NANOS_PER_MILLI;
        let end = u64::try_from(end).unwrap_or(STAMP_MAX);
        let longest = now / NANOS_PER_MILLI as u64 + millis(MAX_PUSHBACK);
        end.max(self.wanted(generation).min(longest)).min(STAMP_MAX)
    }

    /// Notes that the server asked at `now` nanoseconds for a pause; `live` says whether this
    /// generation is not over yet.
    pub(super) fn note_pushback(
        &self,
        now: u64,
        generation: u16,
        pause: Duration,
        live: impl Fn() -> bool,
    ) {
        let until = (now / NANOS_PER_MILLI as u64)
            .saturating_add(millis(pause))
            .min(STAMP_MAX);
        let tagged = u64::from(generation) << PUSHBACK_BITS | until;
        // A failed update means that a longer pause is noted already, or that one of a later
        // generation is.
        let _ = self.pushback.fetch_update(AcqRel, Acquire, |noted| {
            let same = (noted >> PUSHBACK_BITS) as u16 == generation;
            let more = if same { noted < tagged } else { live() };
            more.then_some(tagged)
        });
    }

    fn wanted(&self, generation: u16) -> u64 {
        let noted = self.pushback.load(Acquire);
        match (noted >> PUSHBACK_BITS) as u16 == generation {
            true => noted & ((1 << PUSHBACK_BITS) - 1),
            false => 0,
        }
    }

    fn length(&self, level: u64) -> Duration {
        let Some(longest) = self.longest else {
            return self.first;
        };
        let doublings = u32::try_from(level).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(longest)
    }
}

const NANOS_PER_MILLI: u128 = 1_000_000;

/// Whole milliseconds, at most what a stamp holds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(STAMP_MAX, |millis| millis.min(STAMP_MAX))
}

/// The whole at a share of 1 and above, exactly.
fn scaled(whole: Duration, share: f64) -> Duration {
    if share >= 1.0 {
        return whole;
    }
    Duration::try_from_secs_f64(whole.as_secs_f64() * share).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::{BreakerConfig, Breaks};

    const SECOND: Duration = Duration::from_secs(1);

    fn breaks(config: BreakerConfig) -> Breaks {
        Breaks::new(&config)
    }

    fn growing() -> Breaks {
        breaks(
            BreakerConfig::new()
                .break_duration(5 * SECOND)
                .max_break_duration(60 * SECOND)
                .break_jitter(0.0),
        )
    }

    #[test]
    fn a_plain_break_lasts_exactly_its_duration() {
        let breaks = breaks(BreakerConfig::new().break_duration(30 * SECOND));
        for unit in [0.0, 0.5, 0.999] {
            assert_eq!(breaks.end(0, 7, 0, unit), 30_000);
        }
    }

    #[test]
    fn growing_breaks_double_up_to_the_longest() {
        let breaks = growing();
        let ends: Vec<u64> = (0..6).map(|level| breaks.end(0, level, 0, 0.0)).collect();
        assert_eq!(ends, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
        assert_eq!(breaks.end(0, u64::MAX, 0, 0.0), 60_000);
    }

    #[test]
    fn a_healthy_period_makes_breaks_short_again() {
        let breaks = growing();
        breaks.began(breaks.level(Some(0)), 1, || true);
        assert_eq!(breaks.level(None), 1);
        assert_eq!(breaks.level(Some(59_999)), 1);
        assert_eq!(breaks.level(Some(60_000)), 0);
    }

    #[test]
    fn breaks_that_grow_are_spread_without_being_asked() {
        let breaks = breaks(
            BreakerConfig::new()
                .break_duration(SECOND)
                .max_break_duration(SECOND),
        );
        assert_eq!(breaks.end(0, 0, 0, 0.0), 500);
    }

    #[test]
    fn pushback_lengthens_a_break_to_a_minute_at_most_and_never_shortens_it() {
        let breaks = breaks(BreakerConfig::new().break_duration(5 * SECOND));
        breaks.note_pushback(0, 1, SECOND, || true);
        assert_eq!(breaks.end(0, 0, 1, 0.0), 5_000);
        breaks.note_pushback(0, 1, 20 * SECOND, || true);
        breaks.note_pushback(0, 1, 10 * SECOND, || true);
        assert_eq!(breaks.end(0, 0, 1, 0.0), 20_000);
        breaks.note_pushback(0, 1, Duration::MAX, || true);
        assert_eq!(breaks.end(0, 0, 1, 0.0), 60_000);
    }

    #[test]
    fn pushback_of_another_generation_is_forgotten() {
        let breaks = breaks(BreakerConfig::new().break_duration(5 * SECOND));
        breaks.note_pushback(0, 1, 20 * SECOND, || true);
        assert_eq!(breaks.end(0, 0, 2, 0.0), 5_000);
    }

    proptest! {
        /// Within the four years that a stamp holds.
        #[test]
        fn jitter_keeps_to_its_bounds(jitter in 0.0..=1.0_f64, unit in 0.0..1.0_f64, now in 0..100_000_000_000_000_000_u64) {
            let breaks = breaks(BreakerConfig::new().break_duration(SECOND).break_jitter(jitter));
            let length = breaks.end(now, 0, 0, unit).saturating_sub(now / 1_000_000) as f64;
            prop_assert!(length >= 1_000.0 * (1.0 - jitter) - 1.0 && length <= 1_001.0, "{length}");
        }

        #[test]
        fn no_break_overflows(now: u64, level: u64, unit in 0.0..1.0_f64) {
            let breaks = breaks(BreakerConfig::new().break_duration(Duration::MAX).max_break_duration(Duration::MAX));
            prop_assert!(breaks.end(now, level, 0, unit) > 0);
        }
    }
}
