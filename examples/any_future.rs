//! The decision parts alone, around any future: here a query to a small database of its own protocol.
//!
//! `cargo run --example any_future`

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::{Breaker, Deadline, Retry, retry};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let database = flaky_database().await?;
    let policy = Retry::default().max_attempts(3).build()?;
    let breaker = Breaker::count(5, Duration::from_secs(10))?;

    // Outside to inside: one deadline, then attempts, then the breaker that counts each of them.
    let deadline = Deadline::from_now(Duration::from_secs(3));
    let attempts = retry::run(&policy, |_number| {
        breaker.run(query(database, "balance of 42"))
    });
    let answer = deadline.run(attempts.deadline(deadline)).await??;
    println!("balance: {answer}");
    println!("breaker: {:?}", breaker.state());
    Ok(())
}

/// What a database driver would do.
async fn query(database: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(database).await?);
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut answer = String::new();
    match stream.read_line(&mut answer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer.trim_end().to_owned()),
    }
}

/// Drops the first two connections without an answer.
async fn flaky_database() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        for number in 1.. {
            let (stream, _) = listener.accept().await?;
            let mut stream = BufReader::new(stream);
            let mut question = String::new();
            stream.read_line(&mut question).await?;
            println!("database: query {number}: {}", question.trim_end());
            if number > 2 {
                stream.write_all(b"17.40\n").await?;
            }
        }
        io::Result::Ok(())
    });
    Ok(address)
}
