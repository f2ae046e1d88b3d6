//! The ready-made client before servers that say unusual things, over real sockets.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use evenkeel::{
    Backoff, Body, Breaker, BreakerConfig, CallPolicy, Client, ErrorKind, IdempotencyKeys, Report,
    Retry,
    balance::EndpointState,
    client::{Balanced, ClientBuilder},
    discover::{Endpoint, from_stream},
};
use futures::stream;
use http::Method;
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{
    nowhere::Refusing,
    reply::Reply,
    server::{Seen, Server},
    tls::{Authority, client},
};

const ORIGIN: &str = "http://payments.internal";

fn quick_retry() -> Retry {
    Retry::default()
        .backoff(Backoff::default().initial(Duration::from_millis(5)))
        .without_budget()
}

fn over(addresses: impl IntoIterator<Item = SocketAddr>) -> ClientBuilder<Balanced> {
    Client::builder(ORIGIN)
        .endpoints(addresses)
        .deadline(Duration::from_secs(20))
        .retry(quick_retry())
        .no_circuit_breaker()
}

fn built(builder: ClientBuilder<Balanced>) -> Client {
    builder.build_reqwest(|_| client()).unwrap()
}

fn in_flight(client: &Client) -> u32 {
    client
        .endpoints()
        .iter()
        .map(|status| status.in_flight)
        .sum()
}

