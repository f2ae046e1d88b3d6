use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

use super::{attempts::Attempts, disposition::Disposition};

/// What happened to one call: each attempt, and why there was no further one.
///
/// Of more than 32 attempts it tells the first 16 and the last 16.
///
/// On every [`Error`](crate::Error), and in the extensions of a response that failed or was retried.
/// `Display` tells it in one line without query strings, header values, bodies or keys.
#[derive(Clone, Debug)]
pub struct Report {
    attempts: Attempts,
    stop: Option<Stop>,
    elapsed: Duration,
    disposition: Disposition,
}

/// One attempt of a call.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    pub(crate) number: u32,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) ran: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) disposition: Disposition,
    pub(crate) backoff: Option<Duration>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// With this response status.
    Status(StatusCode),
    /// With this status of gRPC, by its name.
    Grpc(&'static str),
    /// With an error of this sort.
    Failed(&'static str),
    /// It was cut off while an answer was awaited.
    Unanswered,
    /// It was cut off before it was sent.
    Held,
}

/// Why a call was not tried once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The answer is not one that a repetition would change.
    NotRetryable,
    /// Repeating it could do harm: the method is unsafe, there is no key, and it may have happened.
    NotIdempotent,
    /// All attempts were used.
    AttemptsExhausted {
        /// The limit, `max_attempts`.
        max_attempts: u32,
    },
    /// A further attempt could not have ended before the deadline.
    DeadlineInfeasible,
    /// The retry budget was empty, or half empty if it is one of [`Budget::grpc_throttling`](crate::Budget::grpc_throttling).
    BudgetEmpty,
    /// The request body was a stream that is gone, or too large to be kept.
    BodyNotReplayable,
    /// The server answered before it had read the whole request.
    EarlyAnswer,
    /// The server said not to retry.
    ServerForbids,
    /// The server asked for a longer pause than is allowed.
    PushbackTooLong {
        /// What it asked for.
        asked: Duration,
    },
    /// Every endpoint left lies outside the scope in which the key is known.
    OutOfKeyScope,
    /// The key may have been forgotten by the server.
    KeyExpired,
    /// The circuit breaker is open.
    CircuitOpen,
    /// The caller's call was cut off.
    CutOff,
}

impl Report {
    pub(crate) const fn new(
        attempts: Attempts,
        stop: Option<Stop>,
        elapsed: Duration,
        disposition: Disposition,
    ) -> Self {
        Self {
            attempts,
            stop,
            elapsed,
            disposition,
        }
    }

    /// A report of a call that no attempt was made for.
    pub(crate) const fn empty() -> Self {
        Self::new(Attempts::none(), None, Duration::ZERO, Disposition::NotSent)
    }

    /// The attempts, in order; of more than 32 the first 16 and the last 16.
    #[must_use]
    pub fn attempts(&self) -> &[AttemptReport] {
        self.attempts.told()
    }

    /// How many attempts are left out between the first and the last of [`attempts`](Self::attempts).
    #[must_use]
    pub const fn omitted(&self) -> u32 {
        self.attempts.omitted()
    }

    /// How many attempts there were, those left out included.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.omitted().saturating_add(self.attempts().len() as u32)
    }

    /// Why there was no further attempt; `None` after a success.
    #[must_use]
    pub const fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// How long the call took until this report.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The worst over all attempts.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// Whether an attempt may have been acted on without our having its answer.
    #[must_use]
    pub const fn may_have_happened(&self) -> bool {
        self.disposition.may_have_happened()
    }

    pub(crate) fn worsen(&mut self, disposition: Disposition) {
        self.disposition = self.disposition.max(disposition);
    }
}

