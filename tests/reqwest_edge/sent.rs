//! What is sent and kept.

use super::*;

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
