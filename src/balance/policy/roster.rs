//! Who belongs to the set: a new answer of discovery is compared with the one before.

use std::{
    collections::{HashMap, HashSet},
    mem,
    ops::Range,
    sync::Arc,
    time::Instant,
};

use super::{
    chunks::Chunks,
    set::{Seat, Set, Shared, Stats},
    snapshot::{Answer, Snapshot},
    view::{self, EndpointStatus},
};
use crate::{
    balance::error::Cause,
    discover::{Difference, Endpoint, distinct_beside},
    error::InvalidSetting,
};

/// A service made for an endpoint, or why there is none.
pub(crate) type Made<S> = (Endpoint, Result<S, Cause>);

/// All endpoints of the last answer.
///
/// A source answers with its whole set, which is mostly the last one with little changed: what both answers begin and
/// end with is compared, and looked up only where they differ.
#[derive(Debug)]
pub(crate) struct Roster<S> {
    /// By address, as endpoints are equal.
    members: HashMap<Arc<Endpoint>, Member<S>>,
    failed: Vec<(Endpoint, Cause)>,
    /// The last answer: the members and those that failed.
    order: Vec<Arc<Endpoint>>,
    seats: Chunks<Seat>,
    services: Chunks<S>,
    /// One that all with a seat are like in weight and zone, if they are.
    typical: Option<Arc<Endpoint>>,
    /// Nobody has a weight.
    weightless: bool,
    last_serial: u64,
    /// Services of endpoints that left, until somebody takes them to be dropped.
    gone: Vec<S>,
    /// An answer is being taken, or its taking broke off: clones of services are other people's code.
    torn: bool,
}

#[derive(Debug)]
struct Member<S> {
    stats: Arc<Stats>,
    service: S,
    seat: Option<usize>,
}

impl<S> Default for Roster<S> {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            failed: Vec::new(),
            order: Vec::new(),
            seats: Chunks::default(),
            services: Chunks::default(),
            typical: None,
            weightless: false,
            last_serial: 0,
            gone: Vec::new(),
            torn: false,
        }
    }
}

impl<S: Clone> Roster<S> {
    /// The answer without repeated addresses and those that no call can be sent to, and those of it that need a service.
    ///
    /// # Errors
    ///
    /// If that leaves nothing of a set that held something.
    pub(crate) fn look_at(
        &self,
        answer: Vec<Endpoint>,
    ) -> Result<(Vec<Endpoint>, Vec<Endpoint>), InvalidSetting> {
        let (answer, differs) = distinct_beside(&self.order, answer)?;
        let all = self.torn || !self.failed.is_empty();
        let open = if all {
            &answer[..]
        } else {
            &answer[differs.new]
        };
        let new = |endpoint: &&Endpoint| !self.members.contains_key(*endpoint);
        let new = open.iter().filter(new).cloned().collect();
        Ok((answer, new))
    }

    /// Takes an answer and the services made for it; `None` if nothing changes for calls.
    ///
    /// Endpoints that stay keep their service and what was measured of them. Those that are gone are retired: their
    /// calls end, and no new ones begin.
    pub(crate) fn update(
        &mut self,
        answer: &[Endpoint],
        made: Vec<Made<S>>,
        shared: &Shared,
        now: Instant,
    ) -> Option<Snapshot<S>> {
        let torn = mem::replace(&mut self.torn, true);
        if torn {
            self.unseat();
        }
        let Difference { old, new } = Difference::between(&self.order, answer);
        let come = &answer[new];
        let mut free = self.remove(old.clone(), come, shared);
        let mut changed = torn || !free.is_empty();
        let mut touched = self.refresh(come);
        changed |= !touched.is_empty();
        let refreshed = touched.len();
        self.admit(made, now, &mut touched);
        changed |= touched.len() > refreshed;
        self.note_order(old, come);
        let weightless = self.is_weightless();
        if mem::replace(&mut self.weightless, weightless) != weightless || torn {
            touched.clone_from(&self.order);
        }
        changed |= self.seat_by_weight(&touched, &mut free, shared);
        self.close_gaps(free);
        self.torn = false;
        (changed || self.seats.len() == 0).then(|| self.snapshot(&touched))
    }

    /// Every endpoint of the last answer.
    pub(crate) fn status(&self, shared: &Shared, now: Instant) -> Vec<EndpointStatus> {
        let members = self.members.iter().map(|(endpoint, member)| {
            let seated = member.seat.is_some();
            view::status(shared, endpoint, &member.stats, seated, now)
        });
        let failed = self.failed.iter();
        let failed = failed.map(|(endpoint, cause)| view::failed(endpoint, cause));
        let mut all: Vec<_> = members.chain(failed).collect();
        all.sort_by_key(|status| status.address);
        all
    }

    /// The set as it is now, where only these endpoints may be unlike before.
    fn snapshot(&mut self, touched: &[Arc<Endpoint>]) -> Snapshot<S> {
        let typical = self.typical.take();
        let all_like = |one: &Arc<Endpoint>| touched.iter().all(|other| is_like(one, other));
        let set = match typical.filter(all_like) {
            Some(one) => {
                self.typical = Some(one);
                Set::of_equals(self.seats.clone())
            }
            None => {
                let set = Set::of(self.seats.clone());
                let first = set.seats.get(0).filter(|_| set.is_of_equals());
                self.typical = first.map(|seat| Arc::clone(&seat.endpoint));
                set
            }
        };
        Snapshot {
            set: Arc::new(set),
            services: self.services.clone(),
            answer: Answer::Given(self.lack()),
        }
    }

