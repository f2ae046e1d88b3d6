//! A reqwest client that you already have, made resilient for every URL it calls: deadline, retries
//! under a budget and a circuit breaker, the last two per origin. There is no balancer: the client
//! connects where the URL points.
//!
//! `cargo run --example wrap`

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{CallPolicy, Client, Report, Retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Only because this workspace's tests speak TLS; plain http needs no provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mine = reqwest::Client::builder()
        .no_proxy()
        .user_agent("wrap")
        .build()?;

    let http = Client::wrap_reqwest(mine)
        .deadline(Duration::from_secs(3))
        .retry(Retry::default().max_attempts(3))
        .build()?;

    let server = flaky_server().await?;
    let reply = http.get(format!("http://{server}/price")).send().await?;
    let report = reply.extensions().get::<Report>().cloned();
    println!("{}: {}", reply.status(), reply.text().await?);
    if let Some(report) = report {
        println!("  {report}");
    }

    // One call may differ from the others: here a single attempt, so the 503 comes back as it is.
    let once = CallPolicy::new().no_retry();
    let reply = http
        .get(format!("http://{server}/price"))
        .policy(once)
        .send()
        .await?;
    println!("{} when tried only once", reply.status());
    Ok(())
}

/// Answers every other request with 503.
async fn flaky_server() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        for number in 0u32.. {
            let (mut stream, _) = listener.accept().await?;
            let _ = stream.read(&mut [0; 4096]).await?;
            let answer = match number % 2 {
                0 => {
                    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n42.00",
            };
            stream.write_all(answer.as_bytes()).await?;
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}
