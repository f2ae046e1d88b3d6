//! The adapter over real sockets: what it sends, what it keeps, and what it reads off failures.
#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of the test functions set up what cannot fail"
)]

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

// ===== what is sent and kept =====

#[tokio::test]
async fn the_response_keeps_its_url_and_its_peer() {
    let server = Server::answering(&[OK]).await;
    let url = server.url("/charges?page=2");
    let response = service().oneshot(request(Method::GET, &url)).await.unwrap();
    let response = reqwest::Response::from(response);
    assert_eq!(response.url().as_str(), url);
    assert_eq!(response.remote_addr(), Some(server.address));
    assert_eq!(response.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn bodies_of_any_type_arrive_whole() {
    let mut server = Server::answering(&[OK, OK, OK, OK, OK]).await;
    let url = server.url("/");
    let post = Request::post(&url);
    let frames =
        ["cha", "rge"].map(|part| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(part))));
    let frames = StreamBody::new(futures::stream::iter(frames));

    service()
        .oneshot(post.body(Full::new(Bytes::from("charge"))).unwrap())
        .await
        .unwrap();
    let full = server.next().await;
    assert!(
        full.contains("content-length: 6\r\n") && full.ends_with("\r\n\r\ncharge"),
        "{full}"
    );

    service()
        .oneshot(
            Request::post(&url)
                .body(reqwest::Body::from("charge"))
                .unwrap(),
        )
        .await
        .unwrap();
    assert!(server.next().await.ends_with("\r\n\r\ncharge"));

    service()
        .oneshot(request(Method::POST, &url))
        .await
        .unwrap();
    let ours = server.next().await;
    assert!(
        ours.contains("content-length: 6\r\n") && ours.ends_with("\r\n\r\ncharge"),
        "{ours}"
    );

    service()
        .oneshot(Request::get(&url).body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap();
    assert!(!server.next().await.contains("content-length"));

    service()
        .oneshot(Request::post(&url).body(Body::stream(frames)).unwrap())
        .await
        .unwrap();
    assert!(
        server
            .next()
            .await
            .ends_with("3\r\ncha\r\n3\r\nrge\r\n0\r\n\r\n")
    );
}

// RTY-05, TrueLayer/reqwest-middleware#44: a body that cannot be sent twice is sent once.
#[tokio::test]
async fn a_body_that_is_only_send_is_sent_once() {
    let mut server = Server::answering(&[OK]).await;
    let (parts, frames) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(frames, |mut frames| async move {
        let part = frames.recv().await?;
        Some((Ok::<_, Infallible>(http_body::Frame::data(part)), frames))
    });
    let stream = StreamBody::new(
        Box::pin(stream) as std::pin::Pin<Box<dyn futures::Stream<Item = _> + Send>>
    );
    parts.send(Bytes::from("once")).await.unwrap();
    drop(parts);
    let response = service()
        .oneshot(
            Request::post(server.url("/"))
                .body(Body::stream(stream))
                .unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(server.next().await.contains("once"));
}

#[tokio::test]
async fn a_body_that_breaks_off_surfaces_its_own_error() {
    let server = Server::answering(&[OK]).await;
    let frames = [
        Ok(http_body::Frame::data(Bytes::from("half"))),
        Err(std::io::Error::other("disk is gone")),
    ];
    let body = Body::stream(StreamBody::new(futures::stream::iter(frames)));
    let error = failed(
        service(),
        Request::post(server.url("/")).body(body).unwrap(),
    )
    .await;
    assert!(error.to_string().contains("disk is gone"), "{error}");
    assert!(error.may_have_happened());
}

#[tokio::test]
async fn a_uri_without_a_host_is_refused_before_anything_is_sent() {
    let error = failed(service(), request(Method::GET, "/charges?token=hunter2")).await;
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::InvalidCall, Disposition::NotSent)
    );
    assert!(
        error
            .to_string()
            .contains("uri is /charges, allowed: an absolute URI"),
        "{error}"
    );
}

#[tokio::test]
async fn a_scheme_that_reqwest_does_not_speak_is_an_invalid_call() {
    let error = failed(service(), request(Method::GET, "ftp://127.0.0.1/x")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidCall);
    assert!(!error.may_have_happened());
}

// ===== what failures prove =====

