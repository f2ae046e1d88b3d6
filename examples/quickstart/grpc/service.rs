//! The desk behind a generated tonic service.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::payments::payments_server::{Payments, PaymentsServer};
use super::payments::{ChargeRequest, Receipt};
use crate::desk::{Desk, Refusal};
use crate::ledger;

/// Serves one connection to its end.
pub async fn serve(stream: TcpStream, desk: Desk) -> hyper::Result<()> {
    let service = TowerToHyperService::new(PaymentsServer::new(desk));
    http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[tonic::async_trait]
impl Payments for Desk {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<Receipt>, Status> {
        let (metadata, _, charge) = request.into_parts();
        let key = metadata.get("idempotency-key");
        let key = key.and_then(|key| key.to_str().ok());
        match Self::charge(self, charge.into(), key).await {
            Ok(receipt) => Ok(Response::new(receipt.into())),
            Err(Refusal::Busy { retry_after }) => Err(busy(retry_after)),
            Err(Refusal::KeyTaken) => Err(Status::already_exists("the key has another charge")),
        }
    }
}

/// What HTTP servers say by 503 and `Retry-After`. RESOURCE_EXHAUSTED would be their 429: load, for which a balancer
/// does not leave a server out.
fn busy(retry_after: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    let pushback = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    metadata.insert("grpc-retry-pushback-ms", pushback.into());
    Status::with_metadata(Code::Unavailable, "busy", metadata)
}

impl From<ChargeRequest> for ledger::Charge {
    fn from(ChargeRequest { order, cents }: ChargeRequest) -> Self {
        Self { order, cents }
    }
}

impl From<ledger::Charge> for ChargeRequest {
    fn from(ledger::Charge { order, cents }: ledger::Charge) -> Self {
        Self { order, cents }
    }
}

impl From<ledger::Receipt> for Receipt {
    fn from(ledger::Receipt { number, order }: ledger::Receipt) -> Self {
        Self { number, order }
    }
}

impl From<Receipt> for ledger::Receipt {
    fn from(Receipt { number, order }: Receipt) -> Self {
        Self { number, order }
    }
}
