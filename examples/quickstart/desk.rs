//! What a payment server does with a charge, in good weather and in bad.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::faults::Fault;
use crate::ledger::{Charge, KeyTaken, Ledger, Receipt};

/// Why there is no receipt.
pub enum Refusal {
    /// The server has no time now, and says when it will have.
    Busy { retry_after: Duration },
    /// The key was used before, for a different charge.
    KeyTaken,
}

/// One for each connection.
#[derive(Clone)]
pub struct Desk {
    pub seed: u64,
    pub ledger: Arc<Ledger>,
    pub fault: watch::Receiver<Option<Fault>>,
    pub requests: Arc<AtomicU64>,
    /// Resets the connection.
    pub reset: Arc<Notify>,
}

impl Desk {
    pub async fn charge(&self, charge: Charge, key: Option<&str>) -> Result<Receipt, Refusal> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.borrow();
        let mut rng = StdRng::seed_from_u64(self.seed ^ charge.order);
        match fault {
            None => {
                sleep(Duration::from_millis(rng.random_range(2..8))).await;
                self.book(charge, key)
            }
            Some(Fault::Slow) => {
                let answer = self.book(charge, key);
                sleep(Duration::from_millis(rng.random_range(300..900))).await;
                answer
            }
            Some(Fault::Unavailable) => Err(Refusal::Busy {
                retry_after: Duration::from_secs(1),
            }),
            Some(Fault::LosesReplies) => {
                self.book(charge, key)?;
                self.reset.notify_one();
                pending().await
            }
            Some(Fault::Hangs | Fault::Killed) => pending().await,
        }
    }

    fn book(&self, charge: Charge, key: Option<&str>) -> Result<Receipt, Refusal> {
        let booked = self.ledger.charge(charge, key);
        booked.map_err(|KeyTaken| Refusal::KeyTaken)
    }
}