/// A server that answers each request, body and all, with the next of these texts, and closes its connection
/// where a text is marked so.
struct Raw {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Raw {
    /// `true` closes the connection after the answer.
    async fn start(answers: Vec<(&'static str, bool)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Relaxed);
                tokio::spawn(Self::serve(stream, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Self {
            address,
            requests,
            connections,
        }
    }

    async fn serve(
        mut stream: TcpStream,
        answers: Arc<Mutex<std::vec::IntoIter<(&'static str, bool)>>>,
        seen: Arc<Mutex<Vec<String>>>,
    ) {
        let mut buffer = vec![0; 65_536];
        loop {
            let mut request = String::new();
            while !complete(&request) {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => request.push_str(&String::from_utf8_lossy(&buffer[..read])),
                }
            }
            seen.lock().unwrap().push(request);
            let next = answers.lock().unwrap().next();
            let (answer, closes) = next.unwrap_or((EMPTY, false));
            let _ = stream.write_all(answer.as_bytes()).await;
            if closes {
                return;
            }
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Whether a request of known length is all there.
fn complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    body.len() >= length
}

// ===== what servers say =====

#[tokio::test]
async fn informational_heads_are_no_answers() {
    for first in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n",
    ] {
        let raw = Raw::start(
            vec![
                (first.to_owned() + "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").leak()
                    as &str,
            ]
            .into_iter()
            .map(|text| (text, false))
            .collect(),
        )
        .await;
        let client = built(over([raw.address]));
        let reply = client.post("/x").body("charge").send().await.unwrap();
        assert_eq!(reply.status(), 201);
        assert_eq!(reply.text().await.unwrap(), "ok");
        assert_eq!(raw.requests().len(), 1);
        assert_eq!(in_flight(&client), 0);
    }
}

#[tokio::test]
async fn trailers_end_a_body_like_any_other() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let raw = Raw::start(vec![(chunked, false)]).await;
    let client = built(over([raw.address]));
    let reply = client.get("/x").send().await.unwrap();
    assert_eq!(in_flight(&client), 1);
    assert_eq!(reply.text().await.unwrap(), "ok");
    assert_eq!(in_flight(&client), 0);
    client.get("/x").send().await.unwrap();
    assert_eq!(raw.connections.load(Relaxed), 1, "the connection was lost");
}

#[tokio::test]
async fn a_body_shorter_than_its_length_is_an_error_and_not_asked_for_again() {
    for method in [Method::GET, Method::POST] {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        let raw = Raw::start(vec![(cut, true)]).await;
        let client = built(over([raw.address]));
        let reply = client.request(method, "/x").send().await.unwrap();
        reply.text().await.unwrap_err();
        assert_eq!(raw.requests().len(), 1);
        assert_eq!(in_flight(&client), 0);
    }
}

#[tokio::test]
async fn answers_without_a_body_hold_no_place() {
    for (method, answer) in [
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n",
        ),
        (Method::DELETE, EMPTY),
    ] {
        let raw = Raw::start(vec![(answer, false)]).await;
        let client = built(over([raw.address]).max_in_flight(1));
        let held = client.request(method.clone(), "/x").send().await.unwrap();
        assert_eq!(in_flight(&client), 0, "{method} {answer:?}");
        client.get("/y").send().await.unwrap();
        drop(held);
        assert_eq!(raw.connections.load(Relaxed), 1, "{method} {answer:?}");
    }
}

#[tokio::test]
async fn a_body_dropped_half_way_gives_place_and_connection_back() {
    let server = Server::start([Reply::ok("half").stall()]);
    let client = built(over([server.address()]).max_in_flight(1));
    let mut reply = client.get("/x").send().await.unwrap();
    assert_eq!(reply.chunk().await.unwrap().unwrap(), "half");
    assert_eq!(in_flight(&client), 1);
    let full = client.get("/y").send().await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    drop(reply);
    assert_eq!(in_flight(&client), 0);
    assert_eq!(client.get("/y").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_closed_between_calls_loses_and_doubles_no_post() {
    let raw = Raw::start((0..20).map(|_| (EMPTY, true)).collect()).await;
    let client = built(over([raw.address]));
    for call in 0..20 {
        let pause = Duration::from_millis(if call % 2 == 0 { 0 } else { 20 });
        tokio::time::sleep(pause).await;
        client
            .post("/x")
            .body(format!("charge {call}"))
            .send()
            .await
            .map(drop)
            .unwrap_or_else(|error| assert!(error.may_have_happened(), "{error}"));
    }
    let mut bodies: Vec<_> = raw.requests();
    let all = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), all, "a POST was sent twice");
}

// ===== where and whether again =====

#[tokio::test]
async fn a_post_moves_on_from_a_refused_connection_and_stays_with_a_reset_one() {
    let (refusing, server) = (Refusing::new(), Server::start([]));
    for _ in 0..10 {
        let client = built(over([refusing.address(), server.address()]));
        for _ in 0..4 {
            let reply = client.post("/x").body("b").send().await.unwrap();
            assert_eq!(reply.status(), 200);
        }
    }
    assert_eq!(server.seen().len(), 40);

    let (first, second) = (Server::start([]), Server::start([]));
    first.otherwise(Reply::reset());
    second.otherwise(Reply::reset());
    let both = [first.address(), second.address()];
    let sent = || first.seen().len() + second.seen().len();
    let error = built(over(both))
        .post("/x")
        .body("b")
        .send()
        .await
        .unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(sent(), 1);

    let policy = CallPolicy::new().idempotency_key("order-42");
    let keyed = built(over(both)).post("/x").policy(policy);
    let error = keyed.send().await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(sent(), 1 + 3, "{error}");
    let keyed = |seen: &Seen| {
        seen.headers
            .get("idempotency-key")
            .is_some_and(|key| key == "order-42")
    };
    let seen = [first.seen(), second.seen()].concat();
    assert_eq!(seen.iter().filter(|seen| keyed(seen)).count(), 3);
}

#[tokio::test]
async fn a_callers_key_counts_in_every_client_and_in_the_header_that_retry_knows() {
    let server = Server::start([]);
    server.otherwise(Reply::reset());
    let header = http::HeaderName::from_static("x-key");
    let wrapped = |retry| {
        let client = Client::wrap_reqwest(client().build().unwrap()).retry(retry);
        client.no_circuit_breaker().build().unwrap()
    };
    for (retry, header, attempts) in [
        (quick_retry(), "idempotency-key", 3),
        (quick_retry().key_header(header), "x-key", 3),
        (quick_retry().trust_caller_keys(false), "idempotency-key", 3),
    ] {
        let before = server.seen().len();
        let policy = CallPolicy::new().idempotency_key("order-42");
        let call = wrapped(retry).post(server.url()).policy(policy);
        call.send().await.unwrap_err();
        let seen = server.seen().split_off(before);
        assert_eq!(seen.len(), attempts);
        assert!(seen.iter().all(|seen| seen.headers[header] == "order-42"));
    }
    let before = server.seen().len();
    let distrusting = wrapped(quick_retry().trust_caller_keys(false));
    let call = distrusting
        .post(server.url())
        .header("idempotency-key", "theirs");
    call.send().await.unwrap_err();
    assert_eq!(server.seen().len() - before, 1);
    let call = distrusting.post(server.url());
    call.send().await.unwrap_err();
    assert!(
        !server.seen()[before + 1]
            .headers
            .contains_key("idempotency-key")
    );
}

#[tokio::test]
async fn a_keyed_post_waits_as_long_as_the_server_asks() {
    let server = Server::start([Reply::status(503).header("retry-after", "1")]);
    let client = built(over([server.address()]).idempotency_keys(IdempotencyKeys::default()));
    let start = Instant::now();
    let reply = client.post("/x").body("b").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    let seen = server.seen();
    let keys: Vec<_> = seen
        .iter()
        .map(|seen| &seen.headers["idempotency-key"])
        .collect();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]));

    let server = Server::start([Reply::status(503).header("retry-after", "1")]);
    let plain = built(over([server.address()]))
        .post("/x")
        .send()
        .await
        .unwrap();
    assert_eq!((plain.status().as_u16(), server.seen().len()), (503, 1));
}

