//! The life of a payment server: it listens, breaks, dies and comes back at the same address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::desk::Desk;
use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::{grpc, http};

/// What a server speaks.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Http,
    Grpc,
}

/// A running server. It stops when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    fault: watch::Sender<Option<Fault>>,
    requests: Arc<AtomicU64>,
}

impl Server {
    /// Starts server `number` on a loopback address of its own.
    pub fn start(
        protocol: Protocol,
        number: u8,
        seed: u64,
        ledger: Arc<Ledger>,
    ) -> io::Result<Self> {
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
            reset: Arc::default(),
        };
        tokio::spawn(run(protocol, socket, address, desk, fault));
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
    protocol: Protocol,
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
            never = accept(protocol, listener, &desk) => match never {},
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
async fn accept(protocol: Protocol, listener: TcpListener, desk: &Desk) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(protocol, stream, desk.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until either side has enough of it.
async fn serve(protocol: Protocol, stream: TcpStream, desk: Desk) {
    let _ = stream.set_nodelay(true);
    // Closing resets the connection, as the death of a process does.
    let _ = stream.set_zero_linger();
    let reset = Arc::new(Notify::new());
    let desk = Desk {
        reset: Arc::clone(&reset),
        ..desk
    };
    let served = async {
        match protocol {
            Protocol::Http => http::service::serve(stream, desk).await,
            Protocol::Grpc => grpc::service::serve(stream, desk).await,
        }
    };
    tokio::select! {
        _ = served => {}
        () = reset.notified() => {}
    }
}
