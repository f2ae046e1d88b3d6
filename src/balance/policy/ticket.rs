//! What the end of an attempt means for the endpoint that it went to.

use std::time::{Duration, Instant};

use super::{
    claim::Claim,
    ejection::{Change, Failed, Permit},
    load::Slot,
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
///
/// It moves up through every layer with the response: what few calls ask for it asks its basis for, and times are
/// nanoseconds since the start of the balancer.
#[derive(Debug)]
pub(crate) struct Ticket<B> {
    basis: B,
    seat: Seat,
    started: u64,
    /// How long it took to its head or its end.
    took: u64,
    permit: Permit,
    slot: Slot,
    stage: Stage,
}

/// What a ticket stands on.
pub(crate) trait Basis {
    fn shared(&self) -> &Shared;
    /// Asked for where an attempt got no answer.
    fn terms(&self) -> Terms;
    /// A random number in [0, 1).
    fn unit(&self) -> f64;
}

/// What decides whether an attempt that got no answer is held against the endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) deadline: Deadline,
    /// From this time on an attempt is slow: its limit, else half of the client's deadline.
    pub(crate) slow: Option<Duration>,
}

/// How long an attempt may take, in half of the room of an `Option<Duration>`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(u64);

impl Limit {
    const NONE: u64 = u64::MAX;

    pub(crate) fn of(limit: Option<Duration>) -> Self {
        let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(Self::NONE);
        Self(limit.map_or(Self::NONE, nanos))
    }

    pub(crate) fn get(self) -> Option<Duration> {
        (self.0 != Self::NONE).then(|| Duration::from_nanos(self.0))
    }
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Picked, and waiting for readiness or the head.
    Waiting,
    /// A good head came; the body may still fail.
    Good,
    /// The outcome is known, the body runs.
    Settled,
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

impl<B: Basis> Ticket<B> {
    pub(crate) fn new(basis: B, claim: Claim) -> Self {
        Self {
            basis,
            seat: claim.seat,
            started: nanos(claim.age),
            took: 0,
            permit: claim.permit,
            slot: claim.slot,
            stage: Stage::Waiting,
        }
    }

    pub(crate) fn basis(&self) -> &B {
        &self.basis
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.basis.shared()
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
        self.seat.stats.health.is_retired()
    }

    /// How long it has run.
    pub(crate) fn ran(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.ran_nanos(self.shared().age(now)))
    }

    fn ran_nanos(&self, age: Duration) -> u64 {
        nanos(age).saturating_sub(self.started)
    }

    /// The head came.
    pub(crate) fn head(&mut self, class: Class, now: Instant) {
        match class {
            Class::Success => {
                self.seat.stats.load.answered(self.slot);
                self.took = self.ran_nanos(self.shared().age(now));
                self.stage = Stage::Good;
            }
            Class::Throttled => self.settle(Outcome::Throttled, now),
            Class::Failure => self.settle(Outcome::Failure, now),
            Class::Neutral => self.settle(Outcome::Unknown, now),
        }
    }

    /// The attempt ended with an error instead of a head.
    pub(crate) fn failed(&mut self, error: &Error, class: Class, now: Instant) {
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
        self.settle(outcome, now);
        self.give_back();
    }

    /// The endpoint was picked and then not called.
    pub(crate) fn unused(&mut self, now: Instant) {
        self.settle(Outcome::Unused, now);
        self.give_back();
    }

    /// A frame of the body came; whether the outcome is still open.
    pub(crate) fn is_provisional(&self) -> bool {
        self.stage == Stage::Good
    }

    pub(crate) fn frame(&mut self, now: Instant) {
        if self.is_provisional()
            && self.ran(now) > Duration::from_nanos(self.took).saturating_add(PROVISIONAL)
        {
            self.settle(Outcome::Success, now);
        }
    }

