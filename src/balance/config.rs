//! What a balancer can be told.

use std::time::Duration;

use crate::{
    discover::Endpoint,
    error::{BoxError, InvalidSetting},
};

/// Two candidates cannot hold a mixed fleet steady; five nearly reach a look at all of them.
pub const DEFAULT_CANDIDATES: usize = 5;

/// Without a tolerance all clients agree on the endpoint that is a little faster and run it to twice the others' load.
pub const DEFAULT_TOLERANCE: f64 = 1.5;

/// Long enough for a slow endpoint to stay known between two looks at it, short enough to forget a bad minute.
pub const DEFAULT_DECAY: Duration = Duration::from_secs(10);

/// Caches and connection pools of a new server fill in about this time.
pub const DEFAULT_SLOW_START_WINDOW: Duration = Duration::from_secs(10);

/// Far above what one endpoint serves at once, and a bound on what piles up before one that hangs.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 1024;

/// More candidates are no better than all.
const MOST_CANDIDATES: usize = 32;

/// How an endpoint is chosen for an attempt.
///
/// Whichever is chosen, endpoints that this call has tried are avoided while there are others, then zones that it has
/// tried; ejected and full ones receive nothing. Picks by load count failures as load.
///
/// | pick | by | good for |
/// | --- | --- | --- |
/// | [`least_cost`](Self::least_cost) (default) | latency x calls in flight, of 5 | servers that differ, or that go bad |
/// | [`p2c_peak_ewma`](Self::p2c_peak_ewma) | latency x calls in flight, of 2 | what tower and linkerd do |
/// | [`p2c_in_flight`](Self::p2c_in_flight), [`choices`](Self::choices) | calls in flight, of 2 or d | equal servers |
/// | [`least_in_flight`](Self::least_in_flight) | calls in flight, of all | few endpoints, many calls each |
/// | [`round_robin`](Self::round_robin), [`random`](Self::random) | turn, chance | equal servers and equal calls |
///
/// ```
/// use evenkeel::balance::Pick;
///
/// let gentle = Pick::least_cost().tolerance(2.0);
/// # let _ = gentle;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    way: Way,
    tolerance: f64,
    decay: Duration,
}

/// The ways to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    RoundRobin,
    Random,
    LeastInFlight,
    Choices(usize),
    Cost(usize),
}

impl Pick {
    /// The least `latency x (calls in flight + 1)`, calls by weight, of 5 random endpoints. The default.
    ///
    /// Latency is a peak EWMA: it rises at once and falls with its decay, towards the mean of the set when idle; the
    /// age of the oldest call in flight counts as a sample. Latencies up to 1.5 times the best one count as equal.
    #[must_use]
    pub const fn least_cost() -> Self {
        Self::new(Way::Cost(DEFAULT_CANDIDATES), DEFAULT_TOLERANCE)
    }

    /// The lower latency x calls in flight of 2 random endpoints, without a tolerance.
    #[must_use]
    pub const fn p2c_peak_ewma() -> Self {
        Self::new(Way::Cost(2), 1.0)
    }

    /// The fewer calls in flight of 2 random endpoints.
    #[must_use]
    pub const fn p2c_in_flight() -> Self {
        Self::choices(2)
    }

    /// The fewest calls in flight of `d` random endpoints, 1 to 32.
    #[must_use]
    pub const fn choices(d: usize) -> Self {
        Self::new(Way::Choices(d), 1.0)
    }

    /// The fewest calls in flight of all; looks at every endpoint.
    #[must_use]
    pub const fn least_in_flight() -> Self {
        Self::new(Way::LeastInFlight, 1.0)
    }

    /// One after the other, from a random start on that all clones of a client share. By weight, if weights differ.
    #[must_use]
    pub const fn round_robin() -> Self {
        Self::new(Way::RoundRobin, 1.0)
    }

    /// Any, by weight.
    #[must_use]
    pub const fn random() -> Self {
        Self::new(Way::Random, 1.0)
    }

    /// Sets how many random endpoints are compared, 1 to 32. Default: 5; picks that compare none or all ignore it.
    #[must_use]
    pub const fn candidates(mut self, candidates: usize) -> Self {
        self.way = match self.way {
            Way::Cost(_) => Way::Cost(candidates),
            Way::Choices(_) => Way::Choices(candidates),
            other => other,
        };
        self
    }

