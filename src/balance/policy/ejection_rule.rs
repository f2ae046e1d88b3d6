//! When an endpoint is ejected, for how long, and how many may be out.

use std::time::Duration;

use crate::{balance::config::positive, error::InvalidSetting};

/// A restarted server is back about this soon.
pub const DEFAULT_EJECTION_TIME: Duration = Duration::from_secs(5);

/// Each failed probe lengthens the time a little: a probe a minute would leave a recovered server unused.
pub const DEFAULT_EJECTION_GROWTH: f64 = 1.5;

/// At most one call in 10 s finds out that the endpoint is still bad.
pub const DEFAULT_MAX_EJECTION_TIME: Duration = Duration::from_secs(10);

/// With more out, the rest would likely be overloaded, and the fault is likely not the endpoints'.
pub const DEFAULT_MAX_EJECTED: f64 = 0.5;

/// With less than half of the set usable, load on the rest is the greater danger.
pub const DEFAULT_PANIC_BELOW: f64 = 0.5;

/// A period is shortened by up to a tenth, so that clients which ejected together do not probe together.
const JITTER: f64 = 0.1;

/// When an endpoint is left out for a while because its calls fail one after the other.
///
/// An ejected endpoint comes back by one probe: when its time is over one call goes there, of those that are retried
/// if they fail; any call, when none of those came for as long again. A success brings it back, a failure lengthens
/// the next period. 429 counts as load, never for ejection.
///
/// At most half of the set is ejected, and none of a set of one. Where one more would have to go, the one that has been
/// out longest, and for a second at least, is probed at once: if it has recovered, the other one takes its place. If less than half of the set is usable (because good
/// endpoints left it, say) all are used until that changes, whatever the cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    threshold: Threshold,
    time: Duration,
    growth: f64,
    max_time: Duration,
    max_share: f64,
    at_least_one: bool,
    panic_below: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    Never,
    Fixed(u32),
    Adaptive,
}

impl Ejection {
    /// Ejects after so many failures in a row that chance would produce them once in 100 minutes: `k = max(2,
    /// ceil(ln(6000 r) / ln(1/p)))`, at `r` calls per second and endpoint, where the other endpoints fail with a
    /// ratio of `p` (at least 1 %). That is 2 at 1/s, 4 at 600/s, and 12 where a fifth of all calls fails. The default.
    #[must_use]
    pub const fn adaptive() -> Self {
        Self::new(Threshold::Adaptive)
    }

    /// Ejects after `failures` in a row, from 1 on.
    #[must_use]
    pub const fn consecutive(failures: u32) -> Self {
        Self::new(Threshold::Fixed(failures))
    }

    /// Ejects nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self::new(Threshold::Never)
    }

    /// Sets for how long an endpoint is out the first time, up to a tenth less by chance. Default: 5 s.
    #[must_use]
    pub const fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many times longer each further period is, from 1 on. Default: 1.5.
    #[must_use]
    pub const fn growth(mut self, growth: f64) -> Self {
        self.growth = growth;
        self
    }

    /// Sets the longest period. Default: 10 s.
    #[must_use]
    pub const fn max_time(mut self, time: Duration) -> Self {
        self.max_time = time;
        self
    }

    /// Sets the share of the set that may be out at once, 0 to 1; a fraction of an endpoint is not ejected.
    /// Default: 0.5.
    #[must_use]
    pub const fn max_share(mut self, share: f64) -> Self {
        self.max_share = share;
        self
    }

    /// Lets one endpoint be ejected from a set of two or more, however small the share. Default: no, and with the
    /// default share of one half it makes no difference.
    #[must_use]
    pub const fn at_least_one(mut self, allowed: bool) -> Self {
        self.at_least_one = allowed;
        self
    }

    /// Sets the usable share of the set below which all endpoints are used, 0 to 1. Default: 0.5.
    #[must_use]
    pub const fn panic_below(mut self, share: f64) -> Self {
        self.panic_below = share;
        self
    }

    const fn new(threshold: Threshold) -> Self {
        Self {
            threshold,
            time: DEFAULT_EJECTION_TIME,
            growth: DEFAULT_EJECTION_GROWTH,
            max_time: DEFAULT_MAX_EJECTION_TIME,
            max_share: DEFAULT_MAX_EJECTED,
            at_least_one: false,
            panic_below: DEFAULT_PANIC_BELOW,
        }
    }

    pub(crate) const fn threshold(&self) -> Threshold {
        self.threshold
    }

    pub(crate) const fn panic_share(&self) -> f64 {
        self.panic_below
    }

    /// How many of `size` endpoints may be out.
    pub(crate) fn most_ejected(&self, size: usize) -> usize {
        if size < 2 {
            return 0;
        }
        // The margin keeps 0.29 of 100 at 29.
        let most = (size as f64 * self.max_share + 1e-9) as usize;
        most.max(usize::from(self.at_least_one))
    }

    /// The period after `failed_probes` in a row, before jitter.
    pub(crate) fn period(&self, failed_probes: u8) -> Duration {
        let seconds = self.time.as_secs_f64() * self.growth.powi(failed_probes.into());
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(Duration::MAX)
            .min(self.max_time)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        if self.threshold == Threshold::Fixed(0) {
            return Err(InvalidSetting::new(
                "Ejection::consecutive",
                0,
                "1 and above; Ejection::off() ejects nothing",
            ));
        }
        positive("Ejection::time", self.time)?;
        if self.max_time < self.time {
            return Err(InvalidSetting::new(
                "Ejection::max_time",
                format!("{:?}", self.max_time),
                "at least the ejection time",
            ));
        }
        if !(self.growth >= 1.0 && self.growth.is_finite()) {
            return Err(InvalidSetting::new(
                "Ejection::growth",
                self.growth,
                "a finite number from 1 on",
            ));
        }
        share("Ejection::max_share", self.max_share)?;
        share("Ejection::panic_below", self.panic_below)
    }
}