impl AttemptReport {
    /// Counts from 1.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The endpoint it went to, where a balancer chose one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// How long it ran.
    #[must_use]
    pub const fn ran(&self) -> Duration {
        self.ran
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What is known of its effect.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// The pause after it, if another attempt followed.
    #[must_use]
    pub const fn backoff(&self) -> Option<Duration> {
        self.backoff
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        let noun = if count == 1 { "attempt" } else { "attempts" };
        write!(f, "{count} {noun} in {}", Short(self.elapsed))?;
        for (index, attempt) in self.attempts().iter().enumerate() {
            if self.attempts.resume_at(index) {
                write!(f, "; {} left out", self.omitted())?;
            }
            write!(f, "{} {attempt}", if index == 0 { ":" } else { ";" })?;
        }
        match self.stop {
            Some(stop) => write!(f, "; not tried again: {stop}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " {endpoint}")?;
        }
        write!(f, " {} after {}", self.outcome, Short(self.ran))?;
        match self.backoff {
            Some(pause) if pause.is_zero() => f.write_str(", tried elsewhere at once"),
            Some(pause) => write!(f, ", waited {}", Short(pause)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => f.write_str(status.as_str()),
            Self::Grpc(status) => f.write_str(status),
            Self::Failed(sort) => f.write_str(sort),
            Self::Unanswered => f.write_str("cut off without an answer"),
            Self::Held => f.write_str("cut off before it was sent"),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRetryable => f.write_str("a repetition would not change the answer"),
            Self::NotIdempotent => f.write_str(
                "repeating an unsafe method without an idempotency key could do it twice \
                 (idempotency_keys brings one; CallPolicy::idempotent says that none is needed)",
            ),
            Self::AttemptsExhausted { max_attempts } => {
                write!(f, "all attempts were used (max_attempts = {max_attempts})")
            }
            Self::DeadlineInfeasible => {
                f.write_str("another attempt could not end before the deadline")
            }
            Self::BudgetEmpty => f.write_str(
                "the retry budget is empty (Budget::new or Budget::grpc_throttling raises it)",
            ),
            Self::BodyNotReplayable => {
                f.write_str("the request body was a stream that cannot be sent again")
            }
            Self::EarlyAnswer => {
                f.write_str("the server answered before it had read the request body")
            }
            Self::ServerForbids => f.write_str("the server said not to"),
            Self::PushbackTooLong { asked } => {
                write!(
                    f,
                    "the server asked for a pause of {}, which is too long",
                    Short(*asked)
                )
            }
            Self::OutOfKeyScope => {
                f.write_str("every endpoint left lies outside the idempotency key's scope")
            }
            Self::KeyExpired => f.write_str("the idempotency key's lifetime is over"),
            Self::CircuitOpen => f.write_str("the circuit breaker is open"),
            Self::CutOff => f.write_str("the call was cut off"),
        }
    }
}

/// A duration as people write it: three digits are enough.
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1000.0;
        match millis {
            0.0 => f.write_str("0 ms"),
            ..10.0 => write!(f, "{millis:.1} ms"),
            ..1000.0 => write!(f, "{millis:.0} ms"),
            ..100_000.0 => write!(f, "{:.2} s", millis / 1000.0),
            _ => write!(f, "{:.0} s", millis / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, outcome: Outcome, backoff: Option<u64>) -> AttemptReport {
        AttemptReport {
            number,
            endpoint: Some(Arc::from("10.0.0.1:80")),
            ran: Duration::from_millis(12),
            outcome,
            disposition: Disposition::Answered,
            backoff: backoff.map(Duration::from_millis),
        }
    }

    #[test]
    fn what_a_setting_can_change_is_said_with_the_setting() {
        for (stop, setting) in [
            (Stop::NotIdempotent, "CallPolicy::idempotent"),
            (Stop::AttemptsExhausted { max_attempts: 3 }, "max_attempts"),
            (Stop::BudgetEmpty, "Budget::new"),
        ] {
            assert!(stop.to_string().contains(setting), "{stop}");
        }
    }

    #[test]
    fn the_report_tells_the_story_in_one_line() {
        let unavailable = Outcome::Status(StatusCode::SERVICE_UNAVAILABLE);
        let mut attempts = Attempts::default();
        attempts.push(attempt(1, unavailable, Some(40)));
        attempts.push(attempt(2, Outcome::Failed("connection refused"), Some(0)));
        attempts.push(attempt(3, Outcome::Unanswered, None));
        let stop = Some(Stop::AttemptsExhausted { max_attempts: 3 });
        let report = Report::new(
            attempts,
            stop,
            Duration::from_millis(1210),
            Disposition::Unknown,
        );
        assert_eq!(
            report.to_string(),
            "3 attempts in 1.21 s: #1 10.0.0.1:80 503 after 12 ms, waited 40 ms; \
             #2 10.0.0.1:80 connection refused after 12 ms, tried elsewhere at once; \
             #3 10.0.0.1:80 cut off without an answer after 12 ms; \
             not tried again: all attempts were used (max_attempts = 3)"
        );
        assert!(report.may_have_happened());
    }
}
