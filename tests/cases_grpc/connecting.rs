//! Peers that are not there, or not what they should be.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel::{Channel, Disposition, Ejection, Endpoint, Retry, breaker::State};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::AbortHandle,
    time::sleep,
};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Server as TonicServer},
};

use crate::{
    ORIGIN, builder, channel, client,
    echo::echo_client::EchoClient,
    message, millis, ours,
    service::Told,
    support::{
        fleet::Sets,
        network::Network,
        nowhere::{BlackHole, Silent},
        server::{LOOPBACK, RUNTIME, Server},
        tls::Authority,
    },
    told,
};

const S: fn(u64) -> Duration = Duration::from_secs;

/// Good and bad answers to calls that are made at once, and when the last was there. None of the bad was sent.
async fn answers_to(channel: Channel, calls: usize) -> (usize, usize, Duration) {
    let started = Instant::now();
    let call = |_| {
        let mut echo = EchoClient::new(channel.clone());
        async move { echo.unary(message("x")).await }
    };
    let answers = join_all((0..calls).map(call)).await;
    let bad: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    for status in &bad {
        assert_eq!(ours(status).disposition(), Disposition::NotSent, "{status}");
    }
    (calls - bad.len(), bad.len(), started.elapsed())
}

// TMO-09, for many calls at once
#[tokio::test]
async fn calls_that_wait_for_one_connection_do_not_sit_through_its_timeout_one_after_another() {
    let (nowhere, server) = (BlackHole::new(), Told::start());
    let both =
        builder([nowhere.address(), server.address()]).retry(Retry::default().without_budget());
    let (_, bad, took) = answers_to(both.build_tonic(Ok).unwrap(), 50).await;
    assert!(bad == 0 && took < millis(2500), "{bad} bad, {took:?}");

    let (_, bad, took) = answers_to(channel([nowhere.address()]), 50).await;
    assert!(bad == 50 && took < millis(2500), "{bad} bad, {took:?}");
}

// TMO-09, where the address answers and nobody speaks TLS
#[tokio::test]
async fn calls_that_wait_for_one_handshake_do_not_sit_through_its_timeout_one_after_another() {
    let silent = Silent::new();
    let pem = Authority::new().pem();
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    let channel = Channel::builder("https://echo.internal")
        .endpoints([Endpoint::new(silent.address())])
        .build_tonic(|endpoint| endpoint.tls_config(trust));
    let (_, bad, took) = answers_to(channel.unwrap(), 50).await;
    assert!(bad == 50 && took < millis(2500), "{bad} bad, {took:?}");
}

/// Accepts connections, reads what comes, and writes this.
struct Says {
    address: SocketAddr,
    task: AbortHandle,
}

