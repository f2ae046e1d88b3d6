//! TLS.

use super::*;

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
