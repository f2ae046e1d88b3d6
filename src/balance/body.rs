//! A call's hold on its endpoint: how it is taken, what it tells, and when it ends.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::Response;
use tokio::sync::Notify;

use super::{
    error::{Cause, no_endpoints},
    policy::{
        Answer, Basis, Caller, Limit, Seat, Shared, Snapshot, Terms, Ticket, TriedSet, Wish, claim,
        untried,
    },
};
use crate::{
    call::{AttemptReport, Call, Confinement, EndpointFacts, Opened, Reach},
    classify::{Awaited, Class, Classifier, Evidence, Retryable},
    clock,
    error::{Error, ErrorKind},
    guarded::{End, Settle},
    rng::Random,
    sealed::Sealed,
};

/// Counts a call as in flight on its endpoint until the end of the response body, and tells balancer and ejection
/// then how it went.
#[derive(Debug)]
pub struct InFlight {
    ticket: Ticket<Held>,
    /// What its trailers decide.
    awaited: Option<Awaited>,
}

/// What a hold is of.
#[derive(Debug)]
struct Held {
    common: Arc<Common>,
    call: Arc<Call>,
    limit: Limit,
}

impl Basis for Held {
    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    fn terms(&self) -> Terms {
        Terms {
            deadline: self.call.deadline(),
            slow: self.limit.get().or_else(|| self.call.slow_time()),
        }
    }

    fn unit(&self) -> f64 {
        self.common.random.unit()
    }
}

impl InFlight {
    fn call(&self) -> &Call {
        &self.ticket.basis().call
    }

    pub(crate) fn seat(&self) -> &Seat {
        self.ticket.seat()
    }

    /// Whether the endpoint has left the set.
    pub(crate) fn is_retired(&self) -> bool {
        self.ticket.is_retired()
    }

    pub(crate) fn head(&mut self, class: Class, now: Instant) {
        self.ticket.head(class, now);
    }

    pub(crate) fn failed(&mut self, error: &Error, class: Class, now: Instant) {
        self.ticket.failed(error, class, now);
    }

    /// Gives the place back without having called the endpoint.
    pub(crate) fn unused(mut self, now: Instant) {
        self.ticket.unused(now);
    }

    pub(crate) fn ran(&self, now: Instant) -> Duration {
        self.ticket.ran(now)
    }

    /// Tells the call where this attempt is.
    pub(crate) fn note(&self, now: Instant) {
        let shared = self.ticket.shared();
        let (set, seat) = (shared.set.load(), self.ticket.seat());
        let tried = &TriedSet::from_iter(self.call().tried());
        let wish = Wish {
            now,
            tried,
            within: None,
            caller: Caller::Any,
            limit: None,
        };
        let reach = |place: Confinement| {
            let within = Some(&place);
            Reach {
                inhabited: set.reaches(&place),
                untried: untried(shared, &set, &Wish { within, ..wish }) > 0,
                place,
            }
        };
        self.call().note_endpoint(EndpointFacts {
            serial: seat.stats.serial,
            name: Arc::clone(seat.endpoint.name()),
            set_size: set.len(),
            untried: untried(shared, &set, &wish),
            reach: self.place(seat).map(reach),
        });
    }

    /// Where the call has to stay, or would have to once this attempt went unanswered.
    fn place(&self, seat: &Seat) -> Option<Confinement> {
        let (zone, region) = (seat.endpoint.zone(), seat.endpoint.region());
        let confined = self.call().confinement().cloned();
        confined.or_else(|| self.call().key_scope().around(zone, region))
    }
}

impl InFlight {
    /// The body ended, and this is what became of the call.
    fn complete(&mut self, class: Class, now: Instant) {
        self.ticket.judged(class, now);
        if !class.is_success() {
            // A breaker above asks where it failed.
            self.note(now);
        }
    }
}

impl Sealed for InFlight {}
impl Settle for InFlight {
    fn on_frame(&mut self) {
        if self.ticket.is_provisional() {
            self.ticket.frame(clock::recent());
        }
    }

