//! The layers one by one, in a `tower::ServiceBuilder` of your own. They go around any service that
//! takes `http::Request` and answers `http::Response`; here it is reqwest, through an adapter.
//!
//! `cargo run --example layers`

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::reqwest::HttpService;
use evenkeel::{
    AttemptTimeoutLayer, Body, Breaker, CircuitBreakerLayer, DeadlineLayer, IdempotencyKeyLayer,
    Report, Retry, RetryLayer,
};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Only because this workspace's tests speak TLS; plain http needs no provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;

    let breaker = Breaker::count(5, Duration::from_secs(10))?;
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(3))?)
        .layer(IdempotencyKeyLayer::default())
        .layer(RetryLayer::new(Retry::default().max_attempts(3).build()?))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(AttemptTimeoutLayer::new(Duration::from_millis(800))?)
        .service(HttpService::new(client));

    let server = forgetful_server().await?;
    let request = Request::post(format!("http://{server}/charges")).body(Body::from("order 42"))?;
    let reply = service.oneshot(request).await?;
    println!("{}", reply.status());
    if let Some(report) = reply.extensions().get::<Report>() {
        println!("  {report}");
    }
    println!("breaker: {:?}", breaker.state());
    Ok(())
}

/// Closes the first connection without an answer, and says which keys it saw.
async fn forgetful_server() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        for number in 0u32.. {
            let (mut stream, _) = listener.accept().await?;
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await?;
            let request = String::from_utf8_lossy(&request[..length]);
            for key in request
                .lines()
                .filter(|line| line.starts_with("idempotency-key"))
            {
                println!("server: request {number} has {key}");
            }
            if number > 0 {
                let answer =
                    "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
            }
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}
