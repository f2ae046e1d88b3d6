//! A gRPC server that writes HTTP/2 frame by frame, for what no library's server lets a test do.
//!
//! It does not decode request headers: what a test asks about those, [`Server`](super::server::Server) knows.

use std::{
    collections::{HashSet, VecDeque},
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::timeout,
};

use super::server::{LOOPBACK, RUNTIME};

/// `NO_ERROR`.
pub const NO_ERROR: u32 = 0x0;
/// `INTERNAL_ERROR`.
pub const INTERNAL_ERROR: u32 = 0x2;
/// `REFUSED_STREAM`: nothing was processed.
pub const REFUSED_STREAM: u32 = 0x7;
/// `CANCEL`.
pub const CANCEL: u32 = 0x8;
/// `ENHANCE_YOUR_CALM`.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client gets to close a connection that was ended.
const LINGER: Duration = Duration::from_secs(5);

/// What the server does with a request once it has it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This many messages of five zero bytes (all fields at their defaults), then this status in trailers.
    Answer { messages: usize, status: u8 },
    /// This status in the head, and nothing else.
    TrailersOnly(u8),
    /// One message, and an end without a status.
    NoStatus,
    /// A head of gRPC's, and an end without message or status.
    OnlyHead,
    /// This HTTP status and an HTML page.
    Page(u16),
    /// `RST_STREAM` with this code, after as many messages.
    Reset { messages: usize, code: u32 },
    /// `GOAWAY` with a last stream below this one, then the end of the connection.
    GoAwayBelow(u32),
    /// `GOAWAY` with this stream as the last one, then the end of the connection without an answer.
    GoAwayAt(u32),
    /// `GOAWAY` with the largest possible last stream, then the end of the connection without an answer.
    GoAwayAbove(u32),
    /// `GOAWAY` with this stream as the last one, then its answer, then the end of the connection.
    GoAwayThenAnswer,
    /// A head of gRPC's, and this after a pause; without one both are written at once.
    Head { pause: Duration, then: Then },
}

/// What follows a head without a message in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Trailers(&'static [(&'static str, &'static str)]),
    /// Three empty `DATA` frames, then these trailers.
    EmptyThenTrailers(&'static [(&'static str, &'static str)]),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// `GOAWAY` with this code and this stream as the last one, then the end of the connection.
    GoAway(u32),
    /// The end of the connection.
    Close,
}

impl Act {
    /// A message, and all is well.
    pub const OK: Self = Self::Answer {
        messages: 1,
        status: 0,
    };

    /// Not processed.
    pub const REFUSE: Self = Self::Reset {
        messages: 0,
        code: REFUSED_STREAM,
    };

    fn ends_connection(self) -> bool {
        use Act::{GoAwayAbove, GoAwayAt, GoAwayBelow, GoAwayThenAnswer, Head};
        match self {
            GoAwayBelow(_) | GoAwayAt(_) | GoAwayAbove(_) | GoAwayThenAnswer => true,
            Head { then, .. } => matches!(then, Then::GoAway(_) | Then::Close),
            _ => false,
        }
    }
}

/// One request as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Counts the connections from 0.
    pub connection: usize,
    pub stream: u32,
    /// `None`: it came after the connection was ended.
    pub act: Option<Act>,
    pub at: Instant,
}

