//! The resilient gRPC client: this is what you would write.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{CallPolicy, Channel, IdempotencyKeys, Report, Retry};

use super::payments::{ChargeRequest, payments_client::PaymentsClient};
use crate::Fallible;
use crate::drive::Outcome;
use crate::ledger::Charge;

/// The channel goes where tonic's own would: `PaymentsClient::new(channel)`.
pub fn channel(servers: Vec<SocketAddr>) -> Fallible<Channel> {
    Ok(Channel::builder("http://payments.internal")
        .endpoints(servers)
        .idempotency_keys(IdempotencyKeys::default())
        .deadline(Duration::from_secs(3))
        .attempt_timeout(Duration::from_millis(800))
        .retry(Retry::default().max_attempts(3))
        .method("payments.Payments", CallPolicy::new().unary(true))
        .build_tonic(Ok)?)
}

/// One charge: a plain call of the generated client. The report says how it went.
pub async fn pay(mut payments: PaymentsClient<Channel>, charge: Charge) -> Outcome {
    match payments.charge(ChargeRequest::from(charge)).await {
        Ok(reply) => Outcome::of(
            reply.get_ref().order == charge.order,
            reply.extensions().get::<Report>(),
        ),
        Err(status) => {
            let source = status.source();
            let error = source.and_then(|source| source.downcast_ref::<evenkeel::Error>());
            Outcome {
                story: error.map_or_else(|| status.to_string(), ToString::to_string),
                ..Outcome::of(false, error.map(evenkeel::Error::report))
            }
        }
    }
}
