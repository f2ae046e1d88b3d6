use std::time::{Duration, Instant};

use http::StatusCode;

use super::checked::RetryPolicy;
use crate::{
    call::{Deadline, Stop},
    classify::{Class, Pushback, Retryable, Verdict},
    error::ErrorKind,
    stats::budget::Token,
};

/// A server's pause is stretched by up to a quarter of itself, and by no more than this.
const MAX_PUSHBACK_JITTER: Duration = Duration::from_secs(1);

/// What is known when an attempt has ended.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// Attempts made so far.
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    /// A repetition does no harm: by its method, or since the caller says so.
    pub(crate) repeatable: bool,
    /// The key that the destination de-duplicates by.
    pub(crate) key: Option<Key>,
    pub(crate) replayable: Replayable,
    /// The response that ended it, if one did.
    pub(crate) status: Option<StatusCode>,
    /// The error that ended it, if one did.
    pub(crate) error: Option<ErrorKind>,
    /// An attempt of this call went unanswered.
    pub(crate) unanswered: bool,
    /// An earlier attempt was answered 425.
    pub(crate) too_early: bool,
    /// There is a usable endpoint that this call has not tried, where it may go.
    pub(crate) untried: bool,
    /// The call has to stay where its key is known, and no endpoint is left there.
    pub(crate) out_of_scope: bool,
    /// The attempt since which the backoff counts.
    pub(crate) backoff_since: u32,
    /// The wait before this attempt.
    pub(crate) previous_delay: Option<Duration>,
    pub(crate) deadline: Deadline,
}

/// What is known when an attempt is about to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// Attempts made before it.
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    /// A repetition does no harm, be it by its key.
    pub(crate) may_repeat: bool,
    pub(crate) replayable: Replayable,
}

/// What is known of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// It may be running from an earlier call.
    pub(crate) from_caller: bool,
    /// After this the destination may have forgotten it.
    pub(crate) expires: Deadline,
}

/// Whether the request can be sent again as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayable {
    Yes,
    No(Stop),
}

/// What follows an attempt.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Wait, then send it again; the token goes back if that never happens.
    Retry { delay: Duration, token: Token },
    /// This outcome is the call's outcome.
    Stop(Stop),
}

impl Situation {
    fn may_repeat(&self) -> bool {
        self.repeatable || self.key.is_some()
    }

    /// Why an outcome that is never retried is final.
    fn final_reason(&self) -> Stop {
        match self.error {
            Some(ErrorKind::CircuitOpen { .. }) => Stop::CircuitOpen,
            Some(ErrorKind::DeadlineExceeded) => Stop::DeadlineInfeasible,
            Some(ErrorKind::NoEndpoints) if self.out_of_scope => Stop::OutOfKeyScope,
            _ => Stop::NotRetryable,
        }
    }
}

impl RetryPolicy {
    /// Decides what follows an attempt that ended with this verdict; `unit` is a random number in [0, 1).
    ///
    /// The budget is asked last: a retry that something else forbids withdraws nothing.
    pub(crate) fn decide(
        &self,
        situation: &Situation,
        verdict: &Verdict,
        now: Instant,
        unit: f64,
    ) -> Decision {
        match self.allowed(situation, verdict).and_then(|()| {
            let delay = self.delay(situation, verdict, now, unit)?;
            known_after(delay, situation, now)?;
            let token = Token::take(self.budget(), now).ok_or(Stop::BudgetEmpty)?;
            Ok(Decision::Retry { delay, token })
        }) {
            Ok(retry) => retry,
            Err(stop) => Decision::Stop(stop),
        }
    }

    /// Half the call's total where another attempt may follow and could be paid for, else none: a service that
    /// is merely slower than usual must not be cut off for nothing.
    pub(crate) fn attempt_limit(
        &self,
        before: Before,
        total: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let total = total?;
        let another = before.attempts.saturating_add(1) < before.max_attempts
            && before.may_repeat
            && before.replayable == Replayable::Yes
            && self
                .budget()
                .is_none_or(|budget| budget.allows_another(now));
        another.then_some(total / 2).filter(|half| !half.is_zero())
    }

