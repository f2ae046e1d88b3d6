//! The simulated network: attempts on their way, and what is known about them.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use crate::{
    arrivals::{MILLI, Nanos},
    config::{Kind, Scenario},
    ledger::Ledger,
    upstream::{Attempt, Fate, NEVER, Reply, Server},
};

/// Servers, calls and attempts of one run.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    seed: u64,
    kind: Kind,
    pub(crate) now: Nanos,
    deadline: Nanos,
    pub(crate) servers: Vec<Server>,
    pub(crate) calls: Vec<Call>,
    replies: BinaryHeap<Reverse<(Nanos, u64)>>,
    waiting: Vec<Waiting>,
    free: Vec<u32>,
    /// Attempts that nobody has ended.
    pub(crate) open: u32,
    /// Nanoseconds of work after the caller gave up.
    pub(crate) wasted: Nanos,
    pub(crate) ledger: Ledger,
}

/// A logical call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) at: Nanos,
    pub(crate) attempts: u32,
    /// How long it took; 0: it has not ended.
    pub(crate) took: Nanos,
    pub(crate) good: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    round: u32,
    waker: Option<Waker>,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        let servers = (0..scenario.all_servers()).map(|index| Server::new(scenario, index));
        Self(Arc::new(Mutex::new(State {
            seed,
            kind: scenario.kind,
            now: 0,
            deadline: scenario.deadline(),
            servers: servers.collect(),
            calls: Vec::new(),
            replies: BinaryHeap::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            open: 0,
            wasted: 0,
            ledger: Ledger::default(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    /// Sends an attempt of a call to a server, under a key, and with the milliseconds that are left, if they are told.
    pub(crate) fn send(
        &self,
        server: u32,
        call: u32,
        key: Option<&str>,
        left_ms: Option<u64>,
    ) -> Exchange {
        let mut state = self.state();
        let fate = state.fate(server, call, left_ms);
        if state.kind == Kind::Payments {
            state.ledger.take(call, key, fate.done);
        }
        let slot = state.free.pop().unwrap_or_else(|| {
            state.waiting.push(Waiting::default());
            state.waiting.len() as u32 - 1
        });
        let round = state.waiting[slot as usize].round;
        if fate.at != NEVER {
            let name = u64::from(slot) << 32 | u64::from(round);
            state.replies.push(Reverse((fate.at, name)));
        }
        state.open += 1;
        Exchange {
            world: self.clone(),
            slot,
            fate,
            ended: false,
        }
    }
}

impl State {
    pub(crate) fn call(&mut self, call: u32) -> &mut Call {
        let index = call as usize;
        if self.calls.len() <= index {
            self.calls.resize(index + 1, Call::default());
        }
        &mut self.calls[index]
    }

    fn fate(&mut self, server: u32, call: u32, left_ms: Option<u64>) -> Fate {
        let (seed, sent, deadline) = (self.seed, self.now, self.deadline);
        let known = self.call(call);
        let attempt = Attempt {
            seed,
            call,
            number: known.attempts,
            sent,
            gives_up: left_ms.map_or(known.at + deadline, |left| sent + left * MILLI as Nanos),
        };
        known.attempts += 1;
        self.servers[server as usize].take(attempt)
    }

    /// When the next reply arrives.
    pub(crate) fn next_reply(&self) -> Nanos {
        self.replies.peek().map_or(NEVER, |Reverse((at, _))| *at)
    }

    /// Wakes those whose replies have arrived.
    pub(crate) fn deliver(&mut self) {
        while let Some(Reverse((at, name))) = self.replies.peek().copied() {
            if at > self.now {
                return;
            }
            self.replies.pop();
            let waiting = &mut self.waiting[(name >> 32) as usize];
            if waiting.round == name as u32
                && let Some(waker) = waiting.waker.take()
            {
                waker.wake();
            }
        }
    }
}

/// An attempt on its way. Dropped before its reply, it was given up.
#[derive(Debug)]
pub(crate) struct Exchange {
    world: World,
    slot: u32,
    fate: Fate,
    ended: bool,
}

impl Future for Exchange {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let world = self.world.clone();
        let mut state = world.state();
        if self.fate.at > state.now {
            let waiting = &mut state.waiting[self.slot as usize];
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.ended = true;
        Poll::Ready(self.fate.reply)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let waiting = &mut state.waiting[self.slot as usize];
        waiting.round = waiting.round.wrapping_add(1);
        waiting.waker = None;
        state.free.push(self.slot);
        state.open -= 1;
        if !self.ended {
            let (start, end) = self.fate.work;
            state.wasted += end - state.now.clamp(start, end);
        }
    }
}