    /// Sets up to how many times the best candidate's latency counts as equal to it, from 1 (no tolerance) on.
    /// Default: 1.5 for [`least_cost`](Self::least_cost), 1 for [`p2c_peak_ewma`](Self::p2c_peak_ewma).
    #[must_use]
    pub const fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// Sets the time in which the latency estimate forgets. Default: 10 s; `Duration::MAX`: never.
    #[must_use]
    pub const fn decay(mut self, time: Duration) -> Self {
        self.decay = time;
        self
    }

    const fn new(way: Way, tolerance: f64) -> Self {
        Self {
            way,
            tolerance,
            decay: DEFAULT_DECAY,
        }
    }

    pub(crate) const fn way(&self) -> Way {
        self.way
    }

    pub(crate) const fn times(&self) -> f64 {
        self.tolerance
    }

    pub(crate) const fn decay_time(&self) -> Duration {
        self.decay
    }

    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        if let Way::Cost(d) | Way::Choices(d) = self.way
            && !(1..=MOST_CANDIDATES).contains(&d)
        {
            return Err(InvalidSetting::new("Pick::candidates", d, "1 to 32"));
        }
        if !(self.tolerance >= 1.0 && self.tolerance.is_finite()) {
            return Err(InvalidSetting::new(
                "Pick::tolerance",
                self.tolerance,
                "a finite number from 1 on",
            ));
        }
        positive("Pick::decay", self.decay)
    }
}

impl Default for Pick {
    /// [`Pick::least_cost`].
    fn default() -> Self {
        Self::least_cost()
    }
}

/// How an endpoint that joins a running set grows into its share: by chance it is passed over as a candidate, at first
/// nine times of ten. Endpoints of the first set, and those that come back from ejection, start with all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    window: Option<Duration>,
}

impl SlowStart {
    /// Grows for this long. Default: 10 s.
    #[must_use]
    pub const fn over(window: Duration) -> Self {
        Self {
            window: Some(window),
        }
    }

    /// Gives a joining endpoint its full share at once.
    #[must_use]
    pub const fn off() -> Self {
        Self { window: None }
    }

    pub(crate) const fn window(&self) -> Option<Duration> {
        self.window
    }

    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        self.window
            .map_or(Ok(()), |window| positive("SlowStart::over", window))
    }
}

impl Default for SlowStart {
    fn default() -> Self {
        Self::over(DEFAULT_SLOW_START_WINDOW)
    }
}

pub(crate) fn positive(field: &'static str, time: Duration) -> Result<(), InvalidSetting> {
    match time.is_zero() {
        true => Err(InvalidSetting::new(field, "0 s", "more than zero")),
        false => Ok(()),
    }
}

/// Makes the service of an endpoint.
pub(crate) struct Make<S> {
    pub(crate) make: Box<MakeFn<S>>,
    /// Whether it may block, and is called on a thread for such work.
    pub(crate) blocks: bool,
}

pub(crate) type MakeFn<S> = dyn Fn(&Endpoint) -> Result<S, BoxError> + Send + Sync;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |result: Result<(), InvalidSetting>, field: &str| {
            let message = result.expect_err(field).to_string();
            assert!(message.contains(field), "{message}");
        };
        refused(Pick::choices(0).check(), "Pick::candidates");
        refused(
            Pick::least_cost().candidates(33).check(),
            "Pick::candidates",
        );
        refused(
            Pick::least_cost().tolerance(f64::NAN).check(),
            "Pick::tolerance",
        );
        refused(Pick::least_cost().tolerance(0.5).check(), "Pick::tolerance");
        refused(
            Pick::least_cost().decay(Duration::ZERO).check(),
            "Pick::decay",
        );
        refused(SlowStart::over(Duration::ZERO).check(), "SlowStart::over");
    }

    #[test]
    fn the_defaults_and_endless_times_are_accepted() {
        assert!(Pick::default().decay(Duration::MAX).check().is_ok());
        assert!(SlowStart::default().check().is_ok());
    }
}
