//! Who belongs to the set: a new answer of discovery is compared with the one before.

use std::{
    collections::{HashMap, HashSet},
    mem,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use super::{
    chunks::Chunks,
    set::{Seat, Set, Shared, Stats},
    view::{self, EndpointStatus},
};
use crate::{balance::error::Cause, discover::Endpoint};

/// What calls are served from.
#[derive(Debug)]
pub(crate) struct Snapshot<S> {
    pub(crate) set: Arc<Set>,
    /// The services of the endpoints, in the order of the set.
    pub(crate) services: Chunks<S>,
    pub(crate) answer: Answer,
}

/// Whether discovery has answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Not yet; the last failure, if there was one.
    Awaited(Option<Cause>),
    /// It has. Says why there is no endpoint, if there is none.
    Given(Option<Cause>),
}

impl<S> Snapshot<S> {
    /// Without an answer.
    pub(crate) fn awaited(trouble: Option<Cause>) -> Self {
        Self {
            set: Arc::default(),
            services: Chunks::default(),
            answer: Answer::Awaited(trouble),
        }
    }

    /// Without an endpoint.
    pub(crate) fn lacking(cause: Cause) -> Self {
        Self {
            answer: Answer::Given(Some(cause)),
            ..Self::awaited(None)
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.answer, Answer::Awaited(_))
    }
}

/// A service made for an endpoint, or why there is none.
pub(crate) type Made<S> = (Endpoint, Result<S, Cause>);

/// All endpoints of the last answer.
#[derive(Debug)]
pub(crate) struct Roster<S> {
    members: HashMap<SocketAddr, Member<S>>,
    failed: Vec<(Endpoint, Cause)>,
    seats: Chunks<Seat>,
    services: Chunks<S>,
    last_serial: u64,
    /// Services of endpoints that left, until somebody takes them to be dropped.
    gone: Vec<S>,
    /// An answer is being taken, or its taking broke off: clones of services are other people's code.
    torn: bool,
}

#[derive(Debug)]
struct Member<S> {
    endpoint: Arc<Endpoint>,
    stats: Arc<Stats>,
    service: S,
    seat: Option<usize>,
}

impl<S> Default for Roster<S> {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            failed: Vec::new(),
            seats: Chunks::default(),
            services: Chunks::default(),
            last_serial: 0,
            gone: Vec::new(),
            torn: false,
        }
    }
}

impl<S: Clone> Roster<S> {
    /// Those of an answer that need a service.
    pub(crate) fn without_service(&self, answer: &[Endpoint]) -> Vec<Endpoint> {
        let new = |endpoint: &&Endpoint| !self.members.contains_key(&endpoint.address());
        answer.iter().filter(new).cloned().collect()
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
        let wanted: HashSet<SocketAddr> = answer.iter().map(Endpoint::address).collect();
        let mut changed = mem::replace(&mut self.torn, true);
        if changed {
            self.unseat();
        }
        let mut free = self.remove_others(&wanted, shared);
        changed |= !free.is_empty();
        changed |= self.refresh(answer);
        changed |= self.admit(made, &wanted, now);
        changed |= self.seat_by_weight(answer, &mut free, shared);
        self.close_gaps(free);
        self.torn = false;
        (changed || self.seats.len() == 0).then(|| self.snapshot())
    }

    /// Every endpoint of the last answer.
    pub(crate) fn status(&self, shared: &Shared, now: Instant) -> Vec<EndpointStatus> {
        let members = self.members.values().map(|member| {
            let seated = member.seat.is_some();
            view::status(shared, &member.endpoint, &member.stats, seated, now)
        });
        let failed = self.failed.iter();
        let failed = failed.map(|(endpoint, cause)| view::failed(endpoint, cause));
        let mut all: Vec<_> = members.chain(failed).collect();
        all.sort_by_key(|status| status.address);
        all
    }

