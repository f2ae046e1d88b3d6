//! How the connection to an endpoint comes about.

use std::{
    array,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use futures::future::{BoxFuture, FutureExt, Ready, ready};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tower::Service;

use super::line::Line;
use crate::{clock, error::BoxError};

/// A try that came to nothing after this long was slow; a refusal within one region takes far less.
const SLOW: Duration = Duration::from_millis(20);

/// How long a slow try speaks for those after it.
///
/// tonic's channel connects for one waiting call after the other, so each of them would sit through a timeout of its
/// own behind those before it. This is ample to tell them all, and short beside the try itself.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the peer's system may leave what was sent unacknowledged before the connection counts as broken. Without it
/// a connection whose packets get lost, as behind a firewall that forgot it, would be kept for a quarter of an hour.
///
/// Longer than a network takes to find another way; an application that is slow does not matter here.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A try that failed slowly is not repeated at once.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint could not be reached in time a moment ago")]
struct Unreachable;

/// When the last slow try came to nothing.
type LastSlow = Arc<ArcSwapOption<Instant>>;

/// Connects to one address, whatever the name.
pub(super) struct Connector {
    tcp: HttpConnector<ToAddress>,
    last_slow: LastSlow,
    line: Arc<Line>,
}

impl Connector {
    pub(super) fn new(settings: &Endpoint, address: SocketAddr, line: Arc<Line>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(ToAddress(address));
        tcp.set_nodelay(settings.get_tcp_nodelay());
        tcp.set_keepalive(settings.get_tcp_keepalive());
        tcp.set_keepalive_interval(settings.get_tcp_keepalive_interval());
        tcp.set_keepalive_retries(settings.get_tcp_keepalive_retries());
        // Where the system has it.
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self {
            tcp,
            last_slow: LastSlow::default(),
            line,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let began = clock::now();
        let lately = |at: &Arc<Instant>| began.saturating_duration_since(**at) < PAUSE;
        if self.last_slow.load().as_ref().is_some_and(lately) {
            return ready(Err(Unreachable.into())).boxed();
        }
        let attempt = Try {
            began,
            heard: false,
            last_slow: Arc::clone(&self.last_slow),
        };
        // A name without a port, so that the address is taken as the resolver gives it, port and zone included.
        let connecting = self.tcp.call(Uri::from_static("http://endpoint"));
        let line = Arc::clone(&self.line);
        let connected = move |tcp| match tcp {
            Ok(tcp) => Ok(Stream { tcp, attempt, line }),
            Err(error) => Err(BoxError::from(error)),
        };
        connecting.map(connected).boxed()
    }
}

/// Resolves every name to one address.
#[derive(Clone)]
struct ToAddress(SocketAddr);

impl Service<Name> for ToAddress {
    type Response = array::IntoIter<SocketAddr, 1>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok([self.0].into_iter()))
    }
}

/// One try to connect, which goes on until the peer is heard: it may be silent where a TLS handshake should be, which
/// stands above this.
struct Try {
    began: Instant,
    heard: bool,
    last_slow: LastSlow,
}

impl Drop for Try {
    fn drop(&mut self) {
        let now = clock::now();
        if !self.heard && now.saturating_duration_since(self.began) >= SLOW {
            self.last_slow.store(Some(Arc::new(now)));
        }
    }
}

/// The connection, once the address took it.
pub(super) struct Stream {
    tcp: TokioIo<TcpStream>,
    attempt: Try,
    line: Arc<Line>,
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.attempt.heard = true;
            self.line.hear();
        }
        read
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }
}

#[cfg(test)]
mod tests {
    use std::{mem::MaybeUninit, task::Waker};

    use hyper::rt::ReadBuf;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn connector(address: SocketAddr) -> Connector {
        let settings = Endpoint::from_static("http://echo.internal");
        Connector::new(&settings, address, Arc::default())
    }

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }

    fn connect(connector: &mut Connector) -> BoxFuture<'static, Result<Stream, BoxError>> {
        let ready = connector.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        connector.call(Uri::from_static("http://any"))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_whose_packets_get_lost_is_not_kept_for_long() {
        let (_listener, address) = listening().await;
        let stream = connect(&mut connector(address)).await.expect("it listens");
        let socket = socket2::SockRef::from(stream.tcp.inner());
        let limit = socket.tcp_user_timeout().expect("an option of Linux");
        assert_eq!(limit, Some(UNACKNOWLEDGED));
    }

    fn ended(began: Instant, heard: bool) -> bool {
        let last_slow = LastSlow::default();
        drop(Try {
            began,
            heard,
            last_slow: Arc::clone(&last_slow),
        });
        last_slow.load().is_some()
    }

    #[test]
    fn a_try_is_slow_if_it_took_its_time_and_nobody_was_heard() {
        let (long_ago, soon) = (clock::now() - SLOW, clock::now() + SLOW * 100);
        assert!(ended(long_ago, false));
        assert!(!ended(soon, false) && !ended(long_ago, true));
    }

    #[tokio::test]
    async fn a_slow_try_speaks_for_those_right_after_it() {
        let (_listener, address) = listening().await;
        let mut connector = connector(address);
        let just_now = clock::now() + PAUSE * 100;
        connector.last_slow.store(Some(Arc::new(just_now)));
        let refused = connect(&mut connector).await.map(drop);
        assert!(refused.expect_err("just failed").is::<Unreachable>());
        connector
            .last_slow
            .store(Some(Arc::new(clock::now() - PAUSE)));
        assert!(connect(&mut connector).await.is_ok());
    }

    #[tokio::test]
    async fn a_peer_that_speaks_is_heard() {
        let (listener, address) = listening().await;
        let mut stream = connect(&mut connector(address)).await.expect("it listens");
        let (mut peer, _) = listener.accept().await.expect("connected");
        assert!(!stream.attempt.heard);
        peer.write_all(b"hello").await.expect("open");
        let read = std::future::poll_fn(|cx| {
            let mut bytes = [MaybeUninit::uninit(); 8];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            Pin::new(&mut stream).poll_read(cx, buffer.unfilled())
        });
        read.await.expect("open");
        assert!(stream.attempt.heard);
    }
}
