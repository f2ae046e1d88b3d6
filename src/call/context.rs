use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};

use super::{
    deadline::Deadline,
    disposition::Disposition,
    endpoint::EndpointFacts,
    key::{CallKey, Confinement, KeyScope},
    picks::Picks,
    policy::CallPolicy,
    report::{AttemptReport, Outcome, Report, Stop},
    span::{Span, nanos},
    story::Story,
    wire::gave_up,
};

/// One logical call: what layers tell one another about it, downwards and back up.
///
/// It outlives the futures of the call, so that a deadline that drops them all can still report. A
/// success costs its allocation and a few plain stores; the lock is taken on failures only.
#[derive(Debug)]
pub struct Call {
    policy: CallPolicy,
    started: Instant,
    inherits: bool,
    live: AtomicBool,
    committed: AtomicBool,
    retried: AtomicBool,
    stalled: AtomicBool,
    deadline: Span,
    lasting: Span,
    slow_time: Span,
    key: OnceLock<Option<CallKey>>,
    // Boxed, as the story is: a call that succeeds at once carries no room for it.
    confinement: OnceLock<Box<Confinement>>,
    attempt: AtomicU32,
    attempt_started: AtomicU64,
    stage: AtomicU8,
    worst: AtomicU8,
    picks: Picks,
    story: Story,
}

/// Where the present attempt stands.
const IDLE: u8 = 0;
const HOLDING: u8 = 1;
const HANDED_ON: u8 = 2;

impl Call {
    pub(crate) fn new(policy: CallPolicy, started: Instant) -> Self {
        Self::within(policy, started, Deadline::NEVER)
    }

    /// A call that ends by the deadline of its policy, and by that of the incoming call that it serves.
    // Inlined, so that it is built where it stays.
    #[inline(always)]
    pub(crate) fn within(policy: CallPolicy, started: Instant, inherited: Deadline) -> Self {
        let deadline = Span::of(inherited.remaining(started));
        if let Some(given) = policy.deadline_given() {
            deadline.shorten(given);
        }
        Self {
            policy,
            started,
            inherits: inherited != Deadline::NEVER,
            live: AtomicBool::new(true),
            committed: AtomicBool::new(false),
            retried: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            lasting: deadline.clone(),
            deadline,
            slow_time: Span::default(),
            key: OnceLock::new(),
            confinement: OnceLock::new(),
            attempt: AtomicU32::new(0),
            attempt_started: AtomicU64::new(0),
            stage: AtomicU8::new(IDLE),
            worst: AtomicU8::new(Disposition::NotSent as u8),
            picks: Picks::default(),
            story: Story::default(),
        }
    }

    /// What the caller asked for this call.
    pub fn policy(&self) -> &CallPolicy {
        &self.policy
    }

    /// When the outermost layer saw it.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it has to be over.
    pub fn deadline(&self) -> Deadline {
        self.deadline.from(self.started)
    }

    /// How long it may take in all, from its start.
    pub(crate) fn length(&self) -> Option<Duration> {
        self.deadline.get()
    }

    pub(crate) fn set_deadline(&self, deadline: Deadline) {
        let length = deadline.remaining(self.started);
        self.deadline.set(length);
        self.lasting.set(length);
    }

    /// The call takes no longer than this, and from its commit point on no longer than the lasting length.
    pub(crate) fn shorten(&self, length: Duration, lasting: Duration) {
        self.deadline.shorten(length);
        self.lasting.shorten(lasting);
    }