    fn on_end(&mut self, end: End<'_>) {
        let now = clock::recent();
        match end {
            End::Complete { trailers } => {
                let own = |_: &Awaited| !self.call().is_echoed_by(trailers, now);
                let awaited = self.awaited.filter(own);
                let judge = &self.ticket.basis().common.classifier;
                let class = awaited.map(|awaited| judge.trailers(awaited, trailers).class);
                self.complete(class.unwrap_or(Class::Success), now);
            }
            End::Failed(error) if Evidence::marked(&**error) == Some(Evidence::BrokenUpload) => {
                self.ticket.over(now);
            }
            End::Failed(_) => {
                self.ticket.body_failed(now);
                // A breaker above asks where it failed.
                self.note(now);
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.ticket.is_over() {
            return;
        }
        let now = clock::recent();
        let waited = self.ticket.is_waiting();
        let stalled = !waited && self.call().has_stalled();
        if stalled {
            self.ticket.body_failed(now);
        } else {
            self.ticket.over(now);
        }
        if waited || stalled {
            // Whoever cut the attempt off asks for its story next.
            self.note(now);
        }
    }
}

/// What calls need of a balancer.
#[derive(Debug)]
pub(crate) struct Hub<S> {
    pub(crate) common: Arc<Common>,
    pub(crate) snapshot: ArcSwap<Snapshot<S>>,
    /// Whether discovery has yet to answer: a look at this is cheaper than one at the snapshot.
    pub(crate) awaited: AtomicBool,
    /// Wakes whoever waits for another set.
    pub(crate) changed: Arc<Notify>,
}

/// What of it holds need too, whatever its services are.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) shared: Shared,
    pub(crate) classifier: Classifier,
    pub(crate) random: Random,
}

/// The discovery of a set, as a call that waits for it keeps it going.
pub(crate) trait Discovering: Send + Sync {
    /// Starts it, if it does not run; `false` where there is no runtime to run it.
    fn ensure(&self) -> bool;
}

/// What one attempt works with.
pub(crate) struct Attempt<S> {
    pub(crate) hub: Arc<Hub<S>>,
    pub(crate) call: Arc<Call>,
    pub(crate) opened: Option<Opened>,
    /// Counts from 1.
    pub(crate) number: u32,
    pub(crate) limit: Option<Duration>,
    pub(crate) caller: Caller,
    /// Held by calls that wait for the first set: discovery must not end before it is there.
    pub(crate) discovery: Option<Arc<dyn Discovering>>,
}

/// What came of looking for an endpoint.
pub(crate) enum Picked<S> {
    Endpoint {
        service: S,
        hold: InFlight,
    },
    /// There is no answer of discovery yet.
    Awaited(Option<Cause>),
    Refused(Error),
}

impl<S: Clone> Attempt<S> {
    pub(crate) fn pick(&self) -> Picked<S> {
        let snapshot = self.hub.snapshot.load();
        match &snapshot.answer {
            Answer::Awaited(trouble) => Picked::Awaited(trouble.clone()),
            Answer::Given(Some(lack)) => Picked::Refused(no_endpoints(lack.clone())),
            Answer::Given(None) => match self.claim(&snapshot, &self.tried()) {
                Some((service, hold)) => Picked::Endpoint { service, hold },
                None => Picked::Refused(self.no_place(&snapshot)),
            },
        }
    }

    /// Why no endpoint has a place: all that the call may go to are full, or it may go to none.
    fn no_place(&self, snapshot: &Snapshot<S>) -> Error {
        match self.call.confinement() {
            Some(place) if !snapshot.set.reaches(place) => {
                no_endpoints(Cause::new("none is where the idempotency key is known"))
            }
            _ => Error::new(ErrorKind::Overloaded),
        }
    }

    /// An endpoint that was not tried, if there is one.
    pub(crate) fn alternative(&self) -> Option<(S, InFlight)> {
        let tried = self.tried();
        let snapshot = self.hub.snapshot.load();
        let (service, hold) = self.claim(&snapshot, &tried)?;
        if tried.contains(hold.seat().stats.serial) {
            hold.unused(clock::recent());
            return None;
        }
        Some((service, hold))
    }

    fn claim(&self, snapshot: &Snapshot<S>, tried: &TriedSet) -> Option<(S, InFlight)> {
        let common = &self.hub.common;
        let wish = Wish {
            now: clock::recent(),
            tried,
            within: self.call.confinement(),
            caller: self.caller,
            limit: self.limit,
        };
        let seed = common.random.next_u64();
        let claim = claim(&common.shared, &snapshot.set, &wish, seed)?;
        let index = claim.index;
        let held = Held {
            common: Arc::clone(common),
            call: Arc::clone(&self.call),
            limit: Limit::of(self.limit),
        };
        let hold = InFlight {
            ticket: Ticket::new(held, claim),
            awaited: None,
        };
        // Last, since a clone is user code: should it panic, the hold gives the place back.
        let service = snapshot.services.get(index).cloned()?;
        Some((service, hold))
    }

    fn tried(&self) -> TriedSet {
        TriedSet::from_iter(self.call.tried())
    }

    /// The error of an attempt on an endpoint, with what the classifier knows of it.
    pub(crate) fn failed(&self, error: Error, hold: &mut InFlight) -> Error {
        let now = clock::read();
        let verdict = self.hub.common.classifier.error(&error);
        let error = error.with_disposition(verdict.disposition);
        let ran = hold.ran(now);
        hold.failed(&error, verdict.class, now);
        hold.note(now);
        if self.opened.is_none() {
            return error;
        }
        self.call.ended(AttemptReport {
            number: self.number,
            endpoint: Some(Arc::clone(hold.seat().endpoint.name())),
            ran,
            outcome: self.hub.common.classifier.outcome(&error),
            disposition: verdict.disposition,
            backoff: None,
        });
        error.with_report(self.call.report(now))
    }

    /// A head came; its body keeps the hold.
    pub(crate) fn answered<RB>(&self, response: &Response<RB>, hold: &mut InFlight) {
        let now = clock::read();
        let (verdict, awaited) = self.hub.common.classifier.judge(response, clock::wall);
        hold.head(verdict.class, now);
        hold.awaited = awaited;
        if !verdict.class.is_success() || verdict.retryable != Retryable::Never {
            hold.note(now);
        }
    }

    /// The end of an attempt that waited until its call was over.
    pub(crate) fn expired(&self, trouble: Option<Cause>) -> Error {
        let error = match trouble {
            Some(trouble) => no_endpoints(trouble),
            None => Error::new(ErrorKind::DeadlineExceeded),
        };
        match &self.opened {
            Some(_) => error.with_report(self.call.report(clock::recent())),
            None => error,
        }
    }
}
