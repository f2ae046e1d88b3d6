use std::time::Duration;

use tower::Layer;

use super::{
    config::{Limits, above_zero},
    service::{AttemptTimeoutService, DeadlineService},
};
use crate::{call::DeadlineHeader, error::InvalidSetting};

/// Gives every call a deadline that covers everything below it and the response body.
///
/// See the [module](crate::timeout) for what counts and what replaces what.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    deadline: Duration,
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
            preset: false,
            body_idle: None,
            covered: false,
        };
        Ok(Self { deadline, limits })
    }

    /// The response body may be silent for this long while somebody waits for it; it then ends as
    /// [`BodyIdle`](crate::ErrorKind::BodyIdle).
    ///
    /// Range: above zero; [`Duration::MAX`] means no limit. Default: no limit, since a stream of events may
    /// be silent for hours; the ready-made client takes [`DEFAULT_BODY_IDLE`](super::config::DEFAULT_BODY_IDLE).
    ///
    /// # Errors
    /// If it is zero.
    pub fn body_idle(mut self, limit: Duration) -> Result<Self, InvalidSetting> {
        self.limits.body_idle = Some(above_zero("DeadlineLayer::body_idle", limit)?);
        Ok(self)
    }

    /// For a deadline that nobody chose: of a call with a commit point it ends there.
    #[must_use]
    pub(crate) const fn preset(mut self) -> Self {
        self.limits.preset = true;
        self
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
        DeadlineService::new(inner, self.deadline, self.limits)
    }
}

/// Limits how long one attempt may take until its response head.
///
/// Place it below the retry layer. The call's deadline limits an attempt as well, so that with less time left
/// than the limit the call ends when it has to. The default has no limit of its own: it keeps to that of the
/// call's policy, else to the one that the retry layer decided on for this attempt.
#[derive(Clone, Debug, Default)]
pub struct AttemptTimeoutLayer {
    limit: Option<Duration>,
    header: Option<DeadlineHeader>,
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
        let header = None;
        Ok(Self { limit, header })
    }

    /// Tells the other side in this header how much time is left, so that it need not work on what nobody waits for.
    ///
    /// It is written when the inner service is called: the time until the end of the attempt, be that its limit or
    /// the call's deadline. Since the limit ends with the head, a gRPC call that was not declared
    /// [`unary`](crate::CallPolicy::unary) is told of the deadline alone. What the request said before is replaced;
    /// with no end at all the header is taken out. What the inner service then does with the time is not known here: a
    /// connection that it has to open first is not taken off.
    ///
    /// The other side may now be the first to give up when the time is over. In the last 2 ms an answer of 504,
    /// DEADLINE_EXCEEDED or CANCELLED, or a connection that breaks, counts as the end of the attempt that it is.
    ///
    /// **Default**: no header.
    #[must_use]
    pub fn header(mut self, header: DeadlineHeader) -> Self {
        self.header = Some(header);
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeoutService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeoutService::new(inner, self.limit, self.header.clone())
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
