//! How a joining endpoint grows into its share.

use std::time::Instant;

use crate::balance::config::SlowStart;

/// The first calls are let through with this probability, so that a small client ever looks at a new endpoint.
const LEAST: f64 = 0.1;

/// The probability with which a candidate is kept; 1 once it is warm.
///
/// A coin toss, and not a higher cost: one that divided the cost would keep a new endpoint at no calls at all for
/// most of the time, since the others nearly always look better.
#[inline]
pub(crate) fn kept(rule: &SlowStart, joined: Option<Instant>, now: Instant) -> f64 {
    match joined {
        Some(joined) => kept_since(rule, joined, now),
        None => 1.0,
    }
}

fn kept_since(rule: &SlowStart, joined: Instant, now: Instant) -> f64 {
    let age = now.saturating_duration_since(joined);
    match rule.window() {
        Some(window) if age < window => (age.as_secs_f64() / window.as_secs_f64()).max(LEAST),
        _ => 1.0,
    }
}

/// Whether an endpoint that joined then is warm now.
pub(crate) fn is_warm(rule: &SlowStart, joined: Option<Instant>, now: Instant) -> bool {
    kept(rule, joined, now) >= 1.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::config::DEFAULT_SLOW_START_WINDOW;

    #[test]
    fn a_joining_endpoint_grows_from_a_tenth_to_its_full_share() {
        let (rule, start) = (SlowStart::default(), Instant::now());
        let after = |ms| kept(&rule, Some(start), start + Duration::from_millis(ms));
        assert_eq!(
            [after(0), after(500), after(5_000), after(10_000)],
            [0.1, 0.1, 0.5, 1.0]
        );
        assert!(is_warm(
            &rule,
            Some(start),
            start + DEFAULT_SLOW_START_WINDOW
        ));
    }

    #[test]
    fn the_first_set_is_warm_at_once_and_so_is_everything_when_it_is_off() {
        let now = Instant::now();
        assert_eq!(kept(&SlowStart::default(), None, now), 1.0);
        assert_eq!(kept(&SlowStart::off(), Some(now), now), 1.0);
    }

    #[test]
    fn an_endless_window_keeps_the_least_share() {
        let now = Instant::now();
        assert_eq!(
            kept(
                &SlowStart::over(Duration::MAX),
                Some(now),
                now + Duration::from_secs(3600)
            ),
            LEAST
        );
    }
}
