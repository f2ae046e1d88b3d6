//! Calls and failures of one endpoint in the last 5 to 10 seconds.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Length of one of the two spans that are kept: this one and the one before.
const SPAN: Duration = Duration::from_secs(5);

/// A result that is late by fewer spans than this must not replace a later one.
const LATE: u16 = 12;

const CALL: u64 = 1;
const FAILURE: u64 = 1 << 24;
const COUNT: u64 = FAILURE - 1;

/// Two words `span:16 | failures:24 | calls:24`, written in turn; an add per result, no lock.
///
/// A span number comes back after 91 hours; an endpoint that was silent for exactly that long counts old results once.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; 2]);

/// What was counted over how many seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) seconds: f64,
}

impl Tally {
    /// Counts one result, `age` after the start of the component.
    pub(crate) fn record(&self, failed: bool, age: Duration) {
        let span = span(age);
        let one = if failed { CALL + FAILURE } else { CALL };
        let word = &self.0[usize::from(span & 1)];
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            match ((old >> 48) as u16).wrapping_sub(span) {
                0 if old & COUNT == COUNT => None,
                0 => Some(old + one),
                // A later span is counted here already.
                1..LATE if old & COUNT > 0 => None,
                _ => Some(u64::from(span) << 48 | one),
            }
        });
    }

    /// What this span and the one before it counted.
    pub(crate) fn read(&self, age: Duration) -> Counted {
        let now = span(age);
        let into = age.as_secs_f64() % SPAN.as_secs_f64();
        let before = if age >= SPAN { SPAN.as_secs_f64() } else { 0.0 };
        let start = Counted {
            seconds: before + into,
            ..Counted::default()
        };
        self.0
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .fold(start, |sum, word| {
                let back = now.wrapping_sub((word >> 48) as u16);
                match back {
                    0 | 1 => Counted {
                        calls: sum.calls + (word & COUNT),
                        failures: sum.failures + (word >> 24 & COUNT),
                        ..sum
                    },
                    _ => sum,
                }
            })
    }
}

fn span(age: Duration) -> u16 {
    (age.as_secs() / SPAN.as_secs()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn results_are_counted_for_this_span_and_the_one_before() {
        let tally = Tally::default();
        tally.record(true, S(1));
        tally.record(false, S(6));
        assert_eq!(
            tally.read(S(7)),
            Counted {
                calls: 2,
                failures: 1,
                seconds: 7.0
            }
        );
        assert_eq!(
            tally.read(S(11)),
            Counted {
                calls: 1,
                failures: 0,
                seconds: 6.0
            }
        );
        assert_eq!(tally.read(S(30)).calls, 0);
    }

    #[test]
    fn a_late_result_wipes_out_no_later_span() {
        let tally = Tally::default();
        tally.record(false, S(16));
        tally.record(true, S(6));
        let counted = tally.read(S(16));
        assert_eq!((counted.calls, counted.failures), (1, 0));
    }

    #[test]
    fn no_result_of_many_threads_is_lost() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|i| tally.record(i % 2 == 0, S(3))));
            }
        });
        assert_eq!(
            tally.read(S(4)),
            Counted {
                calls: 4000,
                failures: 2000,
                seconds: 4.0
            }
        );
    }

    #[test]
    fn a_full_count_stays_full() {
        let tally = Tally::default();
        tally.0[0].store(COUNT, Ordering::Relaxed);
        tally.record(true, S(1));
        assert_eq!(tally.read(S(1)).calls, COUNT);
    }
}
