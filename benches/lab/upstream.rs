//! A server: some workers, one queue, and a schedule of faults.
//!
//! Workers take calls in the order in which they came, whether or not somebody still waits for the answer. So the
//! whole fate of a call is known when it is sent, and the simulation needs one event for it.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    arrivals::{MILLI, Nanos, SECOND},
    config::{Does, Fault, Scenario},
    draws::{For, Sequence, unit},
    times::Times,
};

pub(crate) const NEVER: Nanos = Nanos::MAX;

/// The width of the slots in which attempts are counted.
pub(crate) const SLOT: Nanos = 100_000_000;

/// How long a connection may take to come about, in every policy: as in the ready-made client of ours.
const CONNECT: Nanos = 300_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(u16),
    /// Never sent.
    Refused,
    /// Never sent.
    ConnectTimeout,
    Reset,
}

/// What will become of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) reply: Reply,
    /// When the client has it.
    pub(crate) at: Nanos,
    /// When work on it begins and ends.
    pub(crate) work: (Nanos, Nanos),
    /// Whether the work was done, whatever became of the reply.
    pub(crate) done: bool,
}

/// One attempt as it reaches a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) seed: u64,
    pub(crate) call: u32,
    /// From 0.
    pub(crate) number: u32,
    pub(crate) sent: Nanos,
    pub(crate) gives_up: Nanos,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// When each worker is free.
    workers: BinaryHeap<Reverse<Nanos>>,
    count: u32,
    times: Times,
    faults: Vec<Fault>,
    network: Nanos,
    deadline_aware: bool,
    restarted: Nanos,
    /// Nanoseconds of work in all.
    pub(crate) worked: Nanos,
    /// Attempts sent to it, by slots.
    pub(crate) attempts: Vec<u32>,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, index: u32) -> Self {
        let of_this = |fault: &&Fault| fault.servers.is_empty() || fault.servers.contains(&index);
        let mut server = Self {
            workers: BinaryHeap::new(),
            count: scenario.workers,
            times: scenario.service_ms,
            faults: scenario.fault.iter().filter(of_this).cloned().collect(),
            network: (scenario.network_ms * MILLI) as Nanos,
            deadline_aware: scenario.deadline_aware,
            restarted: 0,
            worked: 0,
            attempts: Vec::new(),
        };
        server.clear(0);
        server
    }

    fn clear(&mut self, free: Nanos) {
        self.workers = (0..self.count).map(|_| Reverse(free)).collect();
    }

    fn count_attempt(&mut self, at: Nanos) {
        let slot = (at / SLOT) as usize;
        if self.attempts.len() <= slot {
            self.attempts.resize(slot + 1, 0);
        }
        self.attempts[slot] += 1;
    }

    /// Those that hold at an instant.
    fn now(&self, at: Nanos) -> impl Iterator<Item = (usize, Does)> {
        let holds = move |fault: &Fault| nanos(fault.from_s) <= at && at < nanos(fault.to_s);
        let faults = self.faults.iter().enumerate();
        faults
            .filter(move |(_, fault)| holds(fault))
            .map(|(index, fault)| (index, fault.does))
    }

    pub(crate) fn take(&mut self, attempt: Attempt) -> Fate {
        self.count_attempt(attempt.sent);
        let far: f64 = self
            .now(attempt.sent)
            .map(|(_, does)| {
                if let Does::Far { ms } = does {
                    ms * MILLI
                } else {
                    0.0
                }
            })
            .sum();
        let way = self.network + far as Nanos;
        let here = attempt.sent + way;
        let at_once = |reply, at: Nanos| Fate {
            reply,
            at: at.saturating_add(way),
            work: (at, at),
            done: matches!(reply, Reply::Status(200)),
        };
        for (index, does) in self.now(here) {
            let by_chance = |share: f64| chance(attempt, index) < share;
            match does {
                Does::Status { code, after_ms } => {
                    return at_once(Reply::Status(code), here + (after_ms * MILLI) as Nanos);
                }
                Does::Takes { ms } => {
                    return at_once(Reply::Status(200), here + (ms * MILLI) as Nanos);
                }
                Does::Refuse | Does::Restart => return at_once(Reply::Refused, here),
                Does::NoConnect => {
                    return at_once(Reply::ConnectTimeout, attempt.sent + CONNECT - way);
                }
                Does::Hang => return at_once(Reply::Reset, NEVER),
                Does::ResetBefore { share } if by_chance(share) => {
                    return at_once(Reply::Reset, here);
                }
                _ => {}
            }
        }
        self.work(attempt, here, way)
    }

    fn work(&mut self, attempt: Attempt, here: Nanos, way: Nanos) -> Fate {
        self.forget_before(here);
        let free = match self.count {
            0 => here,
            _ => self
                .workers
                .pop()
                .map_or(here, |Reverse(free)| free.max(here)),
        };
        let start = self.thawed(free);
        if self.deadline_aware && start >= attempt.gives_up {
            self.workers.push(Reverse(free));
            return Fate {
                reply: Reply::Reset,
                at: NEVER,
                work: (start, start),
                done: false,
            };
        }
        let (work, reply) = self.effort(attempt, start);
        let end = self.through_freezes(start, start + work);
        let cut = self.restart_within(here, end);
        let (end, reply) = cut.unwrap_or((end, reply));
        let start = start.min(end);
        self.worked += end - start;
        if self.count > 0 {
            self.workers.push(Reverse(end));
        }
        Fate {
            reply,
            at: end + way,
            work: (start, end),
            done: cut.is_none() && !matches!(reply, Reply::Status(300..)),
        }
    }

    /// How long the work takes that begins then, and how it ends.
    fn effort(&self, attempt: Attempt, start: Nanos) -> (Nanos, Reply) {
        let name = u64::from(attempt.call) << 8 | u64::from(attempt.number.min(255));
        let mut draws = Sequence::new(attempt.seed, For::Work, name);
        let mut work = self.times.draw(&mut draws);
        let mut reply = Reply::Status(200);
        for (index, does) in self.now(start) {
            let by_chance = |share: f64| chance(attempt, index) < share;
            match does {
                Does::Slow { times } => work *= times,
                Does::Cold { times } => {
                    let fault = &self.faults[index];
                    let (from, to) = (fault.from_s, fault.to_s);
                    let left = (to - start as f64 / SECOND) / (to - from);
                    work *= 1.0 + (times - 1.0) * left;
                }
                Does::Noise { share, code } if by_chance(share) => reply = Reply::Status(code),
                Does::ResetAfter { share } if by_chance(share) => reply = Reply::Reset,
                Does::Stall { share, ms } if by_chance(share) => work += ms,
                _ => {}
            }
        }
        ((work * MILLI) as Nanos, reply)
    }

    fn freezes(&self) -> impl Iterator<Item = (Nanos, Nanos)> {
        let frozen = self
            .faults
            .iter()
            .filter(|fault| matches!(fault.does, Does::Freeze));
        frozen.map(|fault| (nanos(fault.from_s), nanos(fault.to_s)))
    }

    fn thawed(&self, at: Nanos) -> Nanos {
        let frozen = self.freezes().find(|(from, to)| (*from..*to).contains(&at));
        frozen.map_or(at, |(_, to)| to)
    }

    fn through_freezes(&self, start: Nanos, end: Nanos) -> Nanos {
        let within = self
            .freezes()
            .filter(|(from, _)| start < *from && *from < end);
        end + within.map(|(from, to)| to - from).sum::<Nanos>()
    }

    fn restarts(&self) -> impl Iterator<Item = (Nanos, Nanos)> {
        let restarts = self
            .faults
            .iter()
            .filter(|fault| matches!(fault.does, Does::Restart));
        restarts.map(|fault| (nanos(fault.from_s), nanos(fault.to_s)))
    }

    /// What it had when it restarted is gone.
    fn forget_before(&mut self, now: Nanos) {
        let last = self
            .restarts()
            .map(|(_, to)| to)
            .filter(|to| *to <= now)
            .max();
        if let Some(up) = last.filter(|up| *up > self.restarted) {
            self.restarted = up;
            self.clear(up);
        }
    }

    fn restart_within(&self, start: Nanos, end: Nanos) -> Option<(Nanos, Reply)> {
        let mut restarts = self.restarts();
        let (down, _) = restarts.find(|(from, _)| *from < end && start < *from)?;
        Some((down, Reply::Reset))
    }
}

fn chance(attempt: Attempt, fault: usize) -> f64 {
    let which = u64::from(attempt.number) << 8 | fault as u64;
    unit(attempt.seed, For::Fault, u64::from(attempt.call), which)
}

pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND) as Nanos
}
