//! What lies between a client and a server.

use std::net::{SocketAddr, TcpListener as StdListener};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use super::server::{LOOPBACK, RUNTIME};

/// Stands before a server; it can lose its connections without a word to either side, as a network does.
pub struct Network {
    address: SocketAddr,
    /// How many connections are lost: those that came first.
    lost: watch::Sender<usize>,
    task: AbortHandle,
}

impl Network {
    pub fn before(server: SocketAddr) -> Self {
        let listener = StdListener::bind((LOOPBACK, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let (lost, losing) = watch::channel(0);
        let serving = async move {
            let listener = TcpListener::from_std(listener).expect("it does not block");
            for number in 1.. {
                let (mut outside, _) = listener.accept().await.expect("it listens");
                let mut losing = losing.clone();
                tokio::spawn(async move {
                    let mut inside = TcpStream::connect(server).await.expect("a server");
                    let both = copy_bidirectional(&mut outside, &mut inside);
                    let loss = async { drop(losing.wait_for(|lost| *lost >= number).await) };
                    tokio::select! {
                        _ = both => {}
                        // Both stay open.
                        () = loss => std::future::pending().await,
                    }
                });
            }
        };
        let task = RUNTIME.spawn(serving).abort_handle();
        Self {
            address,
            lost,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses the connections that came first, so many in all.
    pub fn lose(&self, connections: usize) {
        self.lost.send_replace(connections);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}