    /// Whether no time is left at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_over(self.elapsed(now))
    }

    /// How long it has run; mostly asked with the very instant of its start, which takes no subtraction.
    fn elapsed(&self, now: Instant) -> Duration {
        if now == self.started {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.started)
    }

    /// The deadline that holds for a response that streams.
    pub(crate) fn lasting_deadline(&self) -> Deadline {
        self.lasting.from(self.started)
    }

    /// The deadline that holds for the response body.
    pub(crate) fn body_deadline(&self) -> Deadline {
        self.body_length().from(self.started)
    }

    /// The same from the start of the call.
    pub(crate) fn body_length(&self) -> &Span {
        let lengths = [&self.deadline, &self.lasting];
        lengths[usize::from(self.is_committed())]
    }

    /// The response is the caller's: what was meant for getting there is over.
    pub(crate) fn commit(&self) {
        self.committed.store(true, Relaxed);
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.committed.load(Relaxed)
    }

    /// Whether it has less time than its client gives by itself, for reasons that are no server's.
    pub(crate) fn is_hurried(&self) -> bool {
        self.inherits || self.policy.deadline_given().is_some()
    }

    /// Whether trailers that come `now` say no more than that the time is up which its caller gave it: the server was
    /// told, and is a little early.
    pub(crate) fn is_echoed_by(&self, trailers: Option<&HeaderMap>, now: Instant) -> bool {
        let gave_up = |trailers| gave_up(StatusCode::OK, trailers);
        self.is_hurried() && self.deadline().is_due(now) && trailers.is_some_and(gave_up)
    }

    /// The response body was cut off in a silence that is the server's fault: its guards below see only that it
    /// is dropped.
    pub(crate) fn stall(&self) {
        self.stalled.store(true, Relaxed);
    }

    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// How long an attempt without a limit of its own has to run before its end counts as slow.
    pub(crate) fn slow_time(&self) -> Option<Duration> {
        self.slow_time.get()
    }

    pub(crate) fn set_slow_time(&self, slow_time: Duration) {
        self.slow_time.set(Some(slow_time));
    }

    /// The key that the destination de-duplicates by, if there is one.
    pub(crate) fn key(&self) -> Option<&CallKey> {
        self.key.get().and_then(Option::as_ref)
    }

    /// Whether somebody has decided about the key, be it against one.
    pub(crate) fn key_decided(&self) -> bool {
        self.key.get().is_some()
    }

    /// The key, decided by whoever asks first.
    pub(crate) fn decide_key(&self, decide: impl FnOnce() -> Option<CallKey>) -> Option<&CallKey> {
        self.key.get_or_init(decide).as_ref()
    }

    /// How far the call's key is known; that of a caller's own header too, which no layer decided about.
    pub(crate) fn key_scope(&self) -> KeyScope {
        self.key().map_or_else(KeyScope::default, |key| key.scope)
    }

    /// From now on every attempt stays there; the first word counts.
    pub(crate) fn confine(&self, place: Confinement) {
        self.confinement.get_or_init(|| Box::new(place));
    }

    /// Where attempts have to stay, if anybody said so.
    pub(crate) fn confinement(&self) -> Option<&Confinement> {
        self.confinement.get().map(|place| &**place)
    }

    /// Whether the layer that opened this call still works on it.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    pub(crate) fn close(&self) {
        self.live.store(false, Relaxed);
    }

    /// True for the first retry layer that asks: any other passes the call through.
    pub(crate) fn claim_retry(&self) -> bool {
        !self.retried.swap(true, Relaxed)
    }

    pub(crate) fn is_retried(&self) -> bool {
        self.retried.load(Relaxed)
    }

    /// The number of the present attempt; 0 before the first.
    pub(crate) fn attempt_number(&self) -> u32 {
        self.attempt.load(Relaxed)
    }

    pub(crate) fn begin_attempt(&self, number: u32, now: Instant) {
        self.attempt.store(number, Relaxed);
        self.attempt_started
            .store(nanos(self.elapsed(now)), Relaxed);
        self.stage.store(HOLDING, Relaxed);
    }

    /// The request waits in a layer of ours: it has not been sent.
    pub(crate) fn holding(&self) {
        self.stage.store(HOLDING, Relaxed);
    }

    /// The request is given to the service below: from here on it may happen.
    pub(crate) fn handed_on(&self) {
        self.stage.store(HANDED_ON, Relaxed);
    }

    /// Remembers an endpoint as tried.
    pub(crate) fn picked(&self, serial: u64) {
        self.picks.add(serial);
    }

    /// Serial numbers of the endpoints tried, in no order; the last eight.
    pub(crate) fn tried(&self) -> impl Iterator<Item = u64> + '_ {
        self.picks.iter()
    }

    /// Says which endpoint the present attempt went to.
    pub(crate) fn note_endpoint(&self, facts: EndpointFacts) {
        self.story.note_endpoint(facts);
    }

    /// The endpoint of the present attempt, if the balancer noted one.
    pub(crate) fn endpoint(&self) -> Option<EndpointFacts> {
        self.story.endpoint()
    }

    /// Takes the endpoint of the attempt that ended.
    pub(crate) fn take_endpoint(&self) -> Option<EndpointFacts> {
        self.story.take_endpoint()
    }

    /// Ends the present attempt with what is known of its effect.
    pub(crate) fn settle(&self, disposition: Disposition) {
        self.worst.fetch_max(disposition as u8, Relaxed);
        self.stage.store(IDLE, Relaxed);
    }

    /// Adds an attempt to the story and settles it.
    pub(crate) fn ended(&self, attempt: AttemptReport) {
        self.settle(attempt.disposition);
        self.story.add(attempt);
    }

    /// Says how long the call waits after the attempt that ended last.
    pub(crate) fn backing_off(&self, delay: Duration) {
        self.story.backing_off(delay);
    }

    /// Says why there is no further attempt.
    pub(crate) fn stopped(&self, stop: Stop) {
        self.story.stopped(stop);
    }

    /// What is known of the present attempt alone, while it runs.
    pub(crate) fn running_disposition(&self) -> Disposition {
        match self.stage.load(Relaxed) {
            HANDED_ON => Disposition::Unknown,
            _ => Disposition::NotSent,
        }
    }

    /// The worst that is known so far, the running attempt included.
    pub(crate) fn disposition(&self) -> Disposition {
        let worst = Disposition::from_index(self.worst.load(Relaxed));
        self.running_disposition().max(worst)
    }

    /// The story so far; an attempt that still runs is told as unfinished.
    pub(crate) fn report(&self, now: Instant) -> Report {
        let disposition = self.disposition();
        let mut told = self.story.so_far();
        if self.stage.load(Relaxed) != IDLE {
            let unfinished = self.unfinished(told.endpoint, now);
            told.attempts.push(unfinished);
        }
        Report::new(told.attempts, told.stop, self.elapsed(now), disposition)
    }

    fn unfinished(&self, endpoint: Option<EndpointFacts>, now: Instant) -> AttemptReport {
        let started = Duration::from_nanos(self.attempt_started.load(Relaxed));
        let (outcome, disposition) = match self.stage.load(Relaxed) {
            HANDED_ON => (Outcome::Unanswered, Disposition::Unknown),
            _ => (Outcome::Held, Disposition::NotSent),
        };
        AttemptReport {
            number: self.attempt.load(Relaxed).max(1),
            endpoint: endpoint.map(|facts| facts.name),
            ran: self.elapsed(now).saturating_sub(started),
            outcome,
            disposition,
            backoff: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(now: Instant) -> Call {
        Call::new(CallPolicy::new(), now)
    }

    #[test]
    fn a_call_without_deadline_never_ends() {
        let now = Instant::now();
        let call = call(now);
        assert_eq!(call.deadline(), Deadline::NEVER);
        let deadline = Deadline::after(now, Duration::from_millis(1500));
        call.set_deadline(deadline);
        assert_eq!(call.deadline(), deadline);
    }

    #[test]
    fn a_length_only_shortens_a_call_and_an_endless_one_does_nothing() {
        let now = Instant::now();
        let call = call(now);
        let seconds = Duration::from_secs;
        for (length, lasting, left) in [
            (Duration::MAX, seconds(u64::MAX / 10), (None, None)),
            (seconds(3), Duration::MAX, (Some(3), None)),
            (seconds(9), seconds(5), (Some(3), Some(5))),
            (seconds(2), seconds(7), (Some(2), Some(5))),
        ] {
            call.shorten(length, lasting);
            let in_seconds = |left: Option<u64>| {
                left.map_or(Deadline::NEVER, |left| Deadline::after(now, seconds(left)))
            };
            assert_eq!(call.deadline(), in_seconds(left.0));
            assert_eq!(call.lasting_deadline(), in_seconds(left.1));
        }
        assert!(!call.is_over(now + seconds(1)));
        assert!(call.is_over(now + seconds(2)));
    }

    #[test]
    fn what_was_handed_on_and_not_settled_may_have_happened() {
        let now = Instant::now();
        let call = call(now);
        call.begin_attempt(1, now);
        assert_eq!(call.disposition(), Disposition::NotSent);
        call.handed_on();
        assert_eq!(call.disposition(), Disposition::Unknown);
        call.settle(Disposition::Answered);
        assert_eq!(call.disposition(), Disposition::Answered);
    }

    #[test]
    fn the_worst_attempt_decides_whatever_came_later() {
        let call = call(Instant::now());
        call.settle(Disposition::Unknown);
        call.settle(Disposition::NotSent);
        assert!(call.disposition().may_have_happened());
    }

    #[test]
    fn only_the_last_eight_endpoints_are_remembered() {
        let call = call(Instant::now());
        assert_eq!(call.tried().count(), 0);
        for serial in 1..=10 {
            call.picked(serial);
        }
        let mut tried: Vec<_> = call.tried().collect();
        tried.sort_unstable();
        assert_eq!(tried, (3..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_running_attempt_is_part_of_the_report() {
        let now = Instant::now();
        let call = call(now);
        call.begin_attempt(2, now + Duration::from_millis(100));
        call.handed_on();
        let report = call.report(now + Duration::from_millis(350));
        assert_eq!(report.attempts().len(), 1);
        assert_eq!(report.attempts()[0].number(), 2);
        assert_eq!(report.attempts()[0].ran(), Duration::from_millis(250));
        assert!(report.may_have_happened());
    }

    #[test]
    fn the_second_retry_layer_is_told_to_pass_the_call_through() {
        let call = call(Instant::now());
        assert!(call.claim_retry());
        assert!(!call.claim_retry());
    }
}