#[tokio::test]
async fn redirects_of_every_kind_are_answers() {
    for status in [301, 302, 303, 307, 308] {
        for method in [Method::GET, Method::POST] {
            let server = Server::start([Reply::status(status).header("location", "/elsewhere")]);
            let reply = built(over([server.address()])).request(method, "/x").send();
            let reply = reply.await.unwrap();
            assert_eq!(reply.status(), status);
            assert_eq!(reply.headers()["location"], "/elsewhere");
            assert_eq!(server.seen().len(), 1);
        }
    }
}

// ===== names and addresses =====

#[tokio::test]
async fn the_origins_port_shows_in_host_wherever_the_endpoint_listens() {
    let server = Server::start([]);
    let client = Client::builder("http://payments.internal:8080").endpoints([server.address()]);
    let client = client.build_reqwest(|_| client_builder()).unwrap();
    client.get("/x").send().await.unwrap();
    assert_eq!(
        server.seen()[0].host.as_deref(),
        Some("payments.internal:8080")
    );
}

fn client_builder() -> reqwest::ClientBuilder {
    client()
}

#[tokio::test]
async fn an_ipv6_endpoint_is_called_under_the_origins_name() {
    let server = Server::settings().ip(Ipv6Addr::LOCALHOST).start();
    assert!(server.address().is_ipv6());
    let client = built(over([server.address()]));
    let text = format!("[::1]:{}", server.address().port());
    let by_text = Client::builder(ORIGIN).endpoints([text.as_str()]);
    let by_text = by_text.build_reqwest(|_| client_builder()).unwrap();
    client.get("/x").send().await.unwrap();
    by_text.get("/x").send().await.unwrap();
    for seen in server.seen() {
        assert_eq!(seen.host.as_deref(), Some("payments.internal"));
    }
    assert_eq!(client.endpoints()[0].name.as_ref(), text);
}

#[tokio::test]
async fn a_certificate_for_another_name_on_one_address_says_so_and_is_not_retried() {
    let authority = Authority::new();
    let wrong = Server::settings()
        .tls(authority.server(&["other.internal"]))
        .start();
    let trusting = Client::builder("https://payments.internal")
        .endpoints([wrong.address()])
        .retry(quick_retry())
        .build_reqwest(move |_| authority.client(&["http/1.1"]))
        .unwrap();
    let error = trusting.get("/x").send().await.unwrap_err();
    assert_eq!(error.report().attempts().len(), 1, "{error}");
    assert!(!error.may_have_happened());
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(wrong.seen().len(), 0);
}

// ===== bodies =====

#[tokio::test]
async fn a_large_upload_streams_through_and_one_that_is_refused_is_sent_once() {
    let server = Server::start([]);
    let client = built(over([server.address()]));
    let chunk = Bytes::from(vec![7; 16 * 1024]);
    let upload = || {
        let chunk = chunk.clone();
        let frames =
            (0..1_024).map(move |_| Ok::<_, std::io::Error>(http_body::Frame::data(chunk.clone())));
        Body::stream(StreamBody::new(stream::iter(frames)))
    };
    let reply = client.put("/x").body(upload()).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(server.seen()[0].body.len(), 16 * 1024 * 1024);

    server.script([Reply::status(503)]);
    let reply = client.put("/x").body(upload()).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    let why = reply.extensions().get::<Report>().unwrap().to_string();
    assert!(why.contains("body"), "{why}");
    assert_eq!(server.seen().len(), 2);
}

// ===== breaker, origins, secrets =====