    fn allowed(&self, situation: &Situation, verdict: &Verdict) -> Result<(), Stop> {
        if verdict.retryable == Retryable::Never {
            return Err(situation.final_reason());
        }
        if verdict.pushback == Pushback::Stop {
            return Err(Stop::ServerForbids);
        }
        if situation.attempts >= situation.max_attempts {
            let max_attempts = situation.max_attempts;
            return Err(Stop::AttemptsExhausted { max_attempts });
        }
        self.harmless(situation, verdict)?;
        if situation.out_of_scope {
            return Err(Stop::OutOfKeyScope);
        }
        if let Replayable::No(stop) = situation.replayable {
            return Err(stop);
        }
        Ok(())
    }

    fn harmless(&self, situation: &Situation, verdict: &Verdict) -> Result<(), Stop> {
        let unsafe_call = !situation.may_repeat();
        match verdict.retryable {
            Retryable::Never => Err(situation.final_reason()),
            Retryable::Always => Ok(()),
            Retryable::IfIdempotent if self.unprocessed(situation, verdict) => Ok(()),
            Retryable::IfIdempotent | Retryable::OnceIfIdempotent if unsafe_call => {
                Err(Stop::NotIdempotent)
            }
            Retryable::IfIdempotent => Ok(()),
            Retryable::OnceIfIdempotent if situation.too_early => Err(Stop::NotRetryable),
            Retryable::OnceIfIdempotent => Ok(()),
            Retryable::IfKeyRunning => may_be_running(situation, verdict),
        }
    }

    /// The destination's word that what it throttled it had not processed.
    fn unprocessed(&self, situation: &Situation, verdict: &Verdict) -> bool {
        let throttled = verdict.class == Class::Throttled
            || (situation.status == Some(StatusCode::SERVICE_UNAVAILABLE)
                && verdict.pushback != Pushback::None);
        self.settings().throttled_means_unprocessed && throttled
    }

    fn delay(
        &self,
        situation: &Situation,
        verdict: &Verdict,
        now: Instant,
        unit: f64,
    ) -> Result<Duration, Stop> {
        let remaining = situation.deadline.remaining(now);
        let fits = |delay: Duration| match remaining {
            None => true,
            Some(remaining) => match self.median() {
                Some(median) => remaining > delay && remaining >= delay.saturating_add(median),
                None => remaining > delay,
            },
        };
        match verdict.pushback {
            Pushback::After(asked) if !asked.is_zero() => {
                let delay = asked.saturating_add(pushback_jitter(asked, unit));
                let allowed = asked <= self.settings().max_pushback && fits(delay);
                allowed
                    .then_some(delay)
                    .ok_or(Stop::PushbackTooLong { asked })
            }
            Pushback::Exactly(asked) => {
                let allowed = asked <= self.settings().max_pushback && fits(asked);
                allowed
                    .then_some(asked)
                    .ok_or(Stop::PushbackTooLong { asked })
            }
            _ => {
                let delay = self.own_delay(situation, verdict, unit);
                fits(delay).then_some(delay).ok_or(Stop::DeadlineInfeasible)
            }
        }
    }

    /// Backoff; left out before attempt 2 where the fault is one endpoint's and another is there.
    fn own_delay(&self, situation: &Situation, verdict: &Verdict, unit: f64) -> Duration {
        let elsewhere = verdict.endpoint_fault && situation.untried;
        if situation.attempts == 1 && elsewhere && verdict.class != Class::Throttled {
            return Duration::ZERO;
        }
        let backoff = &self.settings().backoff;
        let step = situation.attempts.saturating_sub(situation.backoff_since);
        backoff.delay(step, situation.previous_delay, unit)
    }
}

