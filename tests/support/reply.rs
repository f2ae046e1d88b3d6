//! What a test server does with a request.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};

pub type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

/// One step of a test server's script: how it treats one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) delay: Duration,
    pub(super) reads_body: bool,
    pub(super) act: Act,
    status: StatusCode,
    headers: HeaderMap,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Answer,
    Hang,
    Reset,
    Close,
    Refuse,
}

#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Pause(Duration),
    Cut,
    Stall,
    Trailers(HeaderMap),
}

/// Time for what was written to reach the client before the connection breaks.
const FLUSH: Duration = Duration::from_millis(20);

impl Reply {
    /// Answers with the status, no headers of its own and no body.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status written in a test");
        Self {
            status,
            ..Self::of(Act::Answer)
        }
    }

    /// Answers 200 with the body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// Reads the request and never answers; the connection stays open.
    pub fn hang() -> Self {
        Self::of(Act::Hang)
    }

    /// Reads the request, then resets the connection (RST).
    pub fn reset() -> Self {
        Self::of(Act::Reset)
    }

    /// Reads the request, then closes the connection without an answer (FIN).
    pub fn close() -> Self {
        Self::of(Act::Close)
    }

    /// HTTP/2: resets the stream with REFUSED_STREAM, which says that nothing was processed.
    pub fn refuse_stream() -> Self {
        Self::of(Act::Refuse)
    }

    fn of(act: Act) -> Self {
        Self {
            delay: Duration::ZERO,
            reads_body: true,
            act,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            parts: Vec::new(),
        }
    }

    /// Waits between the request and whatever is done with it.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Does not read the request's body first.
    pub fn early(mut self) -> Self {
        self.reads_body = false;
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header written in a test");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Sends these bytes next.
    pub fn body(mut self, data: impl Into<Bytes>) -> Self {
        self.parts.push(Part::Data(data.into()));
        self
    }

    /// Waits before the next bytes of the body.
    pub fn pause(mut self, length: Duration) -> Self {
        self.parts.push(Part::Pause(length));
        self
    }

    /// Breaks off here: HTTP/1.1 closes the connection, HTTP/2 resets the stream.
    pub fn cut(mut self) -> Self {
        self.parts.extend([Part::Pause(FLUSH), Part::Cut]);
        self
    }

    /// Ends with these trailers.
    pub fn trailers<const N: usize>(mut self, trailers: [(&'static str, &str); N]) -> Self {
        let value = |value| HeaderValue::from_str(value).expect("a trailer written in a test");
        let named = |(name, text)| (HeaderName::from_static(name), value(text));
        let trailers = trailers.map(named).into_iter().collect();
        self.parts.push(Part::Trailers(trailers));
        self
    }

    /// Answers as a gRPC server does, with this status and no message: all of it in the head.
    pub fn grpc_status(code: u8) -> Self {
        Self::ok(Bytes::new())
            .header("content-type", "application/grpc")
            .header("grpc-status", &code.to_string())
    }

    /// Answers as a gRPC server does with an encoded message; what its trailers say is the rest of the script.
    pub fn grpc_message(message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).expect("a short message");
        let mut frame = vec![0];
        frame.extend(length.to_be_bytes());
        frame.extend(message);
        Self::ok(frame).header("content-type", "application/grpc")
    }

    /// Sends nothing more, and never ends.
    pub fn stall(mut self) -> Self {
        self.parts.push(Part::Stall);
        self
    }

    pub(super) fn into_response(self) -> Response<ReplyBody> {
        let body = match &self.parts[..] {
            [] => whole(Bytes::new()),
            [Part::Data(data)] => whole(data.clone()),
            _ => in_parts(self.parts),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A body of known length.
fn whole(data: Bytes) -> ReplyBody {
    Full::new(data)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A body whose length is not told: chunked in HTTP/1.1.
fn in_parts(parts: Vec<Part>) -> ReplyBody {
    let frames = stream::iter(parts).filter_map(async |part| match part {
        Part::Data(data) => Some(Ok(Frame::data(data))),
        Part::Pause(length) => {
            tokio::time::sleep(length).await;
            None
        }
        Part::Cut => Some(Err(io::Error::other("the script cuts the body"))),
        Part::Stall => std::future::pending().await,
        Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
    });
    StreamBody::new(frames).boxed_unsync()
}
