//! The adapter over real sockets: what it sends, what it keeps, and what it reads off failures.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

mod evidence;
mod http2;
mod layers;
mod sent;
mod tls;

use std::{
    convert::Infallible,
    error::Error as _,
    net::SocketAddr,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Body, DeadlineLayer, Disposition, Error, ErrorKind, Retry, RetryLayer,
    classify::Evidence,
    reqwest::{HttpService, evidence, into_response},
};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};
use tower::{Layer, ServiceExt};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads requests off its sockets, one text for each: a head with its body.
struct Server {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Server {
    /// Answers each request on a connection with the next of these; behind the last it closes.
    async fn answering(answers: &'static [&'static [u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, answers, seen.clone()));
            }
        });
        Self { address, requests }
    }

    async fn next(&mut self) -> String {
        self.requests.recv().await.expect("a request")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn answer(mut socket: TcpStream, answers: &[&[u8]], seen: mpsc::UnboundedSender<String>) {
    for answer in answers {
        let Some(request) = read_request(&mut socket).await else {
            return;
        };
        let _ = seen.send(request);
        socket.write_all(answer).await.unwrap();
    }
    if let Some(request) = read_request(&mut socket).await {
        let _ = seen.send(request);
    }
}

/// Up to the end that the head announces; `None` at the end of the connection.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket
            .read(&mut buffer)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let expected = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok());
        let chunked = head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n");
        if !chunked && body.len() >= expected.unwrap_or(0) {
            return Some(text);
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    retrying_builder().retry(reqwest::retry::never())
}

/// With reqwest's own default: it retries what a server refuses by protocol.
fn retrying_builder() -> reqwest::ClientBuilder {
    // Whichever test was first has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

fn service() -> HttpService {
    HttpService::new(builder().build().unwrap())
}

fn request(method: Method, url: impl AsRef<str>) -> Request<Body> {
    let body = if method == Method::POST {
        Body::from("charge")
    } else {
        Body::empty()
    };
    Request::builder()
        .method(method)
        .uri(url.as_ref())
        .body(body)
        .unwrap()
}

async fn failed(service: HttpService, request: Request<Body>) -> Error {
    service
        .oneshot(request)
        .await
        .map(drop)
        .expect_err("no response")
}

fn read(error: &Error) -> Option<Evidence> {
    evidence(error.source().expect("a source"))
}

/// Three attempts, without a pause that a test would wait for.
fn retry() -> RetryLayer {
    let backoff = Backoff::default().initial(Duration::from_millis(1));
    RetryLayer::new(Retry::default().backoff(backoff).build().unwrap())
}

/// Resets every stream for this reason.
async fn resetting(reason: h2::Reason) -> (HttpService, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
    });
    (prior_knowledge(), url)
}

fn prior_knowledge() -> HttpService {
    HttpService::new(builder().http2_prior_knowledge().build().unwrap())
}

/// Serves one TLS handshake with a certificate that it signed itself; the connection stays open behind it.
async fn self_signed(ask_for_client_certificate: bool) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .unwrap();
    let config = rustls::ServerConfig::builder();
    let config = match ask_for_client_certificate {
        true => config.with_client_cert_verifier(verifier),
        false => config.with_no_client_auth(),
    };
    let config = config
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let refused = acceptor
            .accept(socket)
            .into_fallible()
            .await
            .map(drop)
            .expect_err("refused");
        std::future::pending::<()>().await;
        drop(refused);
    });
    format!("https://localhost:{port}/")
}