/// A 409 says that this key is running only if it can be.
fn may_be_running(situation: &Situation, verdict: &Verdict) -> Result<(), Stop> {
    let Some(key) = situation.key else {
        return Err(Stop::NotRetryable);
    };
    let running = situation.unanswered || key.from_caller || verdict.pushback != Pushback::None;
    running.then_some(()).ok_or(Stop::NotRetryable)
}

/// After this wait the destination has to know the key still, if it is the key that makes repeating harmless.
fn known_after(delay: Duration, situation: &Situation, now: Instant) -> Result<(), Stop> {
    let left = situation.key.and_then(|key| key.expires.remaining(now));
    match left {
        Some(left) if !situation.repeatable && left <= delay => Err(Stop::KeyExpired),
        _ => Ok(()),
    }
}

/// From zero to a quarter of what was asked for, at most a second: callers that were told the same come apart.
fn pushback_jitter(asked: Duration, unit: f64) -> Duration {
    (asked / 4)
        .min(MAX_PUSHBACK_JITTER)
        .mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::Evidence,
        retry::config::{Backoff, Jitter, Retry},
        stats::budget::Budget,
    };

    const KEY: Key = Key {
        from_caller: false,
        expires: Deadline::NEVER,
    };
    const RUNNING: Verdict = Verdict::SUCCESS.retryable(Retryable::IfKeyRunning);
    const TOO_EARLY: Verdict = Verdict::SUCCESS.retryable(Retryable::OnceIfIdempotent);
    const THROTTLED: Verdict = Verdict::FAILURE.class(Class::Throttled);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn plain() -> Retry {
        let backoff = Backoff::default().initial(ms(100)).max(ms(800));
        Retry::default()
            .backoff(backoff.jitter(Jitter::None))
            .without_budget()
    }

    fn policy() -> RetryPolicy {
        plain().build().expect("valid")
    }

    fn before(attempts: u32) -> Before {
        Before {
            attempts,
            max_attempts: 3,
            may_repeat: true,
            replayable: Replayable::Yes,
        }
    }

    fn first() -> Situation {
        Situation {
            attempts: 1,
            max_attempts: 3,
            repeatable: true,
            key: None,
            replayable: Replayable::Yes,
            status: None,
            error: None,
            unanswered: false,
            too_early: false,
            untried: false,
            out_of_scope: false,
            previous_delay: None,
            backoff_since: 0,
            deadline: Deadline::NEVER,
        }
    }

    fn post(key: Option<Key>) -> Situation {
        Situation {
            repeatable: false,
            key,
            ..first()
        }
    }

    fn answer(
        policy: &RetryPolicy,
        situation: &Situation,
        verdict: Verdict,
        now: Instant,
    ) -> Result<Duration, Stop> {
        match policy.decide(situation, &verdict, now, 0.5) {
            Decision::Retry { delay, token } => {
                token.spend();
                Ok(delay)
            }
            Decision::Stop(stop) => Err(stop),
        }
    }

    fn decided(situation: &Situation, verdict: Verdict) -> Result<Duration, Stop> {
        answer(&policy(), situation, verdict, Instant::now())
    }

    #[test]
    fn a_passing_fault_of_a_repeatable_call_is_retried_with_backoff() {
        for (attempts, delay) in [(1, ms(100)), (2, ms(200))] {
            let situation = Situation {
                attempts,
                ..first()
            };
            assert_eq!(decided(&situation, Verdict::FAILURE), Ok(delay));
        }
    }

    #[test]
    fn what_a_repetition_does_not_change_is_final() {
        for verdict in [
            Verdict::SUCCESS,
            Evidence::Untrusted.verdict(),
            Evidence::Unsendable.verdict(),
        ] {
            assert_eq!(decided(&first(), verdict), Err(Stop::NotRetryable));
        }
    }

    #[test]
    fn rejections_of_our_own_layers_say_why_they_are_final() {
        let local = Evidence::Unsendable.verdict();
        for (kind, stop) in [
            (ErrorKind::CircuitOpen { retry_in: None }, Stop::CircuitOpen),
            (ErrorKind::DeadlineExceeded, Stop::DeadlineInfeasible),
            (ErrorKind::InvalidCall, Stop::NotRetryable),
        ] {
            let situation = Situation {
                error: Some(kind),
                ..first()
            };
            assert_eq!(decided(&situation, local), Err(stop));
        }
    }

    #[test]
    fn the_attempt_limit_counts_the_first_attempt_and_every_kind_of_retry() {
        let last = Situation {
            attempts: 3,
            ..first()
        };
        let exhausted = Err(Stop::AttemptsExhausted { max_attempts: 3 });
        for verdict in [
            Verdict::FAILURE,
            Evidence::Refused.verdict(),
            Evidence::NotSent.verdict(),
        ] {
            assert_eq!(decided(&last, verdict), exhausted);
        }
    }

    // RTY-01, KittyCAD/kittycad.rs#1042; RTY-02, oven-sh/bun#28708
    #[test]
    fn an_unsafe_call_is_retried_only_if_it_cannot_have_happened_or_is_keyed() {
        let unsafe_call = post(None);
        for verdict in [
            Verdict::FAILURE,
            THROTTLED,
            TOO_EARLY,
            Evidence::Unknown.verdict(),
        ] {
            assert_eq!(decided(&unsafe_call, verdict), Err(Stop::NotIdempotent));
        }
        for verdict in [Evidence::NotSent.verdict(), Evidence::Refused.verdict()] {
            assert!(decided(&unsafe_call, verdict).is_ok());
        }
        let keyed = post(Some(KEY));
        assert!(decided(&keyed, Verdict::FAILURE).is_ok());
        assert!(decided(&keyed, Evidence::Unknown.verdict()).is_ok());
    }

    #[test]
    fn throttling_lets_an_unsafe_call_through_only_where_the_destination_declares_it() {
        let policy = plain()
            .throttled_means_unprocessed(true)
            .build()
            .expect("valid");
        let pushback = Verdict::FAILURE.pushback(Pushback::After(ms(10)));
        let post = |status: u16| Situation {
            status: StatusCode::from_u16(status).ok(),
            ..post(None)
        };
        let now = Instant::now();
        assert!(answer(&policy, &post(429), THROTTLED, now).is_ok());
        assert!(answer(&policy, &post(503), pushback, now).is_ok());
        let refused = Err(Stop::NotIdempotent);
        assert_eq!(
            answer(&policy, &post(503), Verdict::FAILURE, now),
            refused,
            "503 without Retry-After"
        );
        assert_eq!(answer(&policy, &post(502), pushback, now), refused);
        assert_eq!(answer(&self::policy(), &post(429), THROTTLED, now), refused);
    }

    #[test]
    fn too_early_is_retried_once() {
        assert!(decided(&first(), TOO_EARLY).is_ok());
        let again = Situation {
            attempts: 2,
            too_early: true,
            ..first()
        };
        assert_eq!(decided(&again, TOO_EARLY), Err(Stop::NotRetryable));
        assert!(decided(&again, Verdict::FAILURE).is_ok());
    }

    #[test]
    fn a_conflict_is_retried_only_when_this_key_may_be_running() {
        let with = |key, unanswered| Situation {
            unanswered,
            ..post(key)
        };
        let callers = Key {
            from_caller: true,
            ..KEY
        };
        let never = Err(Stop::NotRetryable);
        assert_eq!(decided(&with(Some(KEY), false), RUNNING), never);
        assert!(decided(&with(Some(KEY), true), RUNNING).is_ok());
        assert!(decided(&with(Some(callers), false), RUNNING).is_ok());
        let told = RUNNING.pushback(Pushback::After(Duration::ZERO));
        assert!(decided(&with(Some(KEY), false), told).is_ok());
        assert_eq!(decided(&with(None, true), told), never);
        let put = Situation {
            repeatable: true,
            ..with(None, true)
        };
        assert_eq!(decided(&put, told), never, "no key, nothing that runs");
    }

    #[test]
    fn a_key_is_not_used_beyond_its_lifetime() {
        let now = Instant::now();
        let keyed = |expires| post(Some(Key { expires, ..KEY }));
        let policy = policy();
        let over = keyed(Deadline::at(now));
        assert_eq!(
            answer(&policy, &over, Verdict::FAILURE, now),
            Err(Stop::KeyExpired)
        );
        let soon = keyed(Deadline::after(now, ms(1)));
        assert_eq!(
            answer(&policy, &soon, Verdict::FAILURE, now),
            Err(Stop::KeyExpired),
            "it would expire during the wait"
        );
        let put = Situation {
            repeatable: true,
            ..over
        };
        assert!(
            answer(&policy, &put, Verdict::FAILURE, now).is_ok(),
            "its method suffices"
        );
        let later = keyed(Deadline::after(now, ms(101)));
        assert!(answer(&policy, &later, Verdict::FAILURE, now).is_ok());
    }

    #[test]
    fn a_call_that_would_leave_its_keys_scope_stops_before_it_waits_or_pays() {
        let budget = Budget::new(1.0, 0.0, 5).expect("valid").starting_with(5);
        let policy = policy().with_budget(budget.clone());
        let now = Instant::now();
        let stopped = |situation: &Situation, verdict| answer(&policy, situation, verdict, now);
        let gone = Situation {
            out_of_scope: true,
            ..post(Some(KEY))
        };
        for verdict in [
            Verdict::FAILURE,
            Evidence::Unknown.verdict(),
            Evidence::NotSent.verdict(),
        ] {
            assert_eq!(stopped(&gone, verdict), Err(Stop::OutOfKeyScope));
        }
        let refused = Situation {
            error: Some(ErrorKind::NoEndpoints),
            ..gone.clone()
        };
        let local = Evidence::Unsendable.verdict();
        assert_eq!(stopped(&refused, local), Err(Stop::OutOfKeyScope));
        assert_eq!(
            stopped(&gone, Verdict::SUCCESS),
            Err(Stop::NotRetryable),
            "its answer was final anyhow"
        );
        assert!((budget.balance(now) - 5.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_body_that_is_gone_stops_with_its_reason() {
        for stop in [Stop::BodyNotReplayable, Stop::EarlyAnswer] {
            let situation = Situation {
                replayable: Replayable::No(stop),
                ..first()
            };
            assert_eq!(decided(&situation, Evidence::NotSent.verdict()), Err(stop));
        }
    }

    #[test]
    fn pushback_replaces_backoff_with_up_to_a_quarter_more() {
        let asked = |asked| Verdict::FAILURE.pushback(Pushback::After(asked));
        assert_eq!(decided(&first(), asked(ms(80))), Ok(ms(90)));
        assert_eq!(decided(&first(), asked(ms(20_000))), Ok(ms(20_500)));
        assert_eq!(decided(&first(), asked(ms(30_000))), Ok(ms(30_500)));
        let there_is_another = Situation {
            untried: true,
            ..first()
        };
        assert_eq!(decided(&there_is_another, asked(ms(80))), Ok(ms(90)));
    }

    // BKO-07, openai/openai-java#853
    #[test]
    fn a_pushback_of_zero_leaves_the_backoff() {
        let zero = Verdict::FAILURE.pushback(Pushback::After(Duration::ZERO));
        assert_eq!(decided(&first(), zero), Ok(ms(100)));
    }

    // BKO-08, urllib3/urllib3#3743, #5220
    #[test]
    fn a_pushback_above_the_cap_or_the_deadline_ends_the_call_at_once() {
        let now = Instant::now();
        let limited = Situation {
            deadline: Deadline::after(now, ms(2_000)),
            ..first()
        };
        for (situation, asked) in [
            (&first(), ms(30_001)),
            (&first(), Duration::MAX),
            (&limited, ms(2_000)),
            (&limited, ms(3_600_000)),
        ] {
            let verdict = Verdict::FAILURE.pushback(Pushback::After(asked));
            let stopped = answer(&policy(), situation, verdict, now);
            assert_eq!(stopped, Err(Stop::PushbackTooLong { asked }));
        }
        let stop = Verdict::FAILURE.pushback(Pushback::Stop);
        assert_eq!(decided(&first(), stop), Err(Stop::ServerForbids));
    }

    // BKO-11, grpc/proposal#12, thomhurst/Kevlar#465
    #[test]
    fn an_exact_pushback_is_waited_to_the_millisecond_wherever_the_next_attempt_goes() {
        let exactly = |millis| Verdict::FAILURE.pushback(Pushback::Exactly(ms(millis)));
        let elsewhere = Situation {
            untried: true,
            ..first()
        };
        for situation in [first(), elsewhere] {
            for millis in [0, 1, 250, 30_000] {
                assert_eq!(decided(&situation, exactly(millis)), Ok(ms(millis)));
            }
            let asked = ms(30_001);
            assert_eq!(
                decided(&situation, exactly(30_001)),
                Err(Stop::PushbackTooLong { asked })
            );
        }
    }

    #[test]
    fn an_exact_pushback_stays_within_attempts_deadline_budget_and_harmlessness() {
        let now = Instant::now();
        let verdict = Verdict::FAILURE.pushback(Pushback::Exactly(ms(250)));
        let last = Situation {
            attempts: 3,
            ..first()
        };
        let max_attempts = 3;
        assert_eq!(
            decided(&last, verdict),
            Err(Stop::AttemptsExhausted { max_attempts })
        );
        assert_eq!(decided(&post(None), verdict), Err(Stop::NotIdempotent));
        let asked = ms(250);
        let hurried = Situation {
            deadline: Deadline::after(now, asked),
            ..first()
        };
        assert_eq!(
            answer(&policy(), &hurried, verdict, now),
            Err(Stop::PushbackTooLong { asked })
        );
        let poor = policy().with_budget(Budget::new(1.0, 0.0, 5).expect("valid"));
        assert_eq!(
            answer(&poor, &first(), verdict, now),
            Err(Stop::BudgetEmpty)
        );
    }

    #[test]
    fn after_an_exact_pushback_the_backoff_starts_anew() {
        let pushed_back_once = Situation {
            attempts: 2,
            backoff_since: 1,
            ..first()
        };
        assert_eq!(decided(&pushed_back_once, Verdict::FAILURE), Ok(ms(100)));
    }

    #[test]
    fn throttling_by_failures_takes_nothing_for_a_retry() {
        let now = Instant::now();
        let budget = Budget::grpc_throttling(4, 0.5).expect("valid");
        let policy = policy().with_budget(budget.clone());
        for _ in 0..9 {
            assert!(answer(&policy, &first(), Verdict::FAILURE, now).is_ok());
        }
        budget.failed();
        assert!(answer(&policy, &first(), Verdict::FAILURE, now).is_ok());
        assert_eq!(
            policy.attempt_limit(before(0), Some(ms(1_000)), now),
            None,
            "its failure would throttle its own retry"
        );
        budget.failed();
        assert_eq!(
            answer(&policy, &first(), Verdict::FAILURE, now),
            Err(Stop::BudgetEmpty)
        );
        budget.succeeded();
        assert!(answer(&policy, &first(), Verdict::FAILURE, now).is_ok());
    }

    #[test]
    fn only_the_first_retry_is_at_once_and_only_elsewhere() {
        let there = Situation {
            untried: true,
            ..first()
        };
        for verdict in [
            Verdict::FAILURE,
            Evidence::NotSent.verdict(),
            Evidence::Unknown.verdict(),
        ] {
            assert_eq!(decided(&there, verdict), Ok(Duration::ZERO));
            assert_eq!(decided(&first(), verdict), Ok(ms(100)));
        }
        let second = Situation {
            attempts: 2,
            ..there.clone()
        };
        assert_eq!(
            decided(&second, Verdict::FAILURE),
            Ok(ms(200)),
            "exponents are not shifted"
        );
        assert_eq!(decided(&there, THROTTLED), Ok(ms(100)));
        assert_eq!(decided(&there, TOO_EARLY), Ok(ms(100)));
    }

    // TMO-03, softonic/axios-retry#21; TMO-04, hashicorp/go-retryablehttp#272
    #[test]
    fn nothing_starts_that_cannot_end_before_the_deadline() {
        let now = Instant::now();
        let policy = policy();
        let left = |millis| Situation {
            deadline: Deadline::after(now, ms(millis)),
            ..first()
        };
        let infeasible = Err(Stop::DeadlineInfeasible);
        for millis in [0, 1, 99, 100] {
            assert_eq!(
                answer(&policy, &left(millis), Verdict::FAILURE, now),
                infeasible
            );
        }
        assert!(answer(&policy, &left(101), Verdict::FAILURE, now).is_ok());
        (0..20).for_each(|_| policy.succeeded(ms(50)));
        assert_eq!(
            answer(&policy, &left(149), Verdict::FAILURE, now),
            infeasible
        );
        assert!(answer(&policy, &left(150), Verdict::FAILURE, now).is_ok());
    }

    #[test]
    fn an_empty_budget_stops_and_a_dropped_retry_pays_back() {
        let budget = Budget::new(1.0, 0.0, 5).expect("valid").starting_with(1);
        let policy = policy().with_budget(budget.clone());
        let now = Instant::now();
        let retry = policy.decide(&first(), &Verdict::FAILURE, now, 0.5);
        assert!(!budget.has_token(now));
        assert_eq!(
            answer(&policy, &first(), Verdict::FAILURE, now),
            Err(Stop::BudgetEmpty)
        );
        drop(retry);
        assert!(answer(&policy, &first(), Verdict::FAILURE, now).is_ok());
        assert!(!budget.has_token(now), "a retry that was sent is paid for");
    }

    #[test]
    fn a_retry_that_something_else_forbids_costs_nothing() {
        let budget = Budget::new(1.0, 0.0, 5).expect("valid").starting_with(5);
        let policy = policy().with_budget(budget.clone());
        let now = Instant::now();
        let exhausted = Situation {
            attempts: 3,
            ..first()
        };
        let late = Situation {
            deadline: Deadline::at(now),
            ..first()
        };
        for situation in [exhausted, late] {
            assert!(answer(&policy, &situation, Verdict::FAILURE, now).is_err());
        }
        assert!((budget.balance(now) - 5.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_default_attempt_limit_is_half_the_total_where_another_attempt_can_follow() {
        let start = Instant::now();
        let budget = Budget::new(1.0, 0.0, 5).expect("valid").starting_with(1);
        let policy = policy().with_budget(budget.clone());
        let limit = |before| policy.attempt_limit(before, Some(ms(3_000)), start);
        assert_eq!(limit(before(0)), Some(ms(1_500)));
        assert_eq!(limit(before(1)), Some(ms(1_500)));
        assert_eq!(limit(before(2)), None, "the last attempt");
        let unsafe_call = Before {
            may_repeat: false,
            ..before(0)
        };
        let gone = Before {
            replayable: Replayable::No(Stop::BodyNotReplayable),
            ..before(0)
        };
        for before in [unsafe_call, gone] {
            assert_eq!(limit(before), None);
        }
        assert_eq!(policy.attempt_limit(before(0), None, start), None);
        assert!(budget.withdraw(start));
        assert_eq!(limit(before(0)), None, "no token for another");
    }
}
