//! A payment server that can be broken in every way a real one breaks.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::faults::Fault;
use crate::ledger::{Charge, KeyTaken, Ledger};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A running server. It stops when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    fault: watch::Sender<Option<Fault>>,
    requests: Arc<AtomicU64>,
}

impl Server {
    /// Starts server `number` on a loopback address of its own.
    pub fn start(number: u8, seed: u64, ledger: Arc<Ledger>) -> io::Result<Self> {
        // Linux has the whole of 127.0.0.0/8; elsewhere only 127.0.0.1 can be bound.
        let socket = reserve(SocketAddr::from(([127, 0, 0, 10 + number], 0)))
            .or_else(|_| reserve(SocketAddr::from(([127, 0, 0, 1], 0))))?;
        let address = socket.local_addr()?;
        let (sender, fault) = watch::channel(None);
        let requests = Arc::new(AtomicU64::new(0));
        let desk = Desk {
            seed: seed ^ (u64::from(number) << 32),
            ledger,
            fault: fault.clone(),
            requests: Arc::clone(&requests),
        };
        tokio::spawn(run(socket, address, desk, fault));
        Ok(Self {
            address,
            fault: sender,
            requests,
        })
    }

    /// Breaks the server, or mends it.
    pub fn set(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    /// How many requests for a charge have arrived.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Holds an address without listening on it: connections are refused, and it stays ours.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn run(
    mut socket: TcpSocket,
    address: SocketAddr,
    desk: Desk,
    mut fault: watch::Receiver<Option<Fault>>,
) {
    loop {
        let listener = socket
            .listen(1024)
            .expect("a reserved address can be listened on");
        tokio::select! {
            told = fault.wait_for(|fault| *fault == Some(Fault::Killed)) => if told.is_err() { return },
            never = accept(listener, &desk) => match never {},
        }
        socket = reserve(address).expect("the address of a killed server is free");
        if fault
            .wait_for(|fault| *fault != Some(Fault::Killed))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Serves for ever. Dropping this closes the listener and resets every connection.
async fn accept(listener: TcpListener, desk: &Desk) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Closing resets the connection, as the death of a process does.
        let _ = stream.set_zero_linger();
        let desk = desk.clone();
        let service = service_fn(move |request| desk.clone().answer(request));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}

/// What one connection needs to answer requests.
#[derive(Clone)]
struct Desk {
    seed: u64,
    ledger: Arc<Ledger>,
    fault: watch::Receiver<Option<Fault>>,
    requests: Arc<AtomicU64>,
}

impl Desk {
    /// An error makes hyper drop the connection without an answer.
    async fn answer(self, request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::GET {
            return status(StatusCode::OK);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.borrow();
        let key = parts
            .headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok());
        let body = body.collect().await?.to_bytes();
        let Ok(charge) = serde_json::from_slice::<Charge>(&body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let mut rng = StdRng::seed_from_u64(self.seed ^ charge.order);
        match fault {
            None => {
                sleep(Duration::from_millis(rng.random_range(2..8))).await;
                self.charge(charge, key)
            }
            Some(Fault::Slow) => {
                let answer = self.charge(charge, key);
                sleep(Duration::from_millis(rng.random_range(300..900))).await;
                answer
            }
            Some(Fault::Unavailable) => Ok(Response::builder()
                .status(StatusCode::SERVICE_UNAVAILABLE)
                .header("retry-after", "1")
                .body(Full::default())?),
            Some(Fault::LosesReplies) => {
                self.charge(charge, key)?;
                Err("the reply is lost".into())
            }
            Some(Fault::Hangs | Fault::Killed) => pending().await,
        }
    }

    fn charge(&self, charge: Charge, key: Option<&str>) -> Fallible<Response<Full<Bytes>>> {
        match self.ledger.charge(charge, key) {
            Ok(receipt) => Ok(Response::builder()
                .status(StatusCode::CREATED)
                .header("content-type", "application/json")
                .body(serde_json::to_vec(&receipt)?.into())?),
            Err(KeyTaken) => status(StatusCode::UNPROCESSABLE_ENTITY),
        }
    }
}

fn status(status: StatusCode) -> Fallible<Response<Full<Bytes>>> {
    Ok(Response::builder().status(status).body(Full::default())?)
}
