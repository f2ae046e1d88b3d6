use std::time::Duration;

use crate::rng::Random;

/// How long the circuit stays open, unless [`BreakerConfig::break_duration`] says otherwise: 5 s.
///
/// Long enough for a process to restart. Callers of a service that recovers faster pay for every second
/// more: the ready-made client breaks for one second at most.
pub const DEFAULT_BREAK_DURATION: Duration = Duration::from_secs(5);

/// The stretch over which rates are taken, unless told otherwise: 10 s.
///
/// Short enough that an outage is seen while it is young, long enough to hold some results of a
/// client with one call per second.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// How many results a rate needs, unless told otherwise: 10. With fewer, chance decides.
pub const DEFAULT_MIN_REQUESTS: u32 = 10;

/// After how long without a result a probe gives up its slot, unless told otherwise: 10 s.
///
/// A probe that hangs must not keep the circuit half-open for ever.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The jitter of growing break durations, unless told otherwise: half of the duration.
///
/// Clients that saw the same outage must not come back at the same instant.
pub const DEFAULT_GROWTH_JITTER: f64 = 0.5;

/// How long the circuit must have been closed for the next break to be short again: 60 s.
pub const DEFAULT_HEALTHY_PERIOD: Duration = Duration::from_secs(60);

/// The longest break that a server's pushback can bring about: 60 s. A server that asks for more
/// is probed all the same.
pub const MAX_PUSHBACK: Duration = Duration::from_secs(60);

/// The settings of a [`Breaker`](crate::Breaker).
///
/// A rule that is not named is off, and at least one must be named: consecutive failures,
/// failures within a stretch of time, failure rate, or slow-call rate. The circuit opens when any
/// of them is met. Setters only record; `build` checks.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::{Breaker, breaker::CloseWhen};
///
/// let breaker = Breaker::builder()
///     .failure_rate_threshold(0.5)
///     .min_requests(20)
///     .window(Duration::from_secs(10))
///     .break_duration(Duration::from_secs(5))
///     .half_open(3, CloseWhen::Successes(2))
///     .build()?;
/// # Ok::<(), evenkeel::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct BreakerConfig {
    pub(super) consecutive: Option<u32>,
    pub(super) within: Option<(u32, Duration)>,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_rate: Option<f64>,
    pub(super) slow_duration: Option<Duration>,
    pub(super) window: RateWindow,
    pub(super) min_requests: u32,
    pub(super) min_endpoints: Option<u32>,
    pub(super) break_duration: Duration,
    pub(super) break_jitter: Option<f64>,
    pub(super) max_break: Option<Duration>,
    pub(super) healthy_period: Duration,
    pub(super) probes: u32,
    pub(super) close_when: CloseWhen,
    pub(super) probe_timeout: Duration,
    pub(super) ramp: Option<Duration>,
    pub(super) random: Option<Random>,
}

/// What the rates are taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RateWindow {
    Time(Duration),
    Count(u32),
}

