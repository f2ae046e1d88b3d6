//! Built alone (`cargo run -p no-tls`), so that nothing else in the build switches TLS on.

use evenkeel::{Body, Channel, Disposition, ErrorKind, reqwest::HttpService};
use http::Request;
use tower::ServiceExt;

const CARGO_LINE: &str = r#"reqwest = { version = "0.13", features = ["rustls"] }"#;
const TONIC_LINE: &str =
    r#"tonic = { version = "0.14", features = ["tls-ring", "tls-native-roots"] }"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let service = HttpService::new(Default::default());
    let request = Request::get("https://payments.internal/charges")
        .body(Body::empty())
        .expect("valid");
    let error = service
        .oneshot(request)
        .await
        .expect_err("https without TLS");
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::InvalidCall, Disposition::NotSent)
    );
    assert!(error.to_string().contains(CARGO_LINE), "{error}");
    println!("{error}");

    // Without TLS tonic would call it in plain text.
    let error = Channel::builder("https://greeter.internal")
        .build_tonic(Ok)
        .expect_err("https without TLS");
    assert!(error.to_string().contains(TONIC_LINE), "{error}");
    println!("{error}");
}
