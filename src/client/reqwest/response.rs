//! From the stack's response to the one that users of reqwest know.

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;

use super::body::SyncBody;
use crate::error::BoxError;

/// What a guarded body becomes at the edge: one of reqwest's, so that the stack has one type.
pub(crate) type ClientBody = reqwest::Body;

/// Boxes the body; its length and its end stay known.
pub(crate) fn boxed<B>(response: Response<B>) -> Response<ClientBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| reqwest::Body::wrap(SyncBody::new(body)))
}

/// The response with the URL that [`HttpService`](super::HttpService) kept, and all extensions: the report is
/// one of them.
pub(super) fn into_reqwest(response: Response<ClientBody>) -> reqwest::Response {
    response.into()
}