/// What closes a half-open circuit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CloseWhen {
    /// This many successes, 1 to 10 000; the first failure opens it again.
    ///
    /// The number of probes bounds how many run at once, so there may be more successes than that.
    Successes(u32),
    /// All probes have ended and less than this share of them failed, above 0 to 1.
    ///
    /// It opens again as soon as that can no longer come true.
    FailureRateBelow(f64),
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl BreakerConfig {
    /// Settings without a rule; one has to be added.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            consecutive: None,
            within: None,
            failure_rate: None,
            slow_rate: None,
            slow_duration: None,
            window: RateWindow::Time(DEFAULT_WINDOW),
            min_requests: DEFAULT_MIN_REQUESTS,
            min_endpoints: None,
            break_duration: DEFAULT_BREAK_DURATION,
            break_jitter: None,
            max_break: None,
            healthy_period: DEFAULT_HEALTHY_PERIOD,
            probes: 1,
            close_when: CloseWhen::Successes(1),
            probe_timeout: DEFAULT_PROBE_TIMEOUT,
            ramp: None,
            random: None,
        }
    }

    /// The textbook breaker: `failures` within `window` open it for 30 s, one good probe closes it.
    ///
    /// It counts and does not weigh, so it misfires on a busy service: with a share `p` of the
    /// calls failing all the time, it opens above `failures / (window * p)` calls per second. Five
    /// in ten seconds is met by a healthy service with 1 % errors from 50 calls per second on, and
    /// by one with 10 % from 5. Above such rates take
    /// [`failure_rate_threshold`](Self::failure_rate_threshold).
    #[must_use]
    pub const fn count(failures: u32, window: Duration) -> Self {
        Self::new()
            .failures_within(failures, window)
            .break_duration(Duration::from_secs(30))
    }

    /// The default of the ready-made client, for one breaker over a whole service.
    ///
    /// It opens at a failure rate of 80 % or more of at least 5 attempts in 5 s, seen on at least 3
    /// endpoints (or on all of them, if there are fewer) where a balancer is below: less than that
    /// is for the balancer to route around, and an open circuit would make it an outage. It breaks
    /// for 0.5 to 1 s and closes on one successful probe: a probe needs a call, so there are never
    /// more probes than calls, and long breaks are what makes recovery slow.
    #[must_use]
    pub const fn service_default() -> Self {
        Self::new()
            .failure_rate_threshold(0.8)
            .min_requests(5)
            .window(Duration::from_secs(5))
            .min_endpoints(3)
            .break_duration(Duration::from_secs(1))
            .break_jitter(0.5)
    }

    /// Opens after this many failures without a success in between, 1 to 10 000.
    ///
    /// For single endpoints: under the many concurrent calls of a whole service, a run of failures
    /// says little. Throttled and neutral results neither extend nor end the run.
    ///
    /// **Default**: off.
    #[must_use]
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive = Some(failures);
        self
    }

    /// Opens at this many failures, 1 to 10 000, less than `window` apart; `window` at least 1 ms.
    ///
    /// The window slides and is exact. See [`count`](Self::count) for where such a rule misfires.
    ///
    /// **Default**: off.
    #[must_use]
    pub const fn failures_within(mut self, failures: u32, window: Duration) -> Self {
        self.within = Some((failures, window));
        self
    }

    /// Opens when at least this share of the results in the window are failures, above 0 to 1.
    ///
    /// Throttled results (429) count as failures here and in no other rule. The rate is looked at
    /// when a failure comes, and only from [`min_requests`](Self::min_requests) results on.
    ///
    /// **Default**: off.
    #[must_use]
    pub const fn failure_rate_threshold(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Opens when at least this share of the results in the window took
    /// [`slow_call_duration`](Self::slow_call_duration) or longer, above 0 to 1.
    ///
    /// A slow success fails a probe, too. The HTTP layer measures until the response head.
    ///
    /// **Default**: off.
    #[must_use]
    pub const fn slow_call_rate_threshold(mut self, rate: f64) -> Self {
        self.slow_rate = Some(rate);
        self
    }

    /// From which duration on a call is slow; at least 1 ms. Goes with
    /// [`slow_call_rate_threshold`](Self::slow_call_rate_threshold), which needs it.
    ///
    /// **Default**: none.
    #[must_use]
    pub const fn slow_call_duration(mut self, duration: Duration) -> Self {
        self.slow_duration = Some(duration);
        self
    }

    /// Takes the rates over the last stretch of time, at least 10 ms.
    ///
    /// It is kept in ten buckets and covers between nine and ten tenths of its length.
    ///
    /// **Default**: 10 s ([`DEFAULT_WINDOW`]).
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = RateWindow::Time(window);
        self
    }

    /// Takes the rates over the last results instead of a stretch of time, 1 to 1000 of them.
    ///
    /// It decides by as many results for a quiet service as for a busy one, but what it remembers
    /// may be hours old.
    ///
    /// **Default**: off, [`window`](Self::window) rules.
    #[must_use]
    pub const fn count_window(mut self, results: u32) -> Self {
        self.window = RateWindow::Count(results);
        self
    }

    /// How many results a rate needs before it means anything, 1 to 10 000, at most the count window.
    ///
    /// **Default**: 10 ([`DEFAULT_MIN_REQUESTS`]).
    #[must_use]
    pub const fn min_requests(mut self, results: u32) -> Self {
        self.min_requests = results;
        self
    }

    /// Opens on failures only if they were seen on this many endpoints, 1 to 3, or on all where
    /// there are fewer.
    ///
    /// For a breaker above a balancer: a single bad endpoint is routed around, not answered with
    /// an open circuit. A failure that names no endpoint (there is no balancer below) is judged
    /// without this condition. It does not apply to the slow-call rate.
    ///
    /// **Default**: off.
    #[must_use]
    pub const fn min_endpoints(mut self, endpoints: u32) -> Self {
        self.min_endpoints = Some(endpoints);
        self
    }

    /// How long the circuit stays open before it probes; at least 1 ms.
    ///
    /// A call at exactly that instant is let through. The resolution is a millisecond.
    ///
    /// **Default**: 5 s ([`DEFAULT_BREAK_DURATION`]).
    #[must_use]
    pub const fn break_duration(mut self, duration: Duration) -> Self {
        self.break_duration = duration;
        self
    }

    /// Draws each break between `(1 - jitter)` times its duration and all of it; 0 to 1.
    ///
    /// **Default**: 0, and 0.5 where breaks grow ([`DEFAULT_GROWTH_JITTER`]).
    #[must_use]
    pub const fn break_jitter(mut self, jitter: f64) -> Self {
        self.break_jitter = Some(jitter);
        self
    }

    /// Doubles each further break up to this duration, at least the first one's.
    ///
    /// For probes that are expensive. It starts again from
    /// [`break_duration`](Self::break_duration) after a [`healthy_period`](Self::healthy_period).
    ///
    /// **Default**: off, since a probe needs a call and so never adds load; 60 s is customary.
    #[must_use]
    pub const fn max_break_duration(mut self, longest: Duration) -> Self {
        self.max_break = Some(longest);
        self
    }

    /// How long the circuit must have been closed for the next break not to grow; at least 1 ms.
    ///
    /// **Default**: 60 s ([`DEFAULT_HEALTHY_PERIOD`]).
    #[must_use]
    pub const fn healthy_period(mut self, period: Duration) -> Self {
        self.healthy_period = period;
        self
    }

    /// How many probes may run at once while half-open, 1 to 255, and what closes the circuit.
    ///
    /// **Default**: one probe and one success.
    #[must_use]
    pub const fn half_open(mut self, probes: u32, close_when: CloseWhen) -> Self {
        self.probes = probes;
        self.close_when = close_when;
        self
    }

    /// After how long without a result a probe's slot is given to another call; at least 1 ms.
    ///
    /// Where the probe has an attempt limit, the longer of the two counts; where a single probe was answered and its
    /// body goes on, as a stream's does, 1 s from then. What the probe says after that is ignored.
    ///
    /// **Default**: 10 s ([`DEFAULT_PROBE_TIMEOUT`]).
    #[must_use]
    pub const fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Lets traffic back in gradually over this long after closing; at least 1 ms.
    ///
    /// The share of calls that pass grows from a tenth to all of them; the others are rejected as
    /// if the circuit were open. For a service with cold caches.
    ///
    /// **Default**: off, since a limit on concurrency does this better.
    #[must_use]
    pub const fn ramp(mut self, duration: Duration) -> Self {
        self.ramp = Some(duration);
        self
    }

    /// Where jitter and ramp draw their random numbers from.
    ///
    /// **Default**: a generator that the operating system seeded.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }
}
