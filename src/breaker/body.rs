use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Response};

use super::handle::Breaker;
use super::policy::{
    Ending, Finished, Limits, Outcome, Pass, Seen, blame, blame_error, stands, wish,
};
use crate::call::{AttemptReport, Call};
use crate::classify::{Awaited, Class, Classifier, Evidence};
use crate::clock;
use crate::error::{BoxError, Error};
use crate::guarded::{End, Settle};
use crate::sealed::Sealed;

/// A circuit, and how ends of calls are read.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) breaker: Breaker,
    pub(crate) classifier: Classifier,
}

/// One call that the circuit let through, until its verdict is final.
///
/// First in the future; after a good head in the response body. It settles exactly once, when
/// dropped at the latest, save that a failure after an early success is one result more.
pub struct Trial {
    watched: Arc<Watched>,
    /// `None` once it is settled for good.
    pass: Option<Pass>,
    call: Option<Arc<Call>>,
    /// The attempt's limit, if retry decided on one.
    limit: Option<Duration>,
    started: Option<Instant>,
    /// When its good head came.
    answered: Option<Instant>,
    /// Whether the good head stands already.
    stands: bool,
    /// What its trailers decide.
    awaited: Option<Awaited>,
}

impl Trial {
    /// Asks the circuit; a probe is waited for at least as long as `limit`.
    pub(crate) fn begin(watched: &Arc<Watched>, limit: Option<Duration>) -> Result<Self, Error> {
        let pass = watched.breaker.admit(limit)?;
        Ok(Self {
            watched: Arc::clone(watched),
            pass: Some(pass),
            call: None,
            limit,
            started: None,
            answered: None,
            stands: false,
            awaited: None,
        })
    }

    /// Tells it the call and when the attempt began.
    pub(crate) fn know(&mut self, call: Option<&Arc<Call>>, started: Option<Instant>) {
        self.call = call.cloned();
        self.started = started;
    }

    /// For a call that could not be made at all.
    pub(crate) fn never_began(&mut self) {
        self.end(Finished::new(Outcome::Neutral), clock::recent());
    }

