//! Open-loop arrivals: a Poisson process, of which each call falls to a random client.

use crate::{
    draws::{For, bits, unit},
    times::exponential,
};

/// Nanoseconds of simulated time.
pub(crate) type Nanos = u64;

pub(crate) const MILLI: f64 = 1e6;
pub(crate) const SECOND: f64 = 1e9;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) call: u32,
    pub(crate) client: u32,
    pub(crate) at: Nanos,
}

/// The calls of a run in their order.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) seed: u64,
    pub(crate) per_second: f64,
    pub(crate) clients: u32,
    pub(crate) until: Nanos,
    pub(crate) next: u32,
    pub(crate) at: f64,
    /// One call of each client, all at the start.
    pub(crate) at_once: bool,
}

impl Arrivals {
    pub(crate) fn new(seed: u64, per_second: f64, clients: u32, until: Nanos) -> Self {
        Self {
            seed,
            per_second,
            clients,
            until,
            next: 0,
            at: 0.0,
            at_once: false,
        }
    }

    /// One call of each client at the start, and time for their ends.
    pub(crate) fn at_once(clients: u32, until: Nanos) -> Self {
        Self {
            at_once: true,
            ..Self::new(0, 1.0, clients, until)
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.at_once {
            let call = self.next;
            self.next += 1;
            return (call < self.clients).then_some(Arrival {
                call,
                client: call,
                at: 0,
            });
        }
        let call = u64::from(self.next);
        self.at += exponential(SECOND / self.per_second, unit(self.seed, For::Gap, call, 0));
        let at = self.at as Nanos;
        let client = bits(self.seed, For::Client, call, 0) % u64::from(self.clients);
        self.next += 1;
        (at < self.until).then_some(Arrival {
            call: call as u32,
            client: client as u32,
            at,
        })
    }
}
