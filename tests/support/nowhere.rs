//! Addresses behind which no server answers.

use std::{
    iter,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket};

use super::server::{LOOPBACK, RUNTIME};

/// A connection within this machine that takes longer is not going to be made.
const FULL: Duration = Duration::from_millis(300);

/// An address where connections are refused, kept from other use while this lives.
pub struct Refusing {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Refusing {
    pub fn new() -> Self {
        let _inside = RUNTIME.enter();
        let bound = TcpSocket::new_v4().expect("a socket");
        bound.bind((LOOPBACK, 0).into()).expect("a free port");
        Self {
            address: bound.local_addr().expect("it is bound"),
            _bound: bound,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An address where connections are accepted and nothing is ever read or written.
pub struct Silent {
    listener: StdListener,
}

impl Silent {
    pub fn new() -> Self {
        Self {
            listener: StdListener::bind((LOOPBACK, 0)).expect("a free port"),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }
}

/// An address where connecting takes for ever: the queue of its listener is full, so the system drops what asks for a
/// connection. Linux only.
pub struct BlackHole {
    listener: TcpListener,
    _queued: Vec<StdStream>,
}

impl BlackHole {
    pub fn new() -> Self {
        let _inside = RUNTIME.enter();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((LOOPBACK, 0).into()).expect("a free port");
        let listener = socket.listen(1).expect("a bound socket");
        let address = listener.local_addr().expect("it is bound");
        let connect = || StdStream::connect_timeout(&address, FULL).ok();
        let queued = iter::from_fn(connect).collect();
        Self {
            listener,
            _queued: queued,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }
}
