use std::time::Duration;

use crate::call::Disposition;

/// What an attempt's end means for everybody who has to decide about it.
///
/// Made from one of its constants: `Verdict::FAILURE.retryable(Retryable::Never)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// For breaker, ejection and load.
    pub class: Class,
    /// For retry.
    pub retryable: Retryable,
    /// Whether it may have happened.
    pub disposition: Disposition,
    /// The server's wish about when to come back.
    pub pushback: Pushback,
    /// It says something about the endpoint that was called, and nothing about the others.
    pub endpoint_fault: bool,
}

/// How the other side did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// It did its work; an answer that blames the caller (4xx) is one too.
    Success,
    /// It is busy and said so (429): counts for rates, not for runs of failures.
    Throttled,
    /// It failed.
    Failure,
    /// It says nothing about the other side: refused by a layer of ours, or given up by the caller.
    Neutral,
}

/// When the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retryable {
    /// Never: nothing would change.
    Never,
    /// If repeating does no harm: by its method, or by a key.
    IfIdempotent,
    /// The same, but once only (425).
    OnceIfIdempotent,
    /// If this very key may still be running (409).
    IfKeyRunning,
    /// Always: it was not processed.
    Always,
}

/// What a good head leaves to the trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The status: a body that ends without one is a failure.
    Status,
    /// Nothing, unless they take back the status that the head had.
    Correction,
}

/// What the end of an attempt is to a budget that counts ends (gRFC A6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credit {
    Success,
    /// It is retried, or the server said not to.
    Failure,
    /// Neither, or not known yet.
    None,
}

impl Credit {
    pub(crate) fn of(verdict: &Verdict, success: bool) -> Self {
        if success {
            return Self::Success;
        }
        let stops = verdict.pushback == Pushback::Stop;
        match verdict.retryable {
            Retryable::Never if !stops => Self::None,
            _ => Self::Failure,
        }
    }
}

/// The server's wish about when to be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushback {
    /// It has none.
    #[default]
    None,
    /// Not before this time has passed.
    After(Duration),
    /// After exactly this time, without jitter (gRFC A6).
    Exactly(Duration),
    /// Not at all.
    Stop,
}

impl Verdict {
    /// The answer is good, or blames the caller.
    pub const SUCCESS: Self = Self {
        class: Class::Success,
        retryable: Retryable::Never,
        disposition: Disposition::Answered,
        pushback: Pushback::None,
        endpoint_fault: false,
    };

    /// The server failed in a way that may pass: retried where repeating does no harm.
    pub const FAILURE: Self = Self {
        class: Class::Failure,
        retryable: Retryable::IfIdempotent,
        endpoint_fault: true,
        ..Self::SUCCESS
    };

    /// The same with another rule for retry.
    #[must_use]
    pub const fn retryable(mut self, retryable: Retryable) -> Self {
        self.retryable = retryable;
        self
    }

    /// The same with another class.
    #[must_use]
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The same with another word on whether it may have happened.
    #[must_use]
    pub const fn disposition(mut self, disposition: Disposition) -> Self {
        self.disposition = disposition;
        self
    }

    /// The same, said of the endpoint that was called alone, or of the others as well.
    #[must_use]
    pub const fn endpoint_fault(mut self, of_the_endpoint: bool) -> Self {
        self.endpoint_fault = of_the_endpoint;
        self
    }

    /// The same with a pushback.
    #[must_use]
    pub const fn pushback(mut self, pushback: Pushback) -> Self {
        self.pushback = pushback;
        self
    }
}