    /// The body ended in an error: one failure, also where the head counted as a success before.
    pub(crate) fn body_failed(&mut self, now: Instant) {
        self.settle(Outcome::Failure, now);
        self.give_back();
    }

    /// The body ended with what became of the call.
    pub(crate) fn judged(&mut self, class: Class, now: Instant) {
        let outcome = match class {
            Class::Failure => Outcome::Failure,
            Class::Throttled => Outcome::Throttled,
            Class::Success | Class::Neutral => return self.over(now),
        };
        self.settle(outcome, now);
        self.give_back();
    }

    /// The attempt is over: the body ended, or whoever had the future or the body dropped it.
    pub(crate) fn over(&mut self, now: Instant) {
        match self.stage {
            Stage::Waiting => {
                let outcome = self.dropped(now);
                self.settle(outcome, now);
            }
            Stage::Good => self.settle(Outcome::Success, now),
            Stage::Settled | Stage::Over => {}
        }
        self.give_back();
    }

    /// What it means that nobody waits for the head any more.
    fn dropped(&self, now: Instant) -> Outcome {
        let Terms { deadline, slow } = self.basis.terms();
        let slow = slow.is_some_and(|slow| self.ran(now) >= slow);
        if slow || deadline.has_passed(now) {
            self.timed_out(now)
        } else {
            Outcome::Unknown
        }
    }

    /// A call that ran out of time is the endpoint's fault only if the attempt had its time: twice the mean of successes, or what makes
    /// an attempt slow. One that was cut off sooner, by a shorter deadline of this call, says nothing.
    fn timed_out(&self, now: Instant) -> Outcome {
        let usual = self.shared().load.mean();
        let usual = usual.map(|mean| Duration::from_secs_f32(2.0 * mean));
        let enough = match (usual, self.basis.terms().slow) {
            (Some(usual), Some(slow)) => usual.min(slow),
            (usual, slow) => usual.or(slow).unwrap_or(Duration::ZERO),
        };
        if self.ran(now) >= enough {
            Outcome::Failure
        } else {
            Outcome::Unknown
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Instant) {
        if self.stage == Stage::Over {
            return;
        }
        let age = self.shared().age(now);
        let stats = &self.seat.stats;
        // Else it is known already: a body may run for hours, and that is no latency.
        if self.stage == Stage::Waiting {
            stats.load.answered(self.slot);
            self.took = self.ran_nanos(age);
        }
        self.stage = Stage::Settled;
        let (shared, permit) = (self.basis.shared(), self.permit);
        let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
        let (took, tick) = (Duration::from_nanos(self.took), Tick::after(age));
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
                self.count_failure(now);
            }
            Outcome::Refused => {
                // Refused at once it would else look like the quickest of all.
                stats.load.failure(took, tick, &shared.load, shared.forget);
                if permit.is_probe() {
                    self.count_failure(now);
                }
            }
            Outcome::Unknown => {
                stats.load.at_least(took, tick, &shared.load, shared.forget);
                stats.health.abandoned(permit, ejected, rule, age);
            }
            Outcome::Unused => stats.health.abandoned(permit, ejected, rule, age),
        }
    }

    fn count_failure(&self, now: Instant) {
        let (shared, stats) = (self.shared(), &self.seat.stats);
        let (set, age, unit) = (shared.set.load(), shared.age(now), self.basis.unit());
        let failed = Failed {
            size: set.len(),
            age,
            unit,
        };
        let others = || set.others(stats.serial, age, unit);
        let (ejected, rule) = (&shared.ejected, &shared.rules.ejection);
        let permit = self.permit;
        if stats.health.failure(permit, ejected, rule, failed, others) == Change::Spared {
            ejected.make_room(set.healths(unit), rule, age);
        }
    }

    fn give_back(&mut self) {
        if self.stage != Stage::Over {
            self.seat.stats.load.leave();
            self.stage = Stage::Over;
        }
    }
}

/// For 584 years.
fn nanos(age: Duration) -> u64 {
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
