//! The server does what it says: a plain client of h2 and one of tonic.

use super::*;

async fn plain(address: SocketAddr) -> Result<(HeaderMap, Plain), h2::Error> {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let (mut send, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let request = HttpRequest::post("http://echo.internal/x")
        .body(())
        .expect("valid");
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (response, _) = send.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut data = 0;
    while let Some(chunk) = body.data().await {
        data += chunk.map(|chunk: Bytes| chunk.len())?;
    }
    let trailers = body.trailers().await?;
    Ok((head.headers, Plain { data, trailers }))
}

async fn broken(act: Act) -> h2::Error {
    let server = RawServer::start([act]);
    plain(server.address()).await.expect_err("no answer")
}

#[tokio::test]
async fn the_server_answers_as_scripted() {
    let late = Act::Answer {
        messages: 2,
        status: 14,
    };
    let script = [
        late,
        Act::TrailersOnly(5),
        Act::NoStatus,
        Act::OnlyHead,
        Act::Page(502),
    ];
    let server = RawServer::start(script);
    let status = |headers: &HeaderMap| {
        headers
            .get("grpc-status")
            .map(|code| code.as_bytes().to_vec())
    };
    let mut seen = Vec::new();
    for _ in script {
        let (head, rest) = plain(server.address()).await.expect("an answer");
        let late = rest.trailers.as_ref().and_then(&status);
        seen.push((status(&head), rest.data, late));
    }
    let code = |code: &str| Some(code.as_bytes().to_vec());
    let expected = [
        (None, 10, code("14")),
        (code("5"), 0, None),
        (None, 5, None),
        (None, 0, None),
        (None, 13, None),
    ];
    assert_eq!(seen, expected);
    let acts: Vec<_> = server.seen().iter().map(|seen| seen.act).collect();
    assert_eq!(acts, script.map(Some));
    assert_eq!(server.connections(), script.len());
}

#[tokio::test]
async fn the_server_resets_streams_as_scripted() {
    for code in [REFUSED_STREAM, CANCEL, INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
        for messages in [0, 1] {
            let error = broken(Act::Reset { messages, code }).await;
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
            assert_eq!(error.reason(), Some(Reason::from(code)));
        }
    }
}

#[tokio::test]
async fn the_server_goes_away_as_scripted() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let error = broken(Act::GoAwayBelow(code)).await;
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(Reason::from(code)));
    }
    for act in [Act::GoAwayAt(NO_ERROR), Act::GoAwayAbove(NO_ERROR)] {
        let error = broken(act).await;
        assert!(error.is_io(), "the stream was covered: {error:?}");
    }
    let server = RawServer::start([Act::GoAwayThenAnswer]);
    let (_, rest) = plain(server.address()).await.expect("an answer");
    assert_eq!(rest.data, 5);
    let unwelcoming = RawServer::unwelcoming(ENHANCE_YOUR_CALM);
    let error = plain(unwelcoming.address()).await.expect_err("no answer");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
}

#[tokio::test]
async fn tonics_own_channel_understands_the_server() {
    let late = Act::Answer {
        messages: 1,
        status: 14,
    };
    let server = RawServer::start([Act::OK, Act::TrailersOnly(5), late, Act::REFUSE]);
    let uri = format!("http://{}", server.address());
    let endpoint = transport::Endpoint::from_shared(uri).expect("a URI");
    let mut echo = EchoClient::new(endpoint.connect_lazy());
    let reply = echo.unary(message()).await.expect("an answer");
    assert_eq!(reply.into_inner(), Message::default());
    for code in [Code::NotFound, Code::Unavailable, Code::Unavailable] {
        let status = echo.unary(message()).await.expect_err("failed");
        assert_eq!(status.code(), code, "{status}");
    }
    assert_eq!((server.seen().len(), server.connections()), (4, 1));
}
