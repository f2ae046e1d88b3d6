//! A scripted HTTP service for paused time: answers attempts from a closure and records what it was sent.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::Service;

/// What one attempt brought.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Since the script was made.
    pub at: Duration,
    pub method: Method,
    pub uri: http::Uri,
    pub headers: HeaderMap,
    /// Empty if the script did not read it.
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// What the body said of its length when it came.
    pub announced: Option<u64>,
}

/// What the script does with an attempt.
#[derive(Debug)]
pub struct Act {
    after: Duration,
    read_body: bool,
    answer: Option<Result<Response<Full<Bytes>>, io::Error>>,
}

impl Act {
    /// Reads the request body, then answers with this status.
    pub fn status(status: u16) -> Self {
        let mut response = Response::new(Full::new(Bytes::from(format!("status {status}"))));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        Self {
            after: Duration::ZERO,
            read_body: true,
            answer: Some(Ok(response)),
        }
    }

    /// Reads the request body, then fails so.
    pub fn error(kind: io::ErrorKind) -> Self {
        Self {
            after: Duration::ZERO,
            read_body: true,
            answer: Some(Err(io::Error::from(kind))),
        }
    }

    /// Refuses the connection: the request body is not touched.
    pub fn refuse() -> Self {
        Self::error(io::ErrorKind::ConnectionRefused).unread()
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self {
            after: Duration::ZERO,
            read_body: true,
            answer: None,
        }
    }

    /// Takes this long.
    pub fn after(mut self, millis: u64) -> Self {
        self.after = Duration::from_millis(millis);
        self
    }

    /// Answers without reading the request body.
    pub fn unread(mut self) -> Self {
        self.read_body = false;
        self
    }

    /// Adds a response header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Some(Ok(response)) = &mut self.answer {
            response
                .headers_mut()
                .append(name, value.parse().expect("a header value"));
        }
        self
    }
}

type Plan = dyn FnMut(usize) -> Act + Send;

/// A service that panics if it is called without having been polled ready on that very instance.
pub struct Script {
    shared: Arc<Shared>,
    ready: bool,
}

struct Shared {
    plan: Mutex<Box<Plan>>,
    sent: Mutex<Vec<Sent>>,
    start: Instant,
}

impl Script {
    /// Answers attempt n, from 1, by this plan.
    pub fn new(plan: impl FnMut(usize) -> Act + Send + 'static) -> Self {
        let shared = Shared {
            plan: Mutex::new(Box::new(plan)),
            sent: Mutex::default(),
            start: Instant::now(),
        };
        Self {
            shared: Arc::new(shared),
            ready: false,
        }
    }

    /// Answers with these statuses in turn, the last one for ever.
    pub fn statuses<const N: usize>(statuses: [u16; N]) -> Self {
        Self::new(move |attempt| Act::status(statuses[(attempt - 1).min(N - 1)]))
    }

    /// The attempts so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.shared.sent.lock().expect("no panic").clone()
    }

    /// When the attempts came, in milliseconds since the script was made.
    pub fn times(&self) -> Vec<u128> {
        self.sent().iter().map(|sent| sent.at.as_millis()).collect()
    }
}

impl Clone for Script {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            ready: false,
        }
    }
}

impl<B> Service<Request<B>> for Script
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        let (parts, body) = request.into_parts();
        let (number, act) = {
            let mut sent = self.shared.sent.lock().expect("no panic");
            sent.push(Sent {
                at: self.shared.start.elapsed(),
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                body: Bytes::new(),
                trailers: None,
                announced: body.size_hint().exact(),
            });
            let act = (self.shared.plan.lock().expect("no panic"))(sent.len());
            (sent.len(), act)
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if act.read_body {
                let Ok(read) = body.collect().await else {
                    return Err(io::Error::other("the request body failed"));
                };
                let mut sent = shared.sent.lock().expect("no panic");
                sent[number - 1].trailers = read.trailers().cloned();
                sent[number - 1].body = read.to_bytes();
            } else {
                drop(body);
            }
            if !act.after.is_zero() {
                tokio::time::sleep(act.after).await;
            }
            match act.answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}
