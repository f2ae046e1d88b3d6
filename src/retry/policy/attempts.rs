use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, StatusCode};

use super::{
    checked::RetryPolicy,
    decide::{Decision, Key, Replayable, Situation},
};
use crate::{
    call::{
        Attempt, AttemptReport, Call, Deadline, EndpointFacts, Joined, KeyScope, Outcome, Report,
    },
    classify::{Retryable, Verdict},
    error::ErrorKind,
    stats::budget::Token,
};

/// One call's attempts: what is known of them, and where it stands.
#[derive(Debug)]
pub(crate) struct Attempts {
    joined: Joined,
    max_attempts: u32,
    /// A repetition does no harm: by its method, or since the caller says so.
    repeatable: bool,
    /// The caller put a key into the header.
    brought_key: bool,
    /// Where the first attempt went, once it has ended.
    first_endpoint: Option<EndpointFacts>,
    number: u32,
    /// When the present attempt began.
    started: Instant,
    too_early: bool,
    previous_delay: Option<Duration>,
    /// Pays for the attempt that is waited for.
    token: Token,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) how: How,
    pub(crate) verdict: Verdict,
    pub(crate) replayable: Replayable,
}

/// With what an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Status(StatusCode),
    Error(ErrorKind, Outcome),
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its outcome is the call's.
    Final,
    /// Another attempt, at once.
    Again,
    /// Another attempt after this wait.
    AgainAfter(Duration),
}

impl Attempts {
    /// A call starts.
    pub(crate) fn of(
        policy: &RetryPolicy,
        joined: Joined,
        method: &Method,
        headers: &HeaderMap,
        now: Instant,
    ) -> Self {
        let settings = policy.settings();
        let given = joined.call.policy();
        let by_method = || method.is_idempotent();
        policy.deposit(now);
        Self {
            max_attempts: given.max_attempts_given().unwrap_or(settings.max_attempts),
            repeatable: given.idempotent_given().unwrap_or_else(by_method),
            brought_key: settings.trust_caller_keys
                && !method.is_safe()
                && headers.contains_key(&settings.key_header),
            first_endpoint: None,
            number: 0,
            joined,
            started: now,
            too_early: false,
            previous_delay: None,
            token: Token::default(),
        }
    }

    pub(crate) const fn call(&self) -> &Arc<Call> {
        &self.joined.call
    }

    /// How much of a streamed body to record; `None` if the call is sent once only.
    ///
    /// Of a stream whose repetition could do harm nothing is recorded: it is sent again only if it was not
    /// touched.
    pub(crate) fn replay_limit(&self, policy: &RetryPolicy) -> Option<usize> {
        let harmless = self.repeatable || self.key().is_some();
        let limit = if harmless {
            policy.settings().replay_limit
        } else {
            0
        };
        (self.max_attempts > 1).then_some(limit)
    }

    /// Begins the next attempt and pays for it.
    pub(crate) fn begin(
        &mut self,
        policy: &RetryPolicy,
        replayable: Replayable,
        now: Instant,
    ) -> Attempt {
        let before = self.situation(None, replayable, false);
        let limit = policy.attempt_limit(&before, self.call().started(), now);
        mem::take(&mut self.token).spend();
        self.number = self.number.saturating_add(1);
        self.started = now;
        self.call().begin_attempt(self.number, now);
        Attempt {
            number: self.number,
            started: now,
            limit,
        }
    }

    /// Whether this is the end of a call that has nothing to tell.
    pub(crate) fn is_plain_success(&self, verdict: &Verdict) -> bool {
        self.number == 1 && is_good(verdict)
    }

    /// The first attempt did its work; `now` is asked for only where it matters to this call.
    pub(crate) fn succeeded(
        &self,
        policy: &RetryPolicy,
        verdict: &Verdict,
        now: impl FnOnce() -> Instant,
    ) {
        self.call().settle(verdict.disposition);
        if self.call().deadline() != Deadline::NEVER {
            policy.succeeded(now().saturating_duration_since(self.started));
        }
    }

