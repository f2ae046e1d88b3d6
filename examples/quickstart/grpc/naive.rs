//! How the hand-written client calls one gRPC server: a channel of tonic's own.

use std::net::SocketAddr;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::payments::{ChargeRequest, payments_client::PaymentsClient};
use crate::Fallible;
use crate::ledger::{Charge, Receipt};
use crate::naive::{Naive, TIMEOUT};

pub fn client(servers: Vec<SocketAddr>) -> Fallible<Naive<PaymentsClient<Channel>>> {
    let mut clients = Vec::new();
    for server in servers {
        let endpoint = Endpoint::from_shared(format!("http://{server}"))?.timeout(TIMEOUT);
        clients.push(PaymentsClient::new(endpoint.connect_lazy()));
    }
    Ok(Naive::new(clients))
}

pub async fn attempt(
    mut server: PaymentsClient<Channel>,
    charge: Charge,
) -> Result<Receipt, Status> {
    let receipt = server.charge(ChargeRequest::from(charge)).await?;
    Ok(receipt.into_inner().into())
}
