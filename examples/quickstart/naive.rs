//! The client that most of us have written once: one timeout, three more tries on any error, the
//! next server every time, and no idempotency key.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::drive::Outcome;
use crate::ledger::{Charge, Receipt};

/// The timeout of each try, the same as evenkeel's.
pub const TIMEOUT: Duration = Duration::from_millis(800);

const RETRIES: u32 = 3;

/// `T` is what it takes to call one server.
#[derive(Clone)]
pub struct Naive<T> {
    servers: Arc<[T]>,
    next: Arc<AtomicUsize>,
}

impl<T: Clone> Naive<T> {
    pub fn new(servers: impl IntoIterator<Item = T>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            next: Arc::default(),
        }
    }

    /// Charges through one server after the other until one of them gives a receipt.
    pub async fn charge<F, E>(self, charge: Charge, attempt: fn(T, Charge) -> F) -> Outcome
    where
        F: Future<Output = Result<Receipt, E>>,
        E: Display,
    {
        let mut attempts = 1;
        loop {
            let answer = attempt(self.next_server(), charge).await;
            let paid = matches!(&answer, Ok(receipt) if receipt.order == charge.order);
            if paid || attempts > RETRIES {
                return Outcome {
                    paid,
                    attempts,
                    story: match answer {
                        Ok(receipt) => format!("receipt {}", receipt.number),
                        Err(error) => error.to_string(),
                    },
                };
            }
            attempts += 1;
        }
    }

    fn next_server(&self) -> T {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.servers[turn % self.servers.len()].clone()
    }
}