    /// Tells the call how its attempt ended, and decides what follows.
    pub(crate) fn ended(
        &mut self,
        policy: &RetryPolicy,
        ending: &Ending,
        now: Instant,
        unit: f64,
    ) -> Next {
        let untried = self.note(ending, now);
        if is_good(&ending.verdict) {
            policy.succeeded(now.saturating_duration_since(self.started));
            return Next::Final;
        }
        let situation = self.situation(Some(ending.how), ending.replayable, untried);
        match policy.decide(&situation, &ending.verdict, now, unit) {
            Decision::Stop(stop) => {
                self.call().stopped(stop);
                Next::Final
            }
            Decision::Retry { delay, token } => {
                self.call().backing_off(delay);
                self.stay_where_the_key_is_known(&situation);
                self.token = token;
                self.too_early |= ending.verdict.retryable == Retryable::OnceIfIdempotent;
                if delay.is_zero() {
                    return Next::Again;
                }
                self.previous_delay = Some(delay);
                Next::AgainAfter(delay)
            }
        }
    }

    pub(crate) fn report(&self, now: Instant) -> Report {
        self.call().report(now)
    }

    /// Adds the attempt to the report; answers whether there is an endpoint that was not tried.
    fn note(&mut self, ending: &Ending, now: Instant) -> bool {
        let endpoint = self.call().take_endpoint();
        if self.number == 1 {
            self.first_endpoint.clone_from(&endpoint);
        }
        self.call().ended(AttemptReport {
            number: self.number,
            endpoint: endpoint.as_ref().map(|facts| Arc::clone(&facts.name)),
            ran: now.saturating_duration_since(self.started),
            outcome: match ending.how {
                How::Status(status) => Outcome::Status(status),
                How::Error(_, outcome) => outcome,
            },
            disposition: ending.verdict.disposition,
            backoff: None,
        });
        endpoint.is_some_and(|facts| facts.untried > 0)
    }

    /// A server elsewhere may not know that an attempt which went unanswered was this call.
    fn stay_where_the_key_is_known(&self, situation: &Situation) {
        let Some(first) = self.first_endpoint.as_ref() else {
            return;
        };
        if self.repeatable || !situation.unanswered {
            return;
        }
        let scope = self
            .call()
            .key()
            .map_or_else(KeyScope::default, |key| key.scope);
        if let Some(place) = scope.around(first.zone.as_ref(), first.region.as_ref()) {
            self.call().confine(place);
        }
    }

    fn situation(&self, how: Option<How>, replayable: Replayable, untried: bool) -> Situation {
        let (status, error) = match how {
            Some(How::Status(status)) => (Some(status), None),
            Some(How::Error(kind, _)) => (None, Some(kind)),
            None => (None, None),
        };
        Situation {
            attempts: self.number,
            max_attempts: self.max_attempts,
            repeatable: self.repeatable,
            key: self.key(),
            replayable,
            status,
            error,
            confined: self.call().confinement().is_some(),
            unanswered: self.call().disposition().may_have_happened(),
            too_early: self.too_early,
            untried,
            previous_delay: self.previous_delay,
            deadline: self.call().deadline(),
        }
    }

    /// The key that the destination de-duplicates by, whichever layer or caller brought it.
    fn key(&self) -> Option<Key> {
        let callers = Key {
            from_caller: true,
            expires: Deadline::NEVER,
        };
        if !self.call().key_decided() {
            return self.brought_key.then_some(callers);
        }
        let key = self.call().key()?;
        Some(Key {
            from_caller: key.from_caller,
            expires: key.expires,
        })
    }
}

/// Nothing failed, and nothing asks to come again.
fn is_good(verdict: &Verdict) -> bool {
    verdict.class.is_success() && verdict.retryable == Retryable::Never
}
