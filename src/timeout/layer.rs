use std::time::Duration;

use tower::Layer;

use super::{
    config::{Limits, above_zero},
    service::{AttemptTimeoutService, DeadlineService},
};
use crate::error::InvalidSetting;

/// Gives every call a deadline that covers everything below it and the response body.
///
/// See the [module](crate::timeout) for what counts and what replaces what.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    limits: Limits,
}

impl DeadlineLayer {
    /// A call may take this long; there is no default, since only the caller knows who waits.
    ///
    /// Range: above zero; [`Duration::MAX`] means no deadline but that of a call which brings one.
    ///
    /// # Errors
    /// If it is zero.
    pub fn new(deadline: Duration) -> Result<Self, InvalidSetting> {
        let deadline = above_zero("DeadlineLayer::new", deadline)?;
        let limits = Limits {
            deadline,
            body_idle: None,
            covered: false,
        };
        Ok(Self { limits })
    }

    /// The response body may be silent for this long while somebody waits for it; it then ends as
    /// [`BodyIdle`](crate::ErrorKind::BodyIdle).
    ///
    /// Range: above zero; [`Duration::MAX`] means no limit. Default: no limit, since a stream of events may
    /// be silent for hours; the ready-made client takes [`BODY_IDLE`](super::config::BODY_IDLE).
    ///
    /// # Errors
    /// If it is zero.
    pub fn body_idle(mut self, limit: Duration) -> Result<Self, InvalidSetting> {
        self.limits.body_idle = Some(above_zero("DeadlineLayer::body_idle", limit)?);
        Ok(self)
    }

    /// For a stack in which every place that waits ends itself at the call's deadline: no timer of its own
    /// before the head.
    #[must_use]
    pub(crate) const fn covered(mut self) -> Self {
        self.limits.covered = true;
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService::new(inner, self.limits)
    }
}

/// Limits how long one attempt may take until its response head.
///
/// Place it below the retry layer. The call's deadline limits an attempt as well, so that with less time left
/// than the limit the call ends when it has to. The default has no limit of its own: it keeps to that of the
/// call's policy, else to the one that the retry layer decided on for this attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptTimeoutLayer {
    limit: Option<Duration>,
}

impl AttemptTimeoutLayer {
    /// An attempt may take this long; there is no default, since only a user knows how fast a service is.
    ///
    /// Range: above zero; [`Duration::MAX`] means no limit.
    ///
    /// # Errors
    /// If it is zero.
    pub fn new(limit: Duration) -> Result<Self, InvalidSetting> {
        let limit = Some(above_zero("AttemptTimeoutLayer::new", limit)?);
        Ok(Self { limit })
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeoutService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeoutService::new(inner, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http::{Request, Response};
    use http_body_util::Empty;
    use tower::{ServiceExt, service_fn};

    use super::*;

    type Answer = Result<Response<Empty<&'static [u8]>>, Infallible>;

    #[tokio::test(start_paused = true)]
    async fn a_covered_deadline_arms_no_timer_before_the_head() {
        let limit = Duration::from_millis(50);
        for (covered, woken) in [(false, true), (true, false)] {
            let layer = DeadlineLayer::new(limit).unwrap();
            let layer = if covered { layer.covered() } else { layer };
            let service = layer.layer(service_fn(|_: Request<()>| pending::<Answer>()));
            let mut call = tokio_test::task::spawn(service.oneshot(Request::new(())));
            assert!(call.poll().is_pending());
            tokio::time::advance(limit * 2).await;
            assert_eq!(call.is_woken(), woken);
        }
    }
}
