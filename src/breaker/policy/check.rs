use std::time::Duration;

use super::super::config::{BreakerConfig, CloseWhen, RateWindow};
use crate::error::InvalidSetting;

/// The most failures, results or successes that a setting may ask for: counters hold more.
const MAX_COUNT: u32 = 10_000;
/// A question about a count window reads all of it.
const MAX_COUNT_WINDOW: u32 = 1_000;
/// The resolution of the state's clock.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// Ten buckets of that.
const MIN_WINDOW: Duration = Duration::from_millis(10);

/// Says what is out of range.
pub(crate) fn check(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    rules(config)?;
    slow_calls(config)?;
    window(config)?;
    breaks(config)?;
    half_open(config)
}

fn rules(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    if let Some(failures) = config.consecutive {
        count("BreakerConfig::consecutive_failures", failures)?;
    }
    if let Some((failures, within)) = config.within {
        count("BreakerConfig::failures_within", failures)?;
        duration("BreakerConfig::failures_within (window)", within)?;
    }
    if let Some(rate) = config.failure_rate {
        share("BreakerConfig::failure_rate_threshold", rate)?;
    }
    if let Some(rate) = config.slow_rate {
        share("BreakerConfig::slow_call_rate_threshold", rate)?;
    }
    let counts = config.consecutive.is_some() || config.within.is_some();
    if counts || config.failure_rate.is_some() || config.slow_rate.is_some() {
        return Ok(());
    }
    Err(InvalidSetting::new(
        "BreakerConfig",
        "without a rule",
        "at least one of consecutive_failures, failures_within, failure_rate_threshold and \
         slow_call_rate_threshold",
    ))
}

fn slow_calls(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    let given = match (config.slow_rate, config.slow_duration) {
        (None, None) => return Ok(()),
        (Some(_), Some(slow)) => return duration("BreakerConfig::slow_call_duration", slow),
        (Some(_), None) => "not set",
        (None, Some(_)) => "set without a rate",
    };
    Err(InvalidSetting::new(
        "BreakerConfig::slow_call_duration",
        given,
        "set together with slow_call_rate_threshold",
    ))
}

fn window(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    count("BreakerConfig::min_requests", config.min_requests)?;
    let rated = config.failure_rate.is_some() || config.slow_rate.is_some();
    match config.window {
        RateWindow::Time(window) if window < MIN_WINDOW => Err(InvalidSetting::new(
            "BreakerConfig::window",
            format!("{window:?}"),
            "10 ms and above",
        )),
        RateWindow::Count(results) if !(1..=MAX_COUNT_WINDOW).contains(&results) => Err(
            InvalidSetting::new("BreakerConfig::count_window", results, "1 to 1000"),
        ),
        RateWindow::Count(results) if rated && config.min_requests > results => {
            Err(InvalidSetting::new(
                "BreakerConfig::min_requests",
                config.min_requests,
                "at most the count_window",
            ))
        }
        RateWindow::Time(_) | RateWindow::Count(_) => Ok(()),
    }
}

fn breaks(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    duration("BreakerConfig::break_duration", config.break_duration)?;
    duration("BreakerConfig::healthy_period", config.healthy_period)?;
    if let Some(ramp) = config.ramp {
        duration("BreakerConfig::ramp", ramp)?;
    }
    if let Some(jitter) = config.break_jitter
        && !(0.0..=1.0).contains(&jitter)
    {
        let field = "BreakerConfig::break_jitter";
        return Err(InvalidSetting::new(field, jitter, "0 to 1"));
    }
    match config.max_break {
        Some(longest) if longest < config.break_duration => Err(InvalidSetting::new(
            "BreakerConfig::max_break_duration",
            format!("{longest:?}"),
            "at least break_duration",
        )),
        _ => Ok(()),
    }
}

fn half_open(config: &BreakerConfig) -> Result<(), InvalidSetting> {
    if !(1..=255).contains(&config.probes) {
        let field = "BreakerConfig::half_open";
        return Err(InvalidSetting::new(field, config.probes, "1 to 255 probes"));
    }
    if let Some(endpoints) = config.min_endpoints
        && !(1..=3).contains(&endpoints)
    {
        let field = "BreakerConfig::min_endpoints";
        return Err(InvalidSetting::new(field, endpoints, "1 to 3"));
    }
    duration("BreakerConfig::probe_timeout", config.probe_timeout)?;
    match config.close_when {
        CloseWhen::Successes(successes) => count("CloseWhen::Successes", successes),
        CloseWhen::FailureRateBelow(rate) => share("CloseWhen::FailureRateBelow", rate),
    }
}