/// A running server, on a runtime of its own. It stops when dropped.
pub struct RawServer {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    script: Mutex<VecDeque<Act>>,
    then: Act,
    /// Ends each connection before its first request, with this code.
    unwelcoming: Option<u32>,
    /// Acts on the head of a request.
    early: bool,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl RawServer {
    /// Does this with its first requests, in order, and answers the others.
    pub fn start(script: impl IntoIterator<Item = Act>) -> Self {
        Self::serve(script, Act::OK, None, false)
    }

    /// Does this with every request.
    pub fn always(act: Act) -> Self {
        Self::serve([], act, None, false)
    }

    /// Greets each connection with a `GOAWAY` of this code that covers no stream, and ends it.
    pub fn unwelcoming(code: u32) -> Self {
        Self::serve([], Act::OK, Some(code), false)
    }

    /// Answers every request as soon as its head is there, and leaves the rest of it to the client: no reset follows.
    pub fn early() -> Self {
        Self::serve([], Act::OK, None, true)
    }

    fn serve(
        script: impl IntoIterator<Item = Act>,
        then: Act,
        unwelcoming: Option<u32>,
        early: bool,
    ) -> Self {
        let listener = StdListener::bind((LOOPBACK, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("an open socket");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            script: Mutex::new(script.into_iter().collect()),
            then,
            unwelcoming,
            early,
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let task = RUNTIME
            .spawn(accept(listener, Arc::clone(&state)))
            .abort_handle();
        Self {
            address,
            state,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order in which they were whole.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

async fn accept(listener: StdListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&state);
        // An error here is a client that went away.
        tokio::spawn(async move { connection(stream, number, &state).await });
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
        Ok(Self {
            kind,
            flags,
            stream,
            payload,
        })
    }

    fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Literal fields without indexing and without Huffman (RFC 7541, 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("a short text");
            assert!(length < 127, "longer ones take more than one byte");
            block.push(length);
            block.extend(text.bytes());
        }
    }
    block
}

fn head(stream: u32, end: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | end, stream, &fields(pairs))
}

fn go_away(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

async fn connection(mut socket: TcpStream, number: usize, state: &State) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut preface = [0; PREFACE.len()];
    socket.read_exact(&mut preface).await?;
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    if let Some(code) = state.unwelcoming {
        socket.write_all(&go_away(0, code)).await?;
        return end(socket, number, state).await;
    }
    // Streams that were reset or gone away from: the rest of their frames says nothing.
    let mut begun = HashSet::new();
    loop {
        let frame = Frame::read(&mut socket).await?;
        housekeeping(&mut socket, &frame).await?;
        if frame.kind == HEADERS {
            begun.insert(frame.stream);
        }
        let due = match state.early {
            true => frame.kind == HEADERS,
            false => frame.ends_stream(),
        };
        if !(due && begun.remove(&frame.stream)) {
            continue;
        }
        let act = lock(&state.script).pop_front().unwrap_or(state.then);
        state.record(number, frame.stream, Some(act));
        match act {
            Act::Head { pause, then } if !pause.is_zero() => {
                socket.write_all(&head(frame.stream, 0, &GRPC)).await?;
                tokio::time::sleep(pause).await;
                socket.write_all(&after_head(then, frame.stream)).await?;
            }
            _ => socket.write_all(&written(act, frame.stream)).await?,
        }
        if act.ends_connection() {
            return end(socket, number, state).await;
        }
    }
}

/// The acknowledgements without which clients give a connection up.
async fn housekeeping(socket: &mut TcpStream, read: &Frame) -> io::Result<()> {
    let told = read.flags & ACK != 0;
    match read.kind {
        SETTINGS if !told => socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await,
        PING if !told => socket.write_all(&frame(PING, ACK, 0, &read.payload)).await,
        _ => Ok(()),
    }
}

/// Closes this side and reads what still comes, since closing on unread bytes would reset the connection and with it
/// the frames that were written last.
async fn end(mut socket: TcpStream, number: usize, state: &State) -> io::Result<()> {
    socket.shutdown().await?;
    let rest = async {
        loop {
            let frame = Frame::read(&mut socket).await?;
            if frame.kind == HEADERS {
                state.record(number, frame.stream, None);
            }
        }
    };
    timeout(LINGER, rest).await.unwrap_or(Ok(()))
}

impl State {
    fn record(&self, connection: usize, stream: u32, act: Option<Act>) {
        lock(&self.seen).push(Seen {
            connection,
            stream,
            act,
            at: Instant::now(),
        });
    }
}

/// A head that leaves the status to the trailers.
const GRPC: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

fn after_head(then: Then, stream: u32) -> Vec<u8> {
    let trailers = |pairs| head(stream, END_STREAM, pairs);
    match then {
        Then::Trailers(pairs) => trailers(pairs),
        Then::EmptyThenTrailers(pairs) => {
            [frame(DATA, 0, stream, &[]).repeat(3), trailers(pairs)].concat()
        }
        Then::Reset(code) => frame(RST_STREAM, 0, stream, &code.to_be_bytes()),
        Then::GoAway(code) => go_away(stream, code),
        Then::Close => Vec::new(),
    }
}

/// The frames of an act.
fn written(act: Act, stream: u32) -> Vec<u8> {
    // The encoded message has all fields at their defaults.
    let messages = |count| frame(DATA, 0, stream, &[0; 5]).repeat(count);
    let begun = |count| [head(stream, 0, &GRPC), messages(count)].concat();
    match act {
        Act::Answer { messages, status } => {
            let status = status.to_string();
            let trailers = head(stream, END_STREAM, &[("grpc-status", &status)]);
            [begun(messages), trailers].concat()
        }
        Act::TrailersOnly(status) => {
            let status = status.to_string();
            let [ok, grpc] = GRPC;
            head(stream, END_STREAM, &[ok, grpc, ("grpc-status", &status)])
        }
        Act::NoStatus => [begun(1), frame(DATA, END_STREAM, stream, &[])].concat(),
        Act::OnlyHead => head(stream, END_STREAM, &GRPC),
        Act::Page(status) => {
            let status = status.to_string();
            let page = [(":status", status.as_str()), ("content-type", "text/html")];
            let body = frame(DATA, END_STREAM, stream, b"<html></html>");
            [head(stream, 0, &page), body].concat()
        }
        Act::Reset { messages, code } => {
            let reset = frame(RST_STREAM, 0, stream, &code.to_be_bytes());
            match messages {
                0 => reset,
                _ => [begun(messages), reset].concat(),
            }
        }
        // Clients' streams are odd: the one before this is two less.
        Act::GoAwayBelow(code) => go_away(stream.saturating_sub(2), code),
        Act::GoAwayAt(code) => go_away(stream, code),
        Act::GoAwayAbove(code) => go_away(0x7fff_ffff, code),
        Act::GoAwayThenAnswer => [go_away(stream, NO_ERROR), written(Act::OK, stream)].concat(),
        Act::Head { then, .. } => [begun(0), after_head(then, stream)].concat(),
    }
}
