//! The adapter under layers by hand.

use super::*;

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
