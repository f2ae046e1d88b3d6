//! Real-socket HTTP servers that follow a script and record what they were asked.
//!
//! They run on a runtime of their own, so that a test's runtime may be current-thread, or end, without them.
//! Not for paused time.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use evenkeel::BoxError;
use http::{HeaderMap, Method, Request, Response, Version, header, request::Parts};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::reply::{Act, Reply, ReplyBody};

pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("a runtime for the test servers"));

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One request as a server received it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub version: Version,
    /// The `Host` header.
    pub host: Option<String>,
    /// HTTP/2: `:authority`.
    pub authority: Option<String>,
    /// TLS: the name that the client asked for.
    pub sni: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Counts the connections of the server from 0.
    pub connection: usize,
    pub at: Instant,
}

/// What a server will be like; [`start`](Self::start) makes it one.
#[derive(Clone)]
pub struct Settings {
    ip: IpAddr,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    connections: usize,
}

impl Settings {
    /// Listens on this address in place of 127.0.0.1.
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = ip.into();
        self
    }

    /// Listens on this port in place of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Speaks TLS; see [`Authority::server`](super::tls::Authority::server).
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Serves this many connections at once; further ones wait, connected, until one closes.
    pub fn connections(mut self, limit: usize) -> Self {
        self.connections = limit;
        self
    }

    pub fn start(self) -> Server {
        self.try_start().expect("the address is free")
    }

    fn try_start(self) -> io::Result<Server> {
        let listener = StdListener::bind((self.ip, self.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (alive, stopped) = watch::channel(());
        let accept = accept(listener, self, Arc::clone(&shared), stopped);
        Ok(Server {
            address,
            shared,
            accepting: RUNTIME.spawn(accept),
            alive: Some(alive),
        })
    }

    /// Starts servers on 127.0.0.1, 127.0.0.2 and so on, all on one free port. Linux only: others have one loopback.
    pub fn start_on_one_port<const N: usize>(self) -> [Server; N] {
        let ip =
            |last: usize| Ipv4Addr::new(127, 0, 0, u8::try_from(last + 1).expect("few servers"));
        for _ in 0..50 {
            let first = self.clone().start();
            let port = first.address.port();
            let others = (1..N).map(|last| self.clone().ip(ip(last)).port(port).try_start());
            let servers: io::Result<Vec<Server>> = [Ok(first)].into_iter().chain(others).collect();
            if let Ok(servers) = servers {
                return servers.try_into().ok().expect("as many as asked for");
            }
        }
        panic!("no port is free on all of {N} loopback addresses");
    }
}

/// A running server. It stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    alive: Option<watch::Sender<()>>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    received: Notify,
    connections: AtomicUsize,
    open: AtomicUsize,
}

#[derive(Default)]
struct Script {
    next: VecDeque<Reply>,
    then: Option<Reply>,
}

impl Server {
    /// A server that speaks HTTP/1.1 and, to clients that know, HTTP/2, on a free port of 127.0.0.1.
    pub fn settings() -> Settings {
        Settings {
            ip: LOOPBACK,
            port: 0,
            tls: None,
            connections: Semaphore::MAX_PERMITS,
        }
    }

    /// Starts a plain one that does this with its first requests, in order, and answers 200 to the others.
    pub fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::settings().start();
        server.script(script);
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this with the next requests, in order, after what was scripted before.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.shared.script).next.extend(replies);
    }

    /// Does this with every request that the script does not cover. Default: an empty 200.
    pub fn otherwise(&self, reply: Reply) {
        lock(&self.shared.script).then = Some(reply);
    }

    /// The requests so far, in the order in which they were received.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Waits until there were `count` requests.
    ///
    /// # Panics
    ///
    /// After 5 s.
    pub async fn received(&self, count: usize) -> Vec<Seen> {
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            let received = self.shared.received.notified();
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            assert!(Instant::now() < limit, "{} requests of {count}", seen.len());
            let _ = tokio::time::timeout(Duration::from_millis(50), received).await;
        }
    }

    /// How many connections were served so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Stops listening and breaks every connection off. The port is free when this returns.
    pub async fn stop(mut self) {
        self.alive = None;
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        while self.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

async fn accept(
    listener: StdListener,
    settings: Settings,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
    let limit = Arc::new(Semaphore::new(settings.connections));
    loop {
        let permit = Arc::clone(&limit)
            .acquire_owned()
            .await
            .expect("never closed");
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let open = Open::new(&shared);
        let (tls, mut stopped) = (settings.tls.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, tls, &open) => {}
                _ = stopped.changed() => {}
            }
            drop((open, permit));
        });
    }
}

