use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, StatusCode};

use super::{
    checked::RetryPolicy,
    decide::{Before, Decision, Key, Replayable, Situation},
};
use crate::{
    call::{
        Attempt, AttemptReport, Call, Deadline, Disposition, EndpointFacts, Joined, Outcome, Report,
    },
    classify::{Credit, Pushback, Retryable, Verdict},
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
    number: u32,
    /// When the present attempt began.
    started: Instant,
    too_early: bool,
    previous_delay: Option<Duration>,
    /// The attempt since which the backoff counts: a server that named an exact wait starts it anew.
    backoff_since: u32,
    /// Pays for the attempt that is waited for or under way.
    token: Token,
}

/// Where another attempt could go.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// To a usable endpoint that was not tried.
    untried: bool,
    /// Nowhere where the key is known, and nowhere else may it go.
    out_of_scope: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) how: How,
    pub(crate) verdict: Verdict,
    pub(crate) credit: Credit,
    pub(crate) replayable: Replayable,
}

/// With what an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Answer(StatusCode, Outcome),
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
            number: 0,
            joined,
            started: now,
            too_early: false,
            previous_delay: None,
            backoff_since: 0,
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
        let limit = if self.may_repeat() {
            policy.settings().replay_limit
        } else {
            0
        };
        (self.max_attempts > 1).then_some(limit)
    }

    fn may_repeat(&self) -> bool {
        self.repeatable || self.key().is_some()
    }

    /// Begins the next attempt; its token is spent when it ends, or is dropped after it was sent.
    pub(crate) fn begin(
        &mut self,
        policy: &RetryPolicy,
        replayable: Replayable,
        now: Instant,
    ) -> Attempt {
        let before = Before {
            attempts: self.number,
            max_attempts: self.max_attempts,
            may_repeat: self.may_repeat(),
            replayable,
        };
        let limit = policy.attempt_limit(before, self.call().length(), now);
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
        credit: Credit,
        now: impl FnOnce() -> Instant,
    ) {
        policy.count(credit);
        self.call().settle(verdict.disposition);
        if self.call().length().is_some() {
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
        mem::take(&mut self.token).spend();
        let left = self.note(ending, now);
        // First of all: a failure counts before its own retry is decided on.
        policy.count(ending.credit);
        if is_good(&ending.verdict) {
            policy.succeeded(now.saturating_duration_since(self.started));
            return Next::Final;
        }
        let situation = self.situation(ending, left);
        match policy.decide(&situation, &ending.verdict, now, unit) {
            Decision::Stop(stop) => {
                self.call().stopped(stop);
                Next::Final
            }
            Decision::Retry { delay, token } => {
                self.call().backing_off(delay);
                self.token = token;
                self.too_early |= ending.verdict.retryable == Retryable::OnceIfIdempotent;
                if let Pushback::Exactly(_) = ending.verdict.pushback {
                    (self.backoff_since, self.previous_delay) = (self.number, None);
                } else if !delay.is_zero() {
                    self.previous_delay = Some(delay);
                }
                if delay.is_zero() {
                    return Next::Again;
                }
                Next::AgainAfter(delay)
            }
        }
    }

    pub(crate) fn report(&self, now: Instant) -> Report {
        self.call().report(now)
    }

    /// Adds the attempt to the report, and sees where another one could go.
    fn note(&self, ending: &Ending, now: Instant) -> Left {
        let endpoint = self.call().take_endpoint();
        self.call().ended(AttemptReport {
            number: self.number,
            endpoint: endpoint.as_ref().map(|facts| Arc::clone(&facts.name)),
            ran: now.saturating_duration_since(self.started),
            outcome: match ending.how {
                How::Answer(_, outcome) | How::Error(_, outcome) => outcome,
            },
            disposition: ending.verdict.disposition,
            backoff: None,
        });
        self.left(ending, endpoint.as_ref())
    }

    /// After an attempt that may have been acted on, or was told that its key is running, a call that its key alone
    /// makes repeatable stays where the key is known.
    fn left(&self, ending: &Ending, endpoint: Option<&EndpointFacts>) -> Left {
        let reach = endpoint.and_then(|facts| facts.reach.as_ref());
        let known_there = ending.verdict.disposition == Disposition::Unknown
            || ending.verdict.retryable == Retryable::IfKeyRunning;
        if known_there
            && !self.repeatable
            && self.key().is_some()
            && let Some(reach) = reach
        {
            self.call().confine(reach.place.clone());
        }
        match (self.call().confinement(), reach) {
            (None, _) => Left {
                untried: endpoint.is_some_and(|facts| facts.untried > 0),
                out_of_scope: false,
            },
            (Some(_), Some(reach)) => Left {
                untried: reach.untried,
                out_of_scope: !reach.inhabited,
            },
            // Not one was picked: the set changed during the wait.
            (Some(_), None) => Left {
                untried: false,
                out_of_scope: matches!(ending.how, How::Error(ErrorKind::NoEndpoints, _)),
            },
        }
    }

    fn situation(&self, ending: &Ending, left: Left) -> Situation {
        let (status, error) = match ending.how {
            How::Answer(status, _) => (Some(status), None),
            How::Error(kind, _) => (None, Some(kind)),
        };
        Situation {
            attempts: self.number,
            max_attempts: self.max_attempts,
            repeatable: self.repeatable,
            key: self.key(),
            replayable: ending.replayable,
            status,
            error,
            unanswered: self.call().disposition().may_have_happened(),
            too_early: self.too_early,
            untried: left.untried,
            out_of_scope: left.out_of_scope,
            previous_delay: self.previous_delay,
            backoff_since: self.backoff_since,
            deadline: self.call().deadline(),
        }
    }

    /// The key that the destination de-duplicates by, whichever layer or caller brought it.
    fn key(&self) -> Option<Key> {
        if !self.call().key_decided() {
            return self.brought_key.then(|| self.callers_key());
        }
        let key = self.call().key()?;
        Some(Key {
            from_caller: key.from_caller,
            expires: key.expires,
        })
    }

    /// A key that no key layer saw: it lives as long as the caller says, else for ever.
    fn callers_key(&self) -> Key {
        let stated = self.call().policy().key_lifetime_given();
        Key {
            from_caller: true,
            expires: stated.map_or(Deadline::NEVER, |lifetime| {
                Deadline::after(self.call().started(), lifetime)
            }),
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if self.call().running_disposition().may_have_happened() {
            mem::take(&mut self.token).spend();
        }
    }
}

/// Nothing failed, and nothing asks to come again.
fn is_good(verdict: &Verdict) -> bool {
    verdict.class.is_success() && verdict.retryable == Retryable::Never
}
