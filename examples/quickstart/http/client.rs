//! The resilient HTTP client: this is what you would write.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{Client, IdempotencyKeys, Report, Retry};

use crate::Fallible;
use crate::drive::Outcome;
use crate::ledger::{Charge, Receipt};

pub fn client(servers: Vec<SocketAddr>) -> Fallible<Client> {
    Ok(Client::builder("http://payments.internal")
        .endpoints(servers)
        .idempotency_keys(IdempotencyKeys::default())
        .deadline(Duration::from_secs(3))
        .attempt_timeout(Duration::from_millis(800))
        .retry(Retry::default().max_attempts(3))
        .build_reqwest(|_endpoint| reqwest::Client::builder())?)
}

/// One charge: a plain POST. The report says how it went.
pub async fn pay(payments: Client, charge: Charge) -> Outcome {
    match payments.post("/charges").json(&charge).send().await {
        Ok(reply) => {
            let report = reply.extensions().get::<Report>().cloned();
            let receipt = receipt(reply).await;
            let paid = receipt.is_ok_and(|receipt| receipt.order == charge.order);
            Outcome::of(paid, report.as_ref())
        }
        Err(error) => Outcome {
            story: error.to_string(),
            ..Outcome::of(false, Some(error.report()))
        },
    }
}

async fn receipt(reply: reqwest::Response) -> Fallible<Receipt> {
    Ok(reply.error_for_status()?.json().await?)
}