impl Default for Ejection {
    /// [`Ejection::adaptive`].
    fn default() -> Self {
        Self::adaptive()
    }
}

/// A period less its jitter, by `unit` in [0, 1]; one without end keeps none.
pub(super) fn shortened(period: Duration, unit: f64) -> Duration {
    match period {
        Duration::MAX => period,
        period => period.mul_f64(1.0 - JITTER * unit),
    }
}

fn share(field: &'static str, share: f64) -> Result<(), InvalidSetting> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err(InvalidSetting::new(field, share, "0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |result: Result<(), InvalidSetting>, field: &str| {
            let message = result.expect_err(field).to_string();
            assert!(message.contains(field), "{message}");
        };
        refused(Ejection::consecutive(0).check(), "consecutive");
        refused(
            Ejection::adaptive().time(Duration::ZERO).check(),
            "Ejection::time",
        );
        refused(
            Ejection::adaptive()
                .max_time(Duration::from_secs(1))
                .check(),
            "Ejection::max_time",
        );
        refused(
            Ejection::adaptive().growth(f64::INFINITY).check(),
            "Ejection::growth",
        );
        refused(
            Ejection::adaptive().max_share(1.01).check(),
            "Ejection::max_share",
        );
        refused(
            Ejection::adaptive().panic_below(f64::NAN).check(),
            "Ejection::panic_below",
        );
    }

    #[test]
    fn the_defaults_and_endless_times_are_accepted() {
        assert!(Ejection::default().check().is_ok());
        let endless = Ejection::default()
            .time(Duration::MAX)
            .max_time(Duration::MAX);
        assert!(endless.check().is_ok());
        assert_eq!(endless.period(200), Duration::MAX);
    }

    // OUT-01, envoyproxy/envoy#26877
    #[test]
    fn the_share_is_a_bound_on_what_is_out_afterwards() {
        let most = |share, size| Ejection::default().max_share(share).most_ejected(size);
        assert_eq!(
            [most(0.5, 3), most(0.67, 3), most(0.29, 100), most(1.0, 4)],
            [1, 2, 29, 4]
        );
        assert_eq!([most(0.5, 1), most(1.0, 1), most(0.1, 2)], [0, 0, 0]);
        assert_eq!(
            Ejection::default()
                .max_share(0.1)
                .at_least_one(true)
                .most_ejected(2),
            1
        );
        assert_eq!(
            Ejection::default()
                .max_share(0.1)
                .at_least_one(true)
                .most_ejected(1),
            0
        );
    }

    #[test]
    fn periods_grow_to_their_limit() {
        let periods: Vec<_> = (0..4)
            .map(|n| Ejection::default().period(n).as_secs_f64())
            .collect();
        assert_eq!(periods, [5.0, 7.5, 10.0, 10.0]);
    }
}