#[tokio::test]
async fn a_refused_connection_was_not_sent_whatever_the_method() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = failed(
        service(),
        request(
            Method::POST,
            format!("http://{address}/charges?token=hunter2"),
        ),
    )
    .await;
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Upstream, Disposition::NotSent)
    );
    assert_eq!(read(&error), Some(Evidence::NotSent));
    assert!(
        error.source().unwrap().is::<reqwest::Error>(),
        "reachable by one downcast"
    );
    let line = error.to_string();
    assert!(
        line.contains("Connection refused") && line.contains("/charges"),
        "{line}"
    );
    assert!(!format!("{line} {error:?}").contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_was_not_sent() {
    let error = failed(
        service(),
        request(Method::POST, "http://no-such-host.invalid/"),
    )
    .await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::NotSent), Disposition::NotSent)
    );
}

// TMO-09, grpc/grpc-rust#1619
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connect_timeout_was_not_sent_though_it_is_a_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // They fill its queue; from then on it swallows every SYN.
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        filling.push(stream);
    }
    let client = builder()
        .connect_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let started = std::time::Instant::now();
    let error = failed(
        HttpService::new(client),
        request(Method::POST, format!("http://{address}/")),
    )
    .await;
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::NotSent), Disposition::NotSent)
    );
}

#[tokio::test]
async fn a_timeout_of_the_client_may_have_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = builder()
        .timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let error = failed(HttpService::new(client), request(Method::GET, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

// RTY-02, oven-sh/bun#28708
#[tokio::test]
async fn a_connection_closed_without_an_answer_may_have_happened_even_if_it_was_reused() {
    let mut server = Server::answering(&[OK]).await;
    let service = service();
    let url = server.url("/");
    let first = service
        .clone()
        .oneshot(request(Method::POST, &url))
        .await
        .unwrap();
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "ok");
    let error = failed(service, request(Method::POST, &url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
    assert!(server.next().await.contains("charge") && server.next().await.contains("charge"));
    assert!(
        server.requests.try_recv().is_err(),
        "it was not sent a second time"
    );
}

#[tokio::test]
async fn a_reset_may_have_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await.unwrap();
        socket.set_zero_linger().unwrap();
    });
    let error = failed(service(), request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

#[tokio::test]
async fn an_answer_that_is_no_http_may_have_happened() {
    let server = Server::answering(&[b"220 smtp ready\r\n\r\n"]).await;
    let error = failed(service(), request(Method::POST, server.url("/"))).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

// ===== under layers by hand =====

// RTY-08, nodejs/undici#3356
#[tokio::test]
async fn a_body_that_stalls_ends_in_a_timeout_that_reqwest_knows_as_one() {
    let server = Server::answering(&[b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nH"]).await;
    let layer = DeadlineLayer::new(Duration::from_millis(200)).unwrap();
    let service = layer.layer(service());
    let url = server.url("/greeting?token=hunter2");
    let response = into_response(service.oneshot(request(Method::GET, &url)).await.unwrap());
    assert_eq!(
        (response.status().as_u16(), response.url().as_str()),
        (200, url.as_str())
    );
    assert_eq!(response.content_length(), Some(11));
    let error = response.bytes().await.expect_err("the body stalls");
    assert!(error.is_timeout(), "{error:?}");
    let ours = std::iter::successors(error.source(), |error| (*error).source())
        .find_map(|error| error.downcast_ref::<Error>());
    assert_eq!(ours.map(Error::kind), Some(ErrorKind::DeadlineExceeded));
}

/// Three attempts, without a pause that a test would wait for.
fn retry() -> RetryLayer {
    let backoff = Backoff::default().initial(Duration::from_millis(1));
    RetryLayer::new(Retry::default().backoff(backoff).build().unwrap())
}

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

#[tokio::test]
async fn bodies_of_reqwest_are_sent_again_whole() {
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(
        ["cha", "rge"].map(Ok::<_, Infallible>),
    ));
    for body in [reqwest::Body::from("charge"), streamed] {
        let mut server = Server::answering(&[BUSY, OK]).await;
        let request = Request::put(server.url("/")).body(body).unwrap();
        let response = retry().layer(service()).oneshot(request).await.unwrap();
        assert_eq!(into_response(response).text().await.unwrap(), "ok");
        let (first, second) = (server.next().await, server.next().await);
        for sent in [first, second] {
            let (_, body) = sent.split_once("\r\n\r\n").unwrap();
            assert_eq!(
                body.replace(['\r', '\n', '0', '3', '6'], ""),
                "charge",
                "{sent}"
            );
        }
    }
}

// RTY-02, nahi/httpclient#142: no classifier was given, the adapter's evidence is enough.
#[tokio::test]
async fn a_post_is_sent_again_only_if_it_was_not_sent() {
    let mut server = Server::answering(&[]).await;
    let error = retry()
        .layer(service())
        .oneshot(request(Method::POST, server.url("/")))
        .await
        .map(drop);
    assert_eq!(error.expect_err("closed").report().attempts().len(), 1);
    assert!(server.next().await.contains("charge") && server.requests.try_recv().is_err());

    let refusing = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = retry()
        .layer(service())
        .oneshot(request(Method::POST, format!("http://{refusing}/")))
        .await
        .map(drop);
    assert_eq!(error.expect_err("refused").report().attempts().len(), 3);
}

#[tokio::test]
async fn a_certificate_error_is_not_retried() {
    let url = self_signed(false).await;
    let error = retry()
        .layer(service())
        .oneshot(request(Method::GET, url))
        .await
        .map(drop);
    assert_eq!(error.expect_err("not trusted").report().attempts().len(), 1);
}

// RTY-03, JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn a_refused_stream_is_retried_within_the_attempt_limit() {
    let (service, url) = resetting(h2::Reason::REFUSED_STREAM).await;
    let error = retry()
        .layer(service)
        .oneshot(request(Method::POST, url))
        .await
        .map(drop)
        .expect_err("refused");
    assert_eq!(
        (error.report().attempts().len(), error.disposition()),
        (3, Disposition::Refused)
    );
}

// ===== HTTP/2 =====

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

// RTY-03, JuliaWeb/HTTP.jl#1294
#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let (service, url) = resetting(h2::Reason::REFUSED_STREAM).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Refused), Disposition::Refused)
    );
}

#[tokio::test]
async fn a_stream_reset_for_another_reason_may_have_happened() {
    let (service, url) = resetting(h2::Reason::INTERNAL_ERROR).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

/// How often a server that refuses every stream sees one request of this client.
async fn seen_by_a_refusing_server(client: reqwest::ClientBuilder) -> u32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let client = client.http2_prior_knowledge().build().unwrap();
    let error = failed(HttpService::new(client), request(Method::POST, url)).await;
    assert_eq!(read(&error), Some(Evidence::Refused));
    seen.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_client_that_retries_by_itself_triples_an_attempt_and_one_that_never_does_sends_it_once()
{
    assert_eq!(seen_by_a_refusing_server(retrying_builder()).await, 3);
    assert_eq!(seen_by_a_refusing_server(builder()).await, 1);
}

/// A frame by hand: `GOAWAY` with this last stream.
fn go_away(last_stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(0_u32.to_be_bytes());
    frame
}

/// Sends settings, awaits the request on stream 1, says `GOAWAY`, and closes.
async fn goes_away(last_stream: u32) -> (HttpService, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut seen = Vec::<u8>::new();
        while !seen.windows(6).any(|window| window == b"charge") {
            let mut buffer = [0; 1024];
            let length = socket.read(&mut buffer).await.unwrap();
            seen.extend(&buffer[..length]);
        }
        socket.write_all(&go_away(last_stream)).await.unwrap();
    });
    (prior_knowledge(), url)
}

