//! What failures prove.

use super::*;

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