    /// A head came: a bad one settles; `true` for a good one, which goes on in the body.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) -> bool {
        let now = clock::recent();
        let (verdict, awaited) = self.watched.classifier.judge(response, clock::wall);
        let outcome = Outcome::from(verdict.class);
        if outcome == Outcome::Success {
            self.answered = Some(now);
            if let Some(pass) = self.pass {
                self.watched.breaker.answered(pass, now);
            }
            self.awaited = awaited;
            return true;
        }
        let end = Finished {
            pushback: wish(verdict.pushback),
            ..self.ended(outcome, now)
        };
        self.end(end, now);
        false
    }

    /// An error came instead of a head; it leaves with what the classifier knows of it, and with the story of
    /// the call where nobody above tells it.
    pub(crate) fn failed(mut self, error: Error, outermost: bool) -> Error {
        let now = clock::recent();
        let verdict = self.watched.classifier.error(&error);
        let outcome = self.outcome_of(&error, verdict.class, now);
        self.end(self.ended(outcome, now), now);
        let error = error.with_disposition(verdict.disposition);
        match &self.call {
            Some(call) if outermost => self.tell(call, error, now),
            _ => error,
        }
    }

    fn tell(&self, call: &Call, error: Error, now: Instant) -> Error {
        if !error.report().attempts().is_empty() {
            return error;
        }
        call.ended(AttemptReport {
            number: 1,
            endpoint: call.endpoint().map(|facts| facts.name),
            ran: self.ran(now).unwrap_or_default(),
            outcome: self.watched.classifier.outcome(&error),
            disposition: error.disposition(),
            backoff: None,
        });
        error.with_report(call.report(now))
    }

    fn outcome_of(&self, error: &Error, class: Class, now: Instant) -> Outcome {
        blame_error(error.kind(), class, self.ran(now), self.limits())
    }

    /// The body broke off.
    fn broke_off(&mut self, error: &BoxError, now: Instant) {
        let outcome = match error.downcast_ref::<Error>() {
            Some(ours) => {
                let class = self.watched.classifier.error(ours).class;
                self.outcome_of(ours, class, now)
            }
            None if Evidence::marked(&**error) == Some(Evidence::BrokenUpload) => Outcome::Neutral,
            None => Outcome::Failure,
        };
        self.end(self.ended(outcome, now), now);
    }

    /// The body ended, and its trailers may have the last word.
    fn complete(&mut self, trailers: Option<&HeaderMap>, now: Instant) {
        let Some(awaited) = self.awaited else {
            return self.succeeded(now);
        };
        let verdict = self.watched.classifier.trailers(awaited, trailers);
        let outcome = Outcome::from(verdict.class);
        let echoed = |call: &Arc<Call>| call.is_echoed_by(trailers, now);
        if outcome == Outcome::Success || self.call.as_ref().is_some_and(echoed) {
            return self.succeeded(now);
        }
        let end = Finished {
            pushback: wish(verdict.pushback),
            ..self.ended(outcome, now)
        };
        self.end(end, now);
    }

    /// The good head stands: at the end of the body, or when it is dropped.
    fn succeeded(&mut self, now: Instant) {
        if self.stands {
            self.pass = None;
        }
        self.end(self.success(), now);
    }

    fn success(&self) -> Finished {
        Finished {
            ran: self.answered.and_then(|at| self.ran(at)),
            ..Finished::new(Outcome::Success)
        }
    }

    fn ended(&self, outcome: Outcome, now: Instant) -> Finished {
        let endpoint = match outcome {
            Outcome::Failure | Outcome::Throttled => self.endpoint(),
            Outcome::Success | Outcome::Neutral | Outcome::Abandoned => None,
        };
        Finished {
            ran: self.ran(now),
            endpoint,
            ..Finished::new(outcome)
        }
    }

    fn end(&mut self, end: Finished, now: Instant) {
        if let Some(pass) = self.pass.take() {
            self.watched.breaker.settle(pass, &end, now);
        }
    }

    fn ran(&self, now: Instant) -> Option<Duration> {
        self.started
            .map(|started| now.saturating_duration_since(started))
    }

    fn endpoint(&self) -> Option<Seen> {
        let facts = self.call.as_ref()?.endpoint()?;
        Some(Seen {
            serial: facts.serial,
            of: facts.set_size,
        })
    }

    fn limits(&self) -> Limits {
        let median = self.watched.breaker.median();
        let Some(call) = &self.call else {
            return Limits {
                attempt: self.limit,
                median,
                ..Limits::default()
            };
        };
        let policy = call.policy();
        let brought = policy
            .attempt_timeout_given()
            .or_else(|| self.limit.filter(|_| call.is_hurried()));
        Limits::new(self.limit, brought, call.slow_time(), median)
    }
}

impl Sealed for Trial {}

impl Settle for Trial {
    fn on_frame(&mut self) {
        let (Some(answered), Some(pass), false) = (self.answered, self.pass, self.stands) else {
            return;
        };
        let now = clock::recent();
        if stands(now.saturating_duration_since(answered)) {
            self.watched.breaker.settle(pass, &self.success(), now);
            self.pass = Some(pass.settled());
            self.stands = true;
        }
    }

    fn on_end(&mut self, end: End<'_>) {
        let now = clock::recent();
        match end {
            End::Complete { trailers } => self.complete(trailers, now),
            End::Failed(error) => self.broke_off(error, now),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.pass.is_none() {
            return;
        }
        let now = clock::now();
        if self.answered.is_some() {
            let stalled = self.call.as_ref().is_some_and(|call| call.has_stalled());
            return if stalled {
                self.end(self.ended(Outcome::Failure, now), now);
            } else {
                self.succeeded(now);
            };
        }
        let late = |call: &Arc<Call>| call.deadline().has_passed(now);
        let ending = Ending::of_drop(self.call.as_ref().is_some_and(late));
        let outcome = blame(ending, self.ran(now), self.limits());
        self.end(self.ended(outcome, now), now);
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("pass", &self.pass)
            .field("started", &self.started)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}
