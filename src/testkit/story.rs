use std::{fmt::Debug, ops::RangeBounds, time::Duration};

use http::Response;

use crate::{
    call::{Disposition, Report, Stop},
    error::{Error, ErrorKind},
};

/// What a call came to, for assertions: made by [`story`].
#[derive(Clone, Copy, Debug)]
pub struct Story<'a> {
    /// Of an answer.
    status: Option<u16>,
    /// Of an error.
    error: Option<&'a Error>,
    report: Option<&'a Report>,
}

/// The story of a call from its answer: the [`Report`] that its response or its error carries.
///
/// A response that came at the first attempt carries none, which counts as one attempt that was a success.
///
/// ```
/// # tokio_test::block_on(async {
/// use std::time::Duration;
/// use evenkeel::testkit::{Act, Scripted, story};
/// use evenkeel::{Body, Retry, RetryLayer, call::Stop};
/// use tower::{Layer, ServiceExt};
///
/// tokio::time::pause();
/// let retry = Retry::default().max_attempts(2).build().unwrap();
/// let service = RetryLayer::new(retry).layer(Scripted::statuses([503]));
/// let request = http::Request::get("/").body(Body::empty()).unwrap();
/// let answer = service.oneshot(request).await;
/// story(&answer)
///     .status(503)
///     .attempts(["503", "503"])
///     .stopped(Stop::AttemptsExhausted { max_attempts: 2 })
///     .took(..=Duration::from_millis(50));
/// # });
/// ```
#[must_use = "asserts nothing by itself"]
pub fn story<B>(answer: &Result<Response<B>, Error>) -> Story<'_> {
    match answer {
        Ok(response) => Story {
            status: Some(response.status().as_u16()),
            error: None,
            report: response.extensions().get(),
        },
        Err(error) => Story {
            status: None,
            error: Some(error),
            report: Some(error.report()),
        },
    }
}

impl Story<'_> {
    /// Asserts that it was a response of this status.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        assert!(
            self.status == Some(status),
            "a response of status {status} expected: {self:?}"
        );
        self
    }

    /// Asserts that it was an error of this kind.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn error(self, kind: ErrorKind) -> Self {
        let found = self.error.map(Error::kind);
        assert!(found == Some(kind), "{kind:?} expected: {self:?}");
        self
    }

    /// Asserts how its attempts ended, in the words of the report: a status, or `could not connect` and the like.
    ///
    /// # Panics
    /// If they ended otherwise.
    #[track_caller]
    pub fn attempts<const N: usize>(self, outcomes: [&str; N]) -> Self {
        let found: Vec<String> = match (self.report, self.status) {
            (Some(report), _) => {
                let attempts = report.attempts().iter();
                attempts
                    .map(|attempt| attempt.outcome().to_string())
                    .collect()
            }
            (None, status) => status.iter().map(u16::to_string).collect(),
        };
        assert!(
            found == outcomes,
            "attempts expected to end as {outcomes:?}, they did as {found:?}: {self:?}"
        );
        self
    }

    /// Asserts which endpoints its attempts went to.
    ///
    /// # Panics
    /// If they went to others.
    #[track_caller]
    pub fn endpoints<const N: usize>(self, endpoints: [&str; N]) -> Self {
        let attempts = self.report.map_or(&[][..], Report::attempts);
        let found: Vec<_> = attempts.iter().map(|attempt| attempt.endpoint()).collect();
        assert!(
            found == endpoints.map(Some),
            "attempts expected at {endpoints:?}: {self:?}"
        );
        self
    }

    /// Asserts why there was no further attempt.
    ///
    /// # Panics
    /// If the reason was another, or there was none.
    #[track_caller]
    pub fn stopped(self, stop: Stop) -> Self {
        let found = self.report.and_then(Report::stop);
        assert!(found == Some(stop), "{stop:?} expected: {self:?}");
        self
    }

    /// Asserts what is known of the call's effect; an answer without a report was answered.
    ///
    /// # Panics
    /// If it is something else.
    #[track_caller]
    pub fn disposition(self, disposition: Disposition) -> Self {
        let found = self
            .report
            .map_or(Disposition::Answered, Report::disposition);
        assert!(found == disposition, "{disposition:?} expected: {self:?}");
        self
    }

    /// Asserts how long the call took until its report.
    ///
    /// # Panics
    /// If there is no report or the time is not in the range.
    #[track_caller]
    pub fn took(self, range: impl RangeBounds<Duration> + Debug) -> Self {
        let found = self.report.map(Report::elapsed);
        assert!(
            found.is_some_and(|took| range.contains(&took)),
            "{range:?} expected, it took {found:?}: {self:?}"
        );
        self
    }
}