#[tokio::test]
async fn a_circuit_that_opens_clears_the_ejections_below_it() {
    let servers = [Server::start([]), Server::start([]), Server::start([])];
    for server in &servers {
        server.otherwise(Reply::status(503));
    }
    let addresses = servers.each_ref().map(Server::address);
    let breaker = BreakerConfig::service_default().build().unwrap();
    let client = Client::builder(ORIGIN)
        .endpoints(addresses)
        .retry(Retry::default().max_attempts(1))
        .shared_circuit_breaker(Breaker::clone(&breaker))
        .build_reqwest(|_| client_builder())
        .unwrap();
    for _ in 0..200 {
        let _ = client.get("/x").send().await;
        if breaker.opened() > 0 {
            break;
        }
    }
    assert_eq!(breaker.opened(), 1);
    let error = client.get("/x").send().await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::CircuitOpen { .. }),
        "{error}"
    );
    servers
        .iter()
        .for_each(|server| server.otherwise(Reply::status(200)));
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    client.get("/x").send().await.unwrap();
    for status in client.endpoints() {
        assert!(
            !matches!(status.state, EndpointState::Ejected { .. }),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn a_wrapped_client_serves_more_origins_than_it_remembers() {
    let server = Server::start([]);
    let port = server.address().port();
    let names = (0..2_000u32).map(|n| format!("127.{}.{}.9", 1 + n / 250, n % 250));
    let refused = Client::wrap_reqwest(client().build().unwrap())
        .deadline(Duration::from_secs(5))
        .retry(Retry::default().max_attempts(1))
        .build()
        .unwrap();
    for name in names {
        // Nobody listens there: connections are refused at once.
        let error = refused
            .get(format!("http://{name}:{port}/"))
            .send()
            .await
            .unwrap_err();
        let open = matches!(error.kind(), ErrorKind::CircuitOpen { .. });
        assert!(!error.may_have_happened());
        assert!(open || error.kind() == ErrorKind::Upstream, "{error}");
    }
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let reply = refused
        .get(format!("http://127.0.0.1:{port}/"))
        .send()
        .await;
    assert_eq!(reply.unwrap().status(), 200);
}

#[tokio::test]
async fn nothing_that_is_shown_holds_a_secret() {
    let server = Server::start([]);
    server.otherwise(Reply::reset());
    let client = built(over([server.address()]));
    let request = client
        .post("/x?token=hush-query")
        .header("x-api-key", "hush-header")
        .bearer_auth("hush-bearer")
        .basic_auth("user", Some("hush-basic"))
        .policy(CallPolicy::new().idempotency_key("hush-key-of-order"))
        .json(&["hush-body"]);
    let mut shown = format!("{request:?} {client:?} {:?}", client.endpoints());
    let error = request.send().await.unwrap_err();
    shown += &format!("{error} {error:?} {} {:?}", error.report(), error.report());
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        shown += &inner.to_string();
        source = inner.source();
    }
    let wrapped = Client::wrap_reqwest(reqwest::Client::new())
        .build()
        .unwrap();
    let url = "http://user:hush-password@127.0.0.1:1/?token=hush-url";
    shown += &format!("{:?}", wrapped.get(url));
    let error = wrapped.get(url).send().await.unwrap_err();
    shown += &format!("{error} {error:?}");
    let error = wrapped
        .get("ftp://user:hush@h/?q=hush")
        .send()
        .await
        .unwrap_err();
    shown += &format!("{error} {error:?}");
    assert!(
        !shown.contains("hush-") && !shown.contains("hush@"),
        "{shown}"
    );
}

// ===== runtimes =====

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn discovering(address: SocketAddr) -> Client {
    let sets = stream::iter([vec![Endpoint::new(address)]]);
    let endless = futures::StreamExt::chain(sets, stream::pending());
    Client::builder(ORIGIN)
        .discover(from_stream(endless))
        .deadline(Duration::from_secs(5))
        .build_reqwest(|_| client_builder())
        .unwrap()
}

#[test]
fn a_client_built_in_main_serves_two_runtimes_one_after_the_other() {
    let server = Server::start([]);
    for client in [
        discovering(server.address()),
        built(over([server.address()])),
    ] {
        for _ in 0..2 {
            let runtime = runtime();
            for _ in 0..3 {
                let reply = runtime.block_on(client.get("/x").send());
                assert_eq!(reply.unwrap().status(), 200);
            }
        }
    }
}

#[test]
fn a_client_serves_two_runtimes_at_once_and_the_one_that_is_left() {
    let server = Server::start([]);
    for client in [
        discovering(server.address()),
        built(over([server.address()])),
    ] {
        let calls = |client: Client, calls: usize| {
            move || {
                let runtime = runtime();
                (0..calls).for_each(|_| {
                    let reply = runtime.block_on(client.get("/x").send());
                    assert_eq!(reply.unwrap().status(), 200);
                });
            }
        };
        let short = std::thread::spawn(calls(client.clone(), 5));
        let long = std::thread::spawn(calls(client.clone(), 100));
        short.join().unwrap();
        long.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_threads_lose_no_call_and_no_place() {
    let servers = [Server::start([]), Server::start([]), Server::start([])];
    let client = built(over(servers.each_ref().map(Server::address)));
    let mut calls = JoinSet::new();
    for worker in 0..64 {
        let client = client.clone();
        calls.spawn(async move {
            for call in 0..20 {
                let send = client.post(format!("/{worker}/{call}")).body("b").send();
                if worker % 4 == 0 {
                    let _ = tokio::time::timeout(Duration::from_millis(1), send).await;
                } else {
                    assert_eq!(send.await.unwrap().status(), 200);
                }
            }
        });
    }
    calls.join_all().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(in_flight(&client), 0);
    let mut paths: Vec<_> = servers
        .iter()
        .flat_map(Server::seen)
        .map(|seen| seen.path)
        .collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "a POST was sent twice");
}
