//! TLS and the origin's name.

use super::*;

#[tokio::test]
async fn over_tls_every_address_is_called_by_the_origins_name() {
    let authority = Authority::new();
    let tls = authority.server(&["echo.internal"]);
    let [one, two] = [(); 2].map(|()| Server::settings().tls(Arc::clone(&tls)).start());
    for server in [&one, &two] {
        server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    }
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = Channel::builder("https://echo.internal:8443")
        .endpoints([one.address(), two.address()].map(Endpoint::new))
        .connect_timeout(millis(1000))
        .build_tonic(|endpoint| endpoint.tls_config(trust))
        .expect("valid");
    let mut echo = EchoClient::new(channel);
    for _ in 0..20 {
        echo.unary(message("x")).await.expect("an answer");
    }
    for server in [one, two] {
        let seen = server.seen();
        assert!(!seen.is_empty());
        assert_eq!(server.connections(), 1);
        for request in seen {
            assert_eq!(request.authority.as_deref(), Some("echo.internal:8443"));
            assert_eq!(request.sni.as_deref(), Some("echo.internal"));
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_fails_for_good_and_https_without_settings_says_what_is_missing()
 {
    let authority = Authority::new();
    let server = Server::settings()
        .tls(authority.server(&["other.internal"]))
        .start();
    let build = || {
        Channel::builder("https://echo.internal")
            .endpoints([Endpoint::new(server.address())])
            .connect_timeout(millis(1000))
    };
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = build()
        .build_tonic(|endpoint| endpoint.tls_config(trust))
        .expect("valid");
    let status = EchoClient::new(channel)
        .unary(message("x"))
        .await
        .expect_err("another name");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(ours(&status).disposition(), Disposition::NotSent);
    assert_eq!(ours(&status).report().attempts().len(), 1, "{status}");

    let plain = build()
        .build_tonic(Ok)
        .expect("only tonic knows that TLS is not set");
    let status = EchoClient::new(plain)
        .unary(message("x"))
        .await
        .expect_err("no TLS");
    assert!(status.message().contains("tls_config"), "{status}");
    assert_eq!(ours(&status).kind(), ErrorKind::InvalidCall);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_port_of_the_origin_is_shown_or_left_out_as_asked() {
    let server = Server::start([]);
    server.otherwise(Reply::grpc_message(b"").trailers([("grpc-status", "0")]));
    for (without, authority) in [(false, "echo.internal:1"), (true, "echo.internal")] {
        let builder =
            Channel::builder("http://echo.internal:1").endpoints([Endpoint::new(server.address())]);
        let builder = if without {
            builder.authority_without_port()
        } else {
            builder
        };
        let mut echo = EchoClient::new(builder.build_tonic(Ok).expect("valid"));
        echo.unary(message("x")).await.expect("an answer");
        let seen = server.seen().pop().expect("a request");
        assert_eq!(seen.authority.as_deref(), Some(authority));
        assert!(
            !seen.headers.contains_key("content-length"),
            "as tonic sends it"
        );
    }
}

#[test]
fn settings_out_of_range_are_refused_when_the_channel_is_built() {
    let built = |builder: ClientBuilder<evenkeel::Balanced>| builder.build_tonic(Ok).map(drop);
    let refused = |builder| built(builder).expect_err("refused").to_string();
    let one = || Channel::builder(ORIGIN).endpoints(["127.0.0.1:1"]);
    assert!(refused(Channel::builder("echo.internal")).contains("origin"));
    assert!(refused(one().method("Echo/", CallPolicy::new())).contains("package.Service/Method"));
    assert!(refused(one().deadline(Duration::ZERO)).contains("deadline"));
    let itself = Channel::builder("http://127.0.0.1:1").endpoints(["127.0.0.2:1"]);
    assert!(refused(itself).contains("only itself"));
    let other = one().build_tonic(|_| Ok(tonic::transport::Endpoint::from_static("http://other")));
    assert!(
        other
            .map(drop)
            .expect_err("another origin")
            .to_string()
            .contains("http://other")
    );
    let agent = one().build_tonic(|endpoint| endpoint.user_agent("a\nb"));
    assert!(
        agent
            .map(drop)
            .expect_err("no header")
            .to_string()
            .contains("user agent")
    );
    assert!(built(one()).is_ok());
}
