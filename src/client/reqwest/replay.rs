use bytes::Bytes;

use super::body::SyncBody;
use crate::replay::{Recording, Replay};

/// One in memory is copied byte by byte before it is sent, since reqwest lends its bytes and does not share
/// them: [`evenkeel::Body`](crate::Body) copies nothing.
impl Replay for reqwest::Body {
    fn try_clone(&self) -> Option<Self> {
        self.as_bytes()
            .map(|bytes| Bytes::copy_from_slice(bytes).into())
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(|recording| Self::wrap(SyncBody::new(recording)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_memory_has_a_copy_and_a_stream_has_none() {
        let copy = Replay::try_clone(&reqwest::Body::from("charge")).expect("a copy");
        assert_eq!(copy.as_bytes(), Some(b"charge".as_slice()));
        let stream = reqwest::Body::wrap(http_body_util::Full::new(Bytes::from("charge")));
        assert!(Replay::try_clone(&stream).is_none());
    }
}