/// Counts a connection as open while it lives.
struct Open {
    shared: Arc<Shared>,
    number: usize,
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        Self {
            shared: Arc::clone(shared),
            number,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is the same for all requests of one connection.
struct Facts {
    shared: Arc<Shared>,
    number: usize,
    sni: Option<String>,
    ending: Arc<Ending>,
}

/// How a reply ends the connection that it came over.
#[derive(Default)]
struct Ending {
    resets: AtomicBool,
    due: Notify,
}

async fn connection(stream: TcpStream, tls: Option<Arc<ServerConfig>>, open: &Open) {
    // A second handle of the same socket: what is set on it holds for the one that hyper owns.
    let Ok((stream, handle)) = twice(stream) else {
        return;
    };
    let ending = Arc::new(Ending::default());
    let (shared, number) = (Arc::clone(&open.shared), open.number);
    let mut facts = Facts {
        shared,
        number,
        sni: None,
        ending: Arc::clone(&ending),
    };
    let served = async move {
        let Some(config) = tls else {
            return serve(stream, facts).await;
        };
        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
            facts.sni = stream.get_ref().1.server_name().map(str::to_owned);
            serve(stream, facts).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = ending.due.notified() => {}
    }
    if ending.resets.load(Ordering::SeqCst) {
        handle.set_zero_linger().expect("an open socket");
    }
}

fn twice(stream: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let handle = TcpStream::from_std(stream.try_clone()?)?;
    Ok((TcpStream::from_std(stream)?, handle))
}

async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: I, facts: Facts) {
    let facts = Arc::new(facts);
    let service = service_fn(|request| answer(Arc::clone(&facts), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    // An error here is a client that went away, or a cut body: both belong to the script.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    facts: Arc<Facts>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, BoxError> {
    let reply = facts.shared.next_reply();
    let (head, body) = request.into_parts();
    let body = match reply.reads_body {
        true => body.collect().await?.to_bytes(),
        false => Bytes::new(),
    };
    facts.record(head, body);
    tokio::time::sleep(reply.delay).await;
    match reply.act {
        Act::Answer => return Ok(reply.into_response()),
        Act::Refuse => return Err(h2::Error::from(h2::Reason::REFUSED_STREAM).into()),
        Act::Hang => {}
        Act::Close => facts.ending.due.notify_one(),
        Act::Reset => {
            facts.ending.resets.store(true, Ordering::SeqCst);
            facts.ending.due.notify_one();
        }
    }
    std::future::pending().await
}

impl Shared {
    fn next_reply(&self) -> Reply {
        let mut script = lock(&self.script);
        let next = script.next.pop_front().or_else(|| script.then.clone());
        next.unwrap_or_else(|| Reply::status(200))
    }
}

impl Facts {
    fn record(&self, head: Parts, body: Bytes) {
        let host = head.headers.get(header::HOST);
        let seen = Seen {
            host: host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
            path: head
                .uri
                .path_and_query()
                .map_or("", |path| path.as_str())
                .to_owned(),
            authority: head.uri.authority().map(|authority| authority.to_string()),
            method: head.method,
            version: head.version,
            sni: self.sni.clone(),
            headers: head.headers,
            body,
            connection: self.number,
            at: Instant::now(),
        };
        lock(&self.shared.seen).push(seen);
        self.shared.received.notify_waiters();
    }
}
