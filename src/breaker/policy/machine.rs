use std::time::{Duration, Instant};

use super::super::config::BreakerConfig;
use super::answer::Cause;
use super::answer::{
    Admission, Change, Pass, Settled, State, View, admitted, change, is_closed, rejected, settled,
    state, wait,
};
use super::blame::HEAD_STANDS_AFTER;
use super::half_open::{Judgement, Probes};
use super::rules::{Finished, Outcome, Rules};
use super::timing::{Breaks, millis};
use super::word::{Kind, Shared, Word};

/// The least share of calls that pass at the start of a ramp: without any it would learn nothing.
const RAMP_START: f64 = 0.1;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// The state machine of one circuit.
///
/// Approximate, on purpose: rules are looked at on failures and slow calls only; a failure that
/// races with another one or with a change of state may trip it one failure later; its clock has a
/// resolution of a millisecond. Exact: transitions, generations, the number of probes, runs, and what a permit of
/// an older generation may do, which is nothing.
#[derive(Debug)]
pub(crate) struct Machine {
    word: Shared,
    base: Instant,
    rules: Rules,
    probes: Probes,
    breaks: Breaks,
    ramp: Option<u64>,
}

impl Machine {
    /// A closed circuit by settings that were checked.
    pub(crate) fn new(config: &BreakerConfig, now: Instant) -> Self {
        Self {
            word: Shared::default(),
            base: now,
            rules: Rules::new(config),
            probes: Probes::new(config),
            breaks: Breaks::new(config),
            ramp: config.ramp.map(millis),
        }
    }

    /// Whether traffic flows, without asking for the time.
    pub(crate) fn is_closed(&self) -> bool {
        let kind = self.word.load().kind;
        matches!(kind, Kind::Closed | Kind::Ramp | Kind::ForcedClosed)
    }

    /// Asks for a call to be let through; `now` is asked for only when the circuit is not closed,
    /// `draw` only on a ramp. `limit` is the call's own limit.
    pub(crate) fn acquire(
        &self,
        limit: Option<Duration>,
        now: impl FnOnce() -> Instant,
        draw: impl FnOnce() -> f64,
    ) -> (Admission, Option<Change>) {
        let word = self.word.load();
        match word.kind {
            Kind::Closed | Kind::ForcedClosed => (admitted(word, false), None),
            Kind::ForcedOpen => (Admission::Rejected { retry_in: None }, None),
            Kind::Ramp => self.acquire_on_ramp(word, self.millis_at(now()), draw()),
            Kind::Open | Kind::HalfOpen => self.acquire_probe(limit, self.millis_at(now())),
        }
    }

    fn acquire_on_ramp(&self, word: Word, now: u64, unit: f64) -> (Admission, Option<Change>) {
        let share = self.ramp.map_or(1.0, |ramp| {
            now.saturating_sub(word.stamp) as f64 / ramp as f64
        });
        if share >= 1.0 {
            // The same period of being closed goes on: no new generation. A lost race means that
            // somebody else ended it.
            let _ = self.word.update(|now| {
                (now == word).then_some(Word {
                    kind: Kind::Closed,
                    ..word
                })
            });
        }
        match unit < share.max(RAMP_START) {
            true => (admitted(word, false), None),
            false => (Admission::Rejected { retry_in: None }, None),
        }
    }

    fn acquire_probe(&self, limit: Option<Duration>, now: u64) -> (Admission, Option<Change>) {
        match self.word.update(|word| self.with_probe(word, now)) {
            Ok((before, after)) => {
                let live = || self.is_live(after.generation);
                self.probes.be_patient(after.generation, limit, live);
                let moved = before.generation != after.generation;
                let change = moved.then(|| change(before, after, Cause::BreakOver));
                (admitted(after, true), change)
            }
            Err(word) if is_closed(word) => (admitted(word, false), None),
            Err(word) => (rejected(word, now), None),
        }
    }

    /// The word with one more probe under way; `None` if none may pass.
    fn with_probe(&self, word: Word, now: u64) -> Option<Word> {
        match word.kind {
            Kind::Open if now >= word.stamp => Some(word.next(Kind::HalfOpen, now).with_slots(1)),
            Kind::HalfOpen if word.slots < self.probes.slots() => Some(Word {
                slots: word.slots + 1,
                stamp: now.max(word.stamp),
                ..word
            }),
            // All slots are taken by probes that nobody hears of any more: a generation of its own
            // makes sure that nothing is heard of them later.
            Kind::HalfOpen
                if now
                    >= word
                        .stamp
                        .saturating_add(self.probes.patience(word.generation)) =>
            {
                let live = || self.is_live(word.generation);
                let kept = self.probes.hand_on(word.generation, live);
                let finished = if self.probes.keeps_slot() { kept } else { 0 };
                let taken = finished
                    .saturating_add(1)
                    .min(u32::from(self.probes.slots()));
                Some(word.next(Kind::HalfOpen, now).with_slots(taken as u8))
            }
            _ => None,
        }
    }

    /// The only probe got a good head, and what follows may be a stream that is silent for hours: others wait for it
    /// until the head stands, and no longer.
    pub(crate) fn answered(&self, pass: Pass, now: Instant) {
        let word = self.word.load();
        let only = word.kind == Kind::HalfOpen && word.slots == 1;
        if pass.probe && only && word.generation == pass.generation {
            let stands = now.checked_add(HEAD_STANDS_AFTER).unwrap_or(now);
            let patience = self.millis_at(stands).saturating_sub(word.stamp);
            let live = || self.is_live(pass.generation);
            self.probes.be_brief(pass.generation, patience, live);
        }
    }

