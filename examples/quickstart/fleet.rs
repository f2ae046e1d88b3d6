//! Eight servers over one ledger, and the weather that passes over them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use crate::faults::{Episode, Fault};
use crate::ledger::Ledger;
use crate::server::{Protocol, Server};

/// How many servers a fleet has.
pub const SERVERS: usize = 8;

pub struct Fleet {
    pub ledger: Arc<Ledger>,
    servers: Vec<Server>,
}

impl Fleet {
    pub fn start(protocol: Protocol, seed: u64) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::default());
        let servers = (1..=SERVERS as u8)
            .map(|number| Server::start(protocol, number, seed, Arc::clone(&ledger)))
            .collect::<io::Result<_>>()?;
        Ok(Self { ledger, servers })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// How many requests each server has seen.
    pub fn requests(&self) -> Vec<u64> {
        self.servers.iter().map(Server::requests).collect()
    }

    /// Breaks and mends servers as the schedule says, from now on.
    pub async fn suffer(&self, schedule: &[Episode]) {
        let start = Instant::now();
        let mut changes: Vec<(_, usize, Option<Fault>)> = schedule
            .iter()
            .flat_map(|e| [(e.from, e.server, Some(e.fault)), (e.until, e.server, None)])
            .collect();
        changes.sort_by_key(|&(at, ..)| at);
        for (at, server, fault) in changes {
            sleep_until(start + at).await;
            self.servers[server].set(fault);
        }
    }
}