// RTY-03, nodejs/undici#5598
#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_was_not_processed() {
    let (service, url) = goes_away(0).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Refused), Disposition::Refused)
    );
}

// RTY-03, HoneyryderChuck/httpx#149
#[tokio::test]
async fn a_stream_that_a_goaway_covers_may_have_happened() {
    let (service, url) = goes_away(1).await;
    let error = failed(service, request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Unknown), Disposition::Unknown)
    );
}

// ===== TLS =====

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

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_never_sent_to() {
    let url = self_signed(false).await;
    let error = failed(service(), request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Untrusted), Disposition::NotSent)
    );
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_misses_the_clients_certificate_acts_on_nothing() {
    let url = self_signed(true).await;
    let client = builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let error = failed(HttpService::new(client), request(Method::POST, url)).await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Untrusted), Disposition::NotSent)
    );
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_never_sent_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1024];
        let _ = socket.read(&mut hello).await;
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let error = failed(
        service(),
        request(Method::GET, format!("https://localhost:{port}/")),
    )
    .await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::Untrusted), Disposition::NotSent)
    );
}

#[tokio::test]
async fn a_peer_that_hangs_up_during_the_handshake_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1024];
        let _ = socket.read(&mut hello).await;
    });
    let error = failed(
        service(),
        request(Method::POST, format!("https://localhost:{port}/")),
    )
    .await;
    assert_eq!(
        (read(&error), error.disposition()),
        (Some(Evidence::NotSent), Disposition::NotSent)
    );
}