    fn lack(&self) -> Option<Cause> {
        if self.seats.len() > 0 {
            return None;
        }
        let cause = self.failed.first().map(|(_, cause)| cause.clone());
        Some(cause.unwrap_or_else(|| Cause::new("discovery answered with an empty set")))
    }

    /// The services of endpoints that left, to be dropped where no lock is held.
    pub(crate) fn take_gone(&mut self) -> Vec<S> {
        mem::take(&mut self.gone)
    }

    /// Nobody has a seat: the last answer left seats and services that do not belong together, and who is a member is
    /// not what it said.
    fn unseat(&mut self) {
        let members = self.members.values_mut();
        members.for_each(|member| member.seat = None);
        (self.seats, self.services) = Default::default();
        self.order = self.members.keys().map(Arc::clone).collect();
        self.typical = None;
    }

    /// Takes those of the last answer out that did not come again; their seats are free.
    fn remove(&mut self, old: Range<usize>, come: &[Endpoint], shared: &Shared) -> Vec<usize> {
        let come: HashSet<&Endpoint> = come.iter().collect();
        let gone = self.order[old].iter();
        let mut free = Vec::new();
        for endpoint in gone.filter(|endpoint| !come.contains(&***endpoint)) {
            let Some(member) = self.members.remove(endpoint) else {
                continue;
            };
            member.stats.health.retire(&shared.ejected);
            free.extend(member.seat);
            self.gone.push(member.service);
        }
        free
    }

    /// Takes over what an answer says anew of endpoints that stay, and answers which those are.
    fn refresh(&mut self, come: &[Endpoint]) -> Vec<Arc<Endpoint>> {
        let mut refreshed = Vec::new();
        for endpoint in come {
            match self.members.get_key_value(endpoint) {
                Some((known, _)) if !known.says_as(endpoint) => {}
                _ => continue,
            }
            let Some(member) = self.members.remove(endpoint) else {
                continue;
            };
            let endpoint = Arc::new(endpoint.clone());
            if let Some(index) = member.seat {
                self.seats.put(index, member.as_seat(&endpoint));
            }
            self.members.insert(Arc::clone(&endpoint), member);
            refreshed.push(endpoint);
        }
        refreshed
    }

    /// Takes in those that have a service now. They join slowly if somebody is there already.
    fn admit(&mut self, made: Vec<Made<S>>, now: Instant, touched: &mut Vec<Arc<Endpoint>>) {
        let joined = (!self.members.is_empty()).then_some(now);
        self.failed.clear();
        for (endpoint, service) in made {
            match service {
                _ if self.members.contains_key(&endpoint) => {}
                Err(cause) => self.failed.push((endpoint, cause)),
                Ok(service) => {
                    self.last_serial += 1;
                    let member = Member {
                        stats: Arc::new(Stats::new(self.last_serial, joined)),
                        service,
                        seat: None,
                    };
                    let endpoint = Arc::new(endpoint);
                    self.members.insert(Arc::clone(&endpoint), member);
                    touched.push(endpoint);
                }
            }
        }
    }

    /// Keeps the answer for the next one.
    fn note_order(&mut self, old: Range<usize>, come: &[Endpoint]) {
        let shared = |endpoint: &Endpoint| match self.members.get_key_value(endpoint) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(endpoint.clone()),
        };
        self.order.splice(old, come.iter().map(shared));
    }

    fn is_weightless(&self) -> bool {
        let mut members = self.members.keys();
        members.all(|endpoint| endpoint.weight() == 0)
    }

    /// Gives a seat to everybody of these who has a weight; to all, if nobody has one.
    fn seat_by_weight(
        &mut self,
        touched: &[Arc<Endpoint>],
        free: &mut Vec<usize>,
        shared: &Shared,
    ) -> bool {
        let mut changed = false;
        for endpoint in touched {
            let Some(member) = self.members.get_mut(endpoint) else {
                continue;
            };
            match (member.seat, self.weightless || endpoint.weight() > 0) {
                (None, true) => {
                    // A call that picked from an older set may have ejected it since.
                    member.stats.health.begin_anew(&shared.ejected);
                    let index = free.pop().unwrap_or_else(|| self.seats.len());
                    member.seat = Some(index);
                    self.seats.put(index, member.as_seat(endpoint));
                    self.services.put(index, member.service.clone());
                }
                (Some(index), false) => {
                    member.seat = None;
                    member.stats.health.begin_anew(&shared.ejected);
                    free.push(index);
                }
                _ => continue,
            }
            changed = true;
        }
        changed
    }

    /// Moves the last ones into seats that nobody took.
    fn close_gaps(&mut self, mut free: Vec<usize>) {
        free.sort_unstable();
        while let Some(gap) = free.pop() {
            let (Some(seat), Some(service)) = (self.seats.pop(), self.services.pop()) else {
                return;
            };
            if gap == self.seats.len() {
                continue;
            }
            if let Some(member) = self.members.get_mut(&seat.endpoint) {
                member.seat = Some(gap);
            }
            self.seats.put(gap, seat);
            self.services.put(gap, service);
        }
    }
}

impl<S> Member<S> {
    fn as_seat(&self, endpoint: &Arc<Endpoint>) -> Seat {
        Seat {
            stats: Arc::clone(&self.stats),
            endpoint: Arc::clone(endpoint),
        }
    }
}

/// Whether a set of them alone has equal weights and one zone.
fn is_like(one: &Endpoint, other: &Endpoint) -> bool {
    one.weight() == other.weight() && one.zone() == other.zone()
}

#[cfg(test)]
mod tests;
