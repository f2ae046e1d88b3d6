use http_body::Body as _;
use tonic::body::Body;

use crate::replay::{Recording, Replay};

/// For layers by hand: one that tonic made is a stream even where it is a single message, so that what a retry sends
/// again was recorded. [`Channel`](super::Channel) keeps single messages in memory.
impl Replay for Body {
    fn try_clone(&self) -> Option<Self> {
        self.is_end_stream().then(Self::empty)
    }

    fn rebox() -> Option<fn(Recording<Self>) -> Self> {
        Some(Self::new)
    }
}
