//! The client that most of us have written once: one timeout, three more tries on any error or
//! 5xx, the next server every time, and no idempotency key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::drive::Outcome;
use crate::ledger::{Charge, Receipt};

const RETRIES: u32 = 3;

#[derive(Clone)]
pub struct Naive {
    http: reqwest::Client,
    servers: Arc<[SocketAddr]>,
    next: Arc<AtomicUsize>,
}

impl Naive {
    pub fn new(servers: Vec<SocketAddr>, timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(timeout)
                .build()?,
            servers: servers.into(),
            next: Arc::default(),
        })
    }

    pub async fn charge(self, charge: Charge) -> Outcome {
        let mut attempts = 1;
        loop {
            let answer = self.attempt(charge).await;
            let paid = matches!(&answer, Ok(receipt) if receipt.order == charge.order);
            if paid || attempts > RETRIES {
                let story = match answer {
                    Ok(receipt) => format!("receipt {}", receipt.number),
                    Err(error) => error.to_string(),
                };
                return Outcome {
                    paid,
                    attempts,
                    story,
                };
            }
            attempts += 1;
        }
    }

    async fn attempt(
        &self,
        charge: Charge,
    ) -> Result<Receipt, Box<dyn std::error::Error + Send + Sync>> {
        let server = self.servers[self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len()];
        let answer = self
            .http
            .post(format!("http://{server}/charges"))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&charge)?)
            .send()
            .await?
            .error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}