    fn snapshot(&self) -> Snapshot<S> {
        Snapshot {
            set: Arc::new(Set::of(self.seats.clone())),
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

    /// Nobody has a seat: the last answer left seats and services that do not belong together.
    fn unseat(&mut self) {
        let members = self.members.values_mut();
        members.for_each(|member| member.seat = None);
        (self.seats, self.services) = Default::default();
    }

    /// Takes those out that are not wanted any more; their seats are free.
    fn remove_others(&mut self, wanted: &HashSet<SocketAddr>, shared: &Shared) -> Vec<usize> {
        let mut free = Vec::new();
        for (_, member) in self
            .members
            .extract_if(|address, _| !wanted.contains(address))
        {
            member.stats.health.retire(&shared.ejected);
            free.extend(member.seat);
            self.gone.push(member.service);
        }
        free
    }

    /// Takes over what an answer says anew of endpoints that stay.
    fn refresh(&mut self, answer: &[Endpoint]) -> bool {
        let mut changed = false;
        for endpoint in answer {
            let Some(member) = self.members.get_mut(&endpoint.address()) else {
                continue;
            };
            if same(&member.endpoint, endpoint) {
                continue;
            }
            member.endpoint = Arc::new(endpoint.clone());
            if let Some(index) = member.seat {
                self.seats.put(index, member.as_seat());
            }
            changed = true;
        }
        changed
    }

    /// Takes in those that have a service now. They join slowly if somebody is there already.
    fn admit(&mut self, made: Vec<Made<S>>, wanted: &HashSet<SocketAddr>, now: Instant) -> bool {
        let joined = (!self.members.is_empty()).then_some(now);
        let before = self.members.len();
        self.failed.clear();
        for (endpoint, service) in made {
            let address = endpoint.address();
            match service {
                _ if !wanted.contains(&address) || self.members.contains_key(&address) => {}
                Err(cause) => self.failed.push((endpoint, cause)),
                Ok(service) => {
                    self.last_serial += 1;
                    let member = Member {
                        stats: Arc::new(Stats::new(self.last_serial, joined)),
                        endpoint: Arc::new(endpoint),
                        service,
                        seat: None,
                    };
                    self.members.insert(address, member);
                }
            }
        }
        self.members.len() != before
    }

    /// Gives a seat to everybody who has a weight; to all, if nobody has one.
    fn seat_by_weight(
        &mut self,
        answer: &[Endpoint],
        free: &mut Vec<usize>,
        shared: &Shared,
    ) -> bool {
        let weightless = self
            .members
            .values()
            .all(|member| member.endpoint.weight() == 0);
        let mut changed = false;
        for address in answer.iter().map(Endpoint::address) {
            let Some(member) = self.members.get_mut(&address) else {
                continue;
            };
            match (member.seat, weightless || member.endpoint.weight() > 0) {
                (None, true) => {
                    // A call that picked from an older set may have ejected it since.
                    member.stats.health.begin_anew(&shared.ejected);
                    let index = free.pop().unwrap_or_else(|| self.seats.len());
                    member.seat = Some(index);
                    self.seats.put(index, member.as_seat());
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
            if let Some(member) = self.members.get_mut(&seat.endpoint.address()) {
                member.seat = Some(gap);
            }
            self.seats.put(gap, seat);
            self.services.put(gap, service);
        }
    }
}

impl<S> Member<S> {
    fn as_seat(&self) -> Seat {
        Seat {
            stats: Arc::clone(&self.stats),
            endpoint: Arc::clone(&self.endpoint),
        }
    }
}

/// Whether nothing that a pick or a report shows differs.
fn same(one: &Endpoint, other: &Endpoint) -> bool {
    let facts = |endpoint: &Endpoint| {
        let (zone, region) = (endpoint.zone().cloned(), endpoint.region().cloned());
        (endpoint.weight(), zone, region, Arc::clone(endpoint.name()))
    };
    one.address() == other.address() && facts(one) == facts(other)
}

#[cfg(test)]
mod tests;
