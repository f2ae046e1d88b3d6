//! What the end of an attempt means for the endpoint that it went to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    claim::Claim,
    ejection::{Change, Failed},
    set::{Seat, Shared},
};
use crate::{
    call::Deadline,
    classify::Class,
    error::{Error, ErrorKind},
    stats::ewma::Tick,
};

/// A good head is final for load and ejection after a frame this much later: a stream that runs is no open question.
const PROVISIONAL: Duration = Duration::from_secs(1);

/// An attempt on an endpoint, from the pick to the end of the response body.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    claim: Claim,
    started: Instant,
    terms: Terms,
    stage: Stage,
}

/// What decides whether an attempt that got no answer is held against the endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) deadline: Deadline,
    /// From this time on an attempt is slow: its limit, else half of the client's deadline.
    pub(crate) slow: Option<Duration>,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Picked, and waiting for readiness or the head.
    Waiting,
    /// A good head came, at this time after the start; the body may still fail.
    Good { took: Duration },
    /// The outcome is known, the body runs.
    Settled { took: Duration },
    /// All is given back.
    Over,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Throttled,
    Failure,
    /// A layer of ours below refused it: the endpoint takes no calls now, which is no failure of it.
    Refused,
    /// It lasted at least so long; that is all.
    Unknown,
    /// It was never sent.
    Unused,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Shared>, claim: Claim, started: Instant, terms: Terms) -> Self {
        Self {
            shared,
            claim,
            started,
            terms,
            stage: Stage::Waiting,
        }
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.claim.seat
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether no head has come yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// Whether all is given back.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether the endpoint has left the set.
    pub(crate) fn is_retired(&self) -> bool {
        self.claim.seat.stats.health.is_retired()
    }

    /// How long it has run.
    pub(crate) fn ran(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// The head came.
    pub(crate) fn head(&mut self, class: Class, now: Instant, unit: impl FnOnce() -> f64) {
        match class {
            Class::Success => {
                self.claim.seat.stats.load.answered(self.claim.slot);
                self.stage = Stage::Good {
                    took: self.ran(now),
                };
            }
            Class::Throttled => self.settle(Outcome::Throttled, now, unit),
            Class::Failure => self.settle(Outcome::Failure, now, unit),
            Class::Neutral => self.settle(Outcome::Unknown, now, unit),
        }
    }

    /// The attempt ended with an error instead of a head.
    pub(crate) fn failed(
        &mut self,
        error: &Error,
        class: Class,
        now: Instant,
        unit: impl FnOnce() -> f64,
    ) {
        let outcome = match class {
            Class::Success => Outcome::Success,
            Class::Throttled => Outcome::Throttled,
            Class::Failure if error.kind() == ErrorKind::DeadlineExceeded => self.timed_out(now),
            Class::Failure => Outcome::Failure,
            Class::Neutral => match error.kind() {
                ErrorKind::CircuitOpen { .. } | ErrorKind::Overloaded | ErrorKind::NoEndpoints => {
                    Outcome::Refused
                }
                _ => Outcome::Unused,
            },
        };
        self.settle(outcome, now, unit);
        self.give_back();
    }

    /// The endpoint was picked and then not called.
    pub(crate) fn unused(&mut self, now: Instant) {
        self.settle(Outcome::Unused, now, || 0.0);
        self.give_back();
    }

    /// A frame of the body came; whether the outcome is still open.
    pub(crate) fn is_provisional(&self) -> bool {
        matches!(self.stage, Stage::Good { .. })
    }

    pub(crate) fn frame(&mut self, now: Instant, unit: impl FnOnce() -> f64) {
        if let Stage::Good { took } = self.stage
            && self.ran(now) > took.saturating_add(PROVISIONAL)
        {
            self.settle(Outcome::Success, now, unit);
        }
    }

    /// The body ended in an error: one failure, also where the head counted as a success before.
    pub(crate) fn body_failed(&mut self, now: Instant, unit: impl FnOnce() -> f64) {
        self.settle(Outcome::Failure, now, unit);
        self.give_back();
    }

    /// The body ended with what became of the call.
    pub(crate) fn judged(&mut self, class: Class, now: Instant, unit: impl FnOnce() -> f64) {
        let outcome = match class {
            Class::Failure => Outcome::Failure,
            Class::Throttled => Outcome::Throttled,
            Class::Success | Class::Neutral => return self.over(now, unit),
        };
        self.settle(outcome, now, unit);
        self.give_back();
    }

    /// The attempt is over: the body ended, or whoever had the future or the body dropped it.
    pub(crate) fn over(&mut self, now: Instant, unit: impl FnOnce() -> f64) {
        match self.stage {
            Stage::Waiting => {
                let outcome = self.dropped(now);
                self.settle(outcome, now, unit);
            }
            Stage::Good { .. } => self.settle(Outcome::Success, now, unit),
            Stage::Settled { .. } | Stage::Over => {}
        }
        self.give_back();
    }

    /// What it means that nobody waits for the head any more.
    fn dropped(&self, now: Instant) -> Outcome {
        let slow = self.terms.slow.is_some_and(|slow| self.ran(now) >= slow);
        if slow || self.terms.deadline.has_passed(now) {
            self.timed_out(now)
        } else {
            Outcome::Unknown
        }
    }

    /// A call that ran out of time is the endpoint's fault only if the attempt had its time: twice the mean of successes, or what makes
    /// an attempt slow. One that was cut off sooner, by a shorter deadline of this call, says nothing.
    fn timed_out(&self, now: Instant) -> Outcome {
        let usual = self.shared.load.mean();
        let usual = usual.map(|mean| Duration::from_secs_f32(2.0 * mean));
        let enough = match (usual, self.terms.slow) {
            (Some(usual), Some(slow)) => usual.min(slow),
            (usual, slow) => usual.or(slow).unwrap_or(Duration::ZERO),
        };
        if self.ran(now) >= enough {
            Outcome::Failure
        } else {
            Outcome::Unknown
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Instant, unit: impl FnOnce() -> f64) {
        if self.stage == Stage::Over {
            return;
        }
        let stats = &self.claim.seat.stats;
        let took = match self.stage {
            // A body may run for hours: that is no latency.
            Stage::Good { took } | Stage::Settled { took } => took,
            Stage::Waiting | Stage::Over => {
                stats.load.answered(self.claim.slot);
                self.ran(now)
            }
        };
        self.stage = Stage::Settled { took };
        let (shared, permit) = (&*self.shared, self.claim.permit);
        let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
        let age = shared.age(now);
        let tick = Tick::after(age);
        match outcome {
            Outcome::Success => {
                stats.load.success(took, tick, &shared.load, shared.forget);
                if stats.health.success(permit, ejected, age) == Change::Readmitted {
                    stats.load.reset(tick);
                }
            }
            Outcome::Throttled => {
                stats.load.failure(took, tick, &shared.load, shared.forget);
                stats.health.neither(permit, ejected);
            }
            Outcome::Failure => {
                stats.load.failure(took, tick, &shared.load, shared.forget);
                self.count_failure(now, unit);
            }
            Outcome::Refused => {
                // Refused at once it would else look like the quickest of all.
                stats.load.failure(took, tick, &shared.load, shared.forget);
                if permit.is_probe() {
                    self.count_failure(now, unit);
                }
            }
            Outcome::Unknown => {
                stats.load.at_least(took, tick, &shared.load, shared.forget);
                stats.health.abandoned(permit, ejected, rule, age);
            }
            Outcome::Unused => stats.health.abandoned(permit, ejected, rule, age),
        }
    }

    fn count_failure(&self, now: Instant, unit: impl FnOnce() -> f64) {
        let (shared, stats) = (&*self.shared, &self.claim.seat.stats);
        let (set, age, unit) = (shared.set.load(), shared.age(now), unit());
        let failed = Failed {
            size: set.len(),
            age,
            unit,
        };
        let others = || set.others(stats.serial, age, unit);
        let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
        let permit = self.claim.permit;
        if stats.health.failure(permit, ejected, rule, failed, others) == Change::Spared {
            ejected.make_room(set.healths(unit), rule, age);
        }
    }

    fn give_back(&mut self) {
        if self.stage != Stage::Over {
            self.claim.seat.stats.load.leave();
            self.stage = Stage::Over;
        }
    }
}

#[cfg(test)]
mod tests;