impl Says {
    fn start(words: &'static [u8], hangs_up: bool) -> Self {
        let listener = StdListener::bind((LOOPBACK, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    // The client may be gone.
                    let _ = socket.read(&mut buffer).await;
                    let _ = socket.write_all(words).await;
                    while !hangs_up && matches!(socket.read(&mut buffer).await, Ok(1..)) {}
                });
            }
        };
        let task = RUNTIME.spawn(serving).abort_handle();
        Self { address, task }
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_ends_the_call_at_once_with_a_typed_error() {
    const HTTP_1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let peers: [(&[u8], bool); 6] = [
        (HTTP_1, true),
        (HTTP_1, false),
        (b"SSH-2.0-OpenSSH_9.6\r\n", false),
        (b"\x15\x03\x01\x00\x02\x02\x46", true),
        (&[0; 512], false),
        (b"", true),
    ];
    for (words, hangs_up) in peers {
        let peer = Says::start(words, hangs_up);
        let started = Instant::now();
        let status = client([peer.address])
            .unary(message("x"))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{words:?}: {status}");
        assert_eq!(
            ours(&status).report().attempts().len(),
            1,
            "{words:?}: {status}"
        );
        assert!(
            started.elapsed() < S(2),
            "{words:?}: {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn a_peer_of_tls_without_http2_is_no_connection_and_not_tried_again() {
    let authority = Authority::new();
    for alpn in [vec![b"http/1.1".to_vec()], Vec::new()] {
        let mut config = (*authority.server(&["echo.internal"])).clone();
        config.alpn_protocols = alpn;
        let server = Server::settings().tls(Arc::new(config)).start();
        let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        let channel = Channel::builder("https://echo.internal")
            .endpoints([Endpoint::new(server.address())])
            .connect_timeout(S(1))
            .build_tonic(|endpoint| endpoint.tls_config(trust));
        let mut echo = EchoClient::new(channel.unwrap());
        let status = echo.unary(message("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let error = ours(&status);
        assert_eq!(error.disposition(), Disposition::NotSent, "{error}");
        assert_eq!(error.report().attempts().len(), 1, "{error}");
    }
}

// What is sent before the server's settings are there is refused, and sent again.
#[tokio::test]
async fn a_thousand_calls_share_a_connection_that_takes_one_at_a_time() {
    let one_at_a_time = TonicServer::builder().max_concurrent_streams(1);
    let server = Told::with((LOOPBACK, 0).into(), one_at_a_time);
    let channel = builder([server.address()])
        .deadline(S(60))
        .retry(Retry::default().without_budget())
        .no_circuit_breaker()
        .ejection(Ejection::off())
        .build_tonic(Ok)
        .unwrap();
    let (good, _, _) = answers_to(channel.clone(), 1000).await;
    assert_eq!((good, server.counts.begun()), (1000, 1000));
    assert_eq!(channel.endpoints()[0].in_flight, 0);
}

#[tokio::test]
async fn a_server_that_is_started_again_on_its_port_is_called_again_soon() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    echo.unary(message("x")).await.unwrap();
    let address = server.kill();
    for _ in 0..20 {
        let status = echo.unary(message("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    assert_eq!(channel.circuit_breaker().state(), State::Open);
    let _again = Told::with(address, TonicServer::builder());
    let started = Instant::now();
    while echo.unary(message("x")).await.is_err() {
        assert!(
            started.elapsed() < S(3),
            "the breaker is open for a second at most"
        );
        sleep(millis(10)).await;
    }
}

// LB-08, apple/servicetalk#1028
#[tokio::test]
async fn a_server_that_drains_or_leaves_the_set_finishes_its_streams_and_no_call_is_lost() {
    let (old, new) = (Told::start(), Told::start());
    let set = |servers: &[&Told]| {
        let endpoint = |server: &&Told| Endpoint::new(server.address());
        servers.iter().map(endpoint).collect()
    };
    let sets = Sets::new();
    sets.answer(set(&[&old]));
    let channel = Channel::builder(ORIGIN).discover(sets.clone());
    let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
    let streams = [
        echo.repeat(told("x-every", "200")).await.unwrap(),
        echo.repeat(told("x-every", "400")).await.unwrap(),
    ];
    sets.answer(set(&[&old, &new]));
    old.drain();
    for round in 0..100 {
        echo.unary(message("x")).await.unwrap();
        if round == 50 {
            sets.answer(set(&[&new]));
        }
    }
    assert!(new.counts.begun() >= 50);
    for stream in streams {
        let mut stream = stream.into_inner();
        for _ in 0..3 {
            assert!(stream.message().await.unwrap().is_some());
        }
        assert!(stream.message().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_any_more_is_left_for_a_new_one() {
    let server = Told::start();
    // One that was lost from the beginning, and one that was in use.
    for calls_before in [0, 3] {
        let network = Network::before(server.address());
        let channel = builder([network.address()]).deadline(millis(500));
        let mut echo = EchoClient::new(channel.build_tonic(Ok).unwrap());
        let mut stream = None;
        for _ in 0..calls_before {
            echo.unary(message("x")).await.unwrap();
            stream = Some(echo.repeat(told("x-every", "100")).await.unwrap());
        }
        network.lose(1);
        let started = Instant::now();
        while let Err(status) = echo.unary(message("x")).await {
            assert!(started.elapsed() < S(8), "{status}");
        }
        drop(stream);
    }
}