    /// Settles a call that was let through; `draw` is asked for only when the circuit opens.
    pub(crate) fn settle(
        &self,
        pass: Pass,
        end: &Finished,
        now: Instant,
        draw: impl FnOnce() -> f64,
    ) -> Settled {
        let word = self.word.load();
        if word.generation != pass.generation {
            return Settled::Late;
        }
        let nanos = self.nanos_at(now);
        self.rules.note_latency(end);
        if let Some(pause) = end.pushback {
            let live = || self.is_live(pass.generation);
            self.breaks
                .note_pushback(nanos, pass.generation, pause, live);
        }
        if pass.probe {
            return self.settle_probe(pass.generation, end, nanos, draw);
        }
        if word.kind == Kind::ForcedClosed {
            return Settled::Counted;
        }
        let live = || self.is_live(pass.generation);
        match self.rules.record(pass.generation, nanos, end, live) {
            Some(cause) => self.open(pass.generation, cause, nanos, draw()),
            None => Settled::Counted,
        }
    }

    fn settle_probe(
        &self,
        generation: u16,
        end: &Finished,
        nanos: u64,
        draw: impl FnOnce() -> f64,
    ) -> Settled {
        let succeeded = match end.outcome {
            Outcome::Neutral | Outcome::Abandoned => return self.give_back(generation),
            Outcome::Success => !self.rules.is_slow(end.ran),
            Outcome::Throttled | Outcome::Failure => false,
        };
        let live = || self.is_live(generation);
        let Some(judgement) = self.probes.record(generation, succeeded, live) else {
            return Settled::Late;
        };
        match judgement {
            Judgement::Close => self.close(generation, nanos / NANOS_PER_MILLI),
            Judgement::Open => self.open(generation, Cause::ProbeFailed, nanos, draw()),
            Judgement::Undecided if self.probes.keeps_slot() => Settled::Counted,
            Judgement::Undecided => self.give_back(generation),
        }
    }

    fn give_back(&self, generation: u16) -> Settled {
        let given = self.word.update(|word| {
            let ours = word.generation == generation && word.kind == Kind::HalfOpen;
            ours.then(|| word.with_slots(word.slots.saturating_sub(1)))
        });
        given.map_or(Settled::Late, |_| Settled::Counted)
    }

    fn close(&self, generation: u16, now: u64) -> Settled {
        let kind = match self.ramp {
            Some(_) => Kind::Ramp,
            None => Kind::Closed,
        };
        let moved = self
            .word
            .update(|word| (word.generation == generation).then(|| word.next(kind, now)));
        settled(moved, Cause::ProbeSucceeded)
    }

    fn open(&self, generation: u16, cause: Cause, nanos: u64, unit: f64) -> Settled {
        let mut level = 0;
        let moved = self.word.update(|word| {
            if word.generation != generation {
                return None;
            }
            let closed_for =
                is_closed(word).then(|| (nanos / NANOS_PER_MILLI).saturating_sub(word.stamp));
            level = self.breaks.level(closed_for);
            let end = self.breaks.end(nanos, level, generation, unit);
            Some(word.next(Kind::Open, end))
        });
        if let Ok((_, after)) = moved {
            let live = || self.is_live(after.generation);
            self.breaks.began(level, after.generation, live);
        }
        settled(moved, cause)
    }

    /// Opens it until somebody says otherwise.
    pub(crate) fn force_open(&self, now: Instant) -> Option<Change> {
        self.force(Kind::ForcedOpen, now)
    }

    /// Closes it until somebody says otherwise; no result opens it.
    pub(crate) fn force_closed(&self, now: Instant) -> Option<Change> {
        self.force(Kind::ForcedClosed, now)
    }

    /// Closes it and forgets everything, breaks of growing length included.
    pub(crate) fn reset(&self, now: Instant) -> Option<Change> {
        // Before, for whoever opens it right after; and again, for a break that began in between.
        self.breaks.forget(self.word.load().generation, || true);
        let change = self.force(Kind::Closed, now)?;
        let live = || self.is_live(change.generation);
        self.breaks.forget(change.generation, live);
        Some(change)
    }

    fn force(&self, kind: Kind, now: Instant) -> Option<Change> {
        let stamp = self.millis_at(now);
        let moved = self.word.update(|word| Some(word.next(kind, stamp)));
        let (before, after) = moved.ok()?;
        Some(change(before, after, Cause::Manual))
    }

    /// The state at `now`: an open circuit whose break is over is half-open, traffic or not.
    pub(crate) fn state(&self, now: Instant) -> State {
        state(self.word.load(), self.millis_at(now))
    }

    /// Whether a rule asks how long calls take.
    pub(crate) fn is_timed(&self) -> bool {
        self.rules.is_timed()
    }

    /// Whether a rule asks where calls fail.
    pub(crate) fn asks_for_endpoints(&self) -> bool {
        self.rules.asks_for_endpoints()
    }

    /// The median of recent successes.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.rules.median()
    }

    /// Everything there is to see at `now`.
    pub(crate) fn view(&self, now: Instant) -> View {
        let word = self.word.load();
        let (millis, nanos) = (self.millis_at(now), self.nanos_at(now));
        let (run, within, failures, slow) = self.rules.counts(word.generation, nanos);
        let half_open = word.kind == Kind::HalfOpen;
        View {
            state: state(word, millis),
            forced: matches!(word.kind, Kind::ForcedOpen | Kind::ForcedClosed),
            next_probe_in: wait(word, millis),
            probes: if half_open { word.slots } else { 0 },
            run,
            within,
            failures,
            slow,
        }
    }

    /// Whether this generation is the present one.
    fn is_live(&self, generation: u16) -> bool {
        self.word.load().generation == generation
    }

    fn nanos_at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.base);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn millis_at(&self, now: Instant) -> u64 {
        self.nanos_at(now) / NANOS_PER_MILLI
    }
}