fn count(field: &'static str, value: u32) -> Result<(), InvalidSetting> {
    if (1..=MAX_COUNT).contains(&value) {
        return Ok(());
    }
    Err(InvalidSetting::new(field, value, "1 to 10000"))
}

/// NaN lies in no range.
fn share(field: &'static str, value: f64) -> Result<(), InvalidSetting> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(InvalidSetting::new(field, value, "above 0, at most 1"))
}

fn duration(field: &'static str, value: Duration) -> Result<(), InvalidSetting> {
    if value >= MIN_DURATION {
        return Ok(());
    }
    let value = format!("{value:?}");
    Err(InvalidSetting::new(field, value, "1 ms and above"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BreakerConfig, CloseWhen, check};

    const SECOND: Duration = Duration::from_secs(1);

    fn rated() -> BreakerConfig {
        BreakerConfig::new().failure_rate_threshold(0.5)
    }

    #[test]
    fn the_presets_are_in_range() {
        for config in [
            BreakerConfig::count(5, 10 * SECOND),
            BreakerConfig::service_default(),
        ] {
            assert_eq!(check(&config), Ok(()));
        }
    }

    #[test]
    fn a_breaker_without_a_rule_is_refused() {
        let error = check(&BreakerConfig::new()).unwrap_err();
        assert_eq!(error.field(), "BreakerConfig");
    }

    #[test]
    fn every_value_out_of_range_is_refused_by_name() {
        let zero = Duration::ZERO;
        let rate = |rate| BreakerConfig::new().failure_rate_threshold(rate);
        let slow = |rate| BreakerConfig::new().slow_call_rate_threshold(rate);
        let cases = [
            (
                BreakerConfig::new().consecutive_failures(0),
                "consecutive_failures",
            ),
            (
                BreakerConfig::new().consecutive_failures(10_001),
                "consecutive_failures",
            ),
            (BreakerConfig::count(0, SECOND), "failures_within"),
            (BreakerConfig::count(5, zero), "failures_within (window)"),
            (rate(0.0), "failure_rate_threshold"),
            (rate(-0.1), "failure_rate_threshold"),
            (rate(1.01), "failure_rate_threshold"),
            (rate(f64::NAN), "failure_rate_threshold"),
            (rate(f64::INFINITY), "failure_rate_threshold"),
            (slow(0.5), "slow_call_duration"),
            (rated().slow_call_duration(SECOND), "slow_call_duration"),
            (
                slow(f64::NAN).slow_call_duration(SECOND),
                "slow_call_rate_threshold",
            ),
            (slow(0.5).slow_call_duration(zero), "slow_call_duration"),
            (rated().window(zero), "window"),
            (rated().window(Duration::from_millis(9)), "window"),
            (rated().count_window(0), "count_window"),
            (rated().count_window(1_001), "count_window"),
            (rated().count_window(5).min_requests(6), "min_requests"),
            (rated().min_requests(0), "min_requests"),
            (rated().min_endpoints(0), "min_endpoints"),
            (rated().min_endpoints(4), "min_endpoints"),
            (rated().break_duration(zero), "break_duration"),
            (
                rated().break_duration(Duration::from_micros(999)),
                "break_duration",
            ),
            (rated().break_jitter(1.5), "break_jitter"),
            (rated().break_jitter(f64::NAN), "break_jitter"),
            (rated().max_break_duration(SECOND), "max_break_duration"),
            (rated().healthy_period(zero), "healthy_period"),
            (rated().ramp(zero), "ramp"),
            (rated().probe_timeout(zero), "probe_timeout"),
            (rated().half_open(0, CloseWhen::Successes(1)), "half_open"),
            (rated().half_open(256, CloseWhen::Successes(1)), "half_open"),
        ];
        for (config, field) in cases {
            let error = check(&config).expect_err(field);
            assert_eq!(error.field(), format!("BreakerConfig::{field}"));
        }
    }

    #[test]
    fn what_closes_it_must_be_possible() {
        for close in [
            CloseWhen::Successes(0),
            CloseWhen::FailureRateBelow(0.0),
            CloseWhen::FailureRateBelow(f64::NAN),
            CloseWhen::FailureRateBelow(1.1),
        ] {
            assert!(check(&rated().half_open(1, close)).is_err(), "{close:?}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_allowed() {
        let config = rated()
            .failure_rate_threshold(1.0)
            .count_window(1_000)
            .min_requests(1_000)
            .half_open(255, CloseWhen::FailureRateBelow(1.0))
            .break_duration(Duration::MAX)
            .max_break_duration(Duration::MAX);
        assert_eq!(check(&config), Ok(()));
    }
}
