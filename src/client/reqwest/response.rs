//! From the stack's response to the one that users of reqwest know.

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;

use super::body::SyncBody;
use crate::error::BoxError;

/// Makes the response of a stack built by hand one of reqwest's, with its `text`, `json` and `chunk`.
///
/// Its URL is the one that [`HttpService`](super::HttpService) kept. All extensions stay, the
/// [`Report`](crate::Report) among them. What a layer of ours says about the body while it is read (its
/// deadline passed, say) is in the source chain of reqwest's error, and `is_timeout` sees it.
///
/// ```
/// use std::time::Duration;
///
/// use evenkeel::{DeadlineLayer, reqwest::{HttpService, into_response}};
/// use tower::{Layer, ServiceExt};
///
/// # async fn run(client: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let service = DeadlineLayer::new(Duration::from_secs(3))?.layer(HttpService::new(client));
/// let request = http::Request::get("http://127.0.0.1:8080/rates").body(evenkeel::Body::empty())?;
/// let rates = into_response(service.oneshot(request).await?).text().await?;
/// # let _ = rates;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn into_response<B>(response: Response<B>) -> reqwest::Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response
        .map(|body| reqwest::Body::wrap(SyncBody::new(body)))
        .into()
}
