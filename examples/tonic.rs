//! gRPC: a generated tonic client over evenkeel's channel, which goes where tonic's own would.
//!
//! `cargo run --example tonic`

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::use_self,
    dead_code,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
#[path = "quickstart/grpc/payments.rs"]
mod payments;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel::{CallPolicy, Channel, IdempotencyKeys, Report, Retry};
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Request, Response, Status};

use payments::payments_client::PaymentsClient;
use payments::payments_server::{Payments, PaymentsServer};
use payments::{ChargeRequest, Receipt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let requests = Arc::default();
    let servers = [flaky_server(&requests)?, flaky_server(&requests)?];

    let channel = Channel::builder("http://payments.internal")
        .endpoints(servers)
        .idempotency_keys(IdempotencyKeys::default())
        .deadline(Duration::from_secs(3))
        .attempt_timeout(Duration::from_millis(800))
        .retry(Retry::default().max_attempts(3))
        .method("payments.Payments", CallPolicy::new().unary(true))
        .build_tonic(Ok)?;
    let mut payments = PaymentsClient::new(channel);

    let charge = ChargeRequest {
        order: 42,
        cents: 1999,
    };
    let reply = payments.charge(charge).await?;
    println!("receipt {}", reply.get_ref().number);
    if let Some(report) = reply.extensions().get::<Report>() {
        println!("  {report}");
    }

    // One call may differ from the others: here a single attempt, whose status comes back as it is.
    let mut once = Request::new(charge);
    once.extensions_mut().insert(CallPolicy::new().no_retry());
    if let Err(status) = payments.charge(once).await {
        println!("{} when tried only once", status.code());
        let source = status
            .source()
            .and_then(|source| source.downcast_ref::<evenkeel::Error>());
        if let Some(error) = source {
            println!(
                "  {error}\n  may have happened: {}",
                error.may_have_happened()
            );
        }
    }
    Ok(())
}

/// Turns every other request away, whichever of the servers it comes to.
struct Flaky {
    requests: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Payments for Flaky {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<Receipt>, Status> {
        let key = request.metadata().get("idempotency-key");
        println!("server: a request, with a key: {}", key.is_some());
        match self.requests.fetch_add(1, Ordering::Relaxed) {
            number if number % 2 == 0 => Err(Status::unavailable("draining")),
            number => Ok(Response::new(Receipt {
                number,
                order: request.get_ref().order,
            })),
        }
    }
}

fn flaky_server(requests: &Arc<AtomicU64>) -> Result<SocketAddr, Box<dyn Error>> {
    let incoming =
        TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let payments = PaymentsServer::new(Flaky {
        requests: Arc::clone(requests),
    });
    let server = Server::builder().add_service(payments);
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}
