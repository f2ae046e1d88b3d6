//! A circuit breaker as a textbook has it: lists, nothing packed, one thread. What drives it beside the real one
//! brings `BreakerConfig`, `CloseWhen` and `State` into the module above this one.

use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::{BreakerConfig, CloseWhen, State};

/// In milliseconds, as all times here.
const BREAK: u64 = 5_000;
const PROBE_TIMEOUT: u64 = 10_000;
const HEALTHY: u64 = 60_000;
const RATE_WINDOW: u64 = 10_000;
/// Where the real one draws a number, this one has it.
pub(super) const DRAWN: f64 = 0.5;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Throttled,
    Failure,
    Neutral,
    /// Its permit or future is dropped.
    Abandoned,
}

/// What is done to the circuit.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    /// A call asks to be let through; it brings a limit of its own, and is a future or holds a permit by hand.
    Acquire {
        limit: Option<u64>,
        as_future: bool,
    },
    /// One of the calls under way ends.
    Settle(usize, End),
    Reset,
    ForceOpen,
    ForceClosed,
}

/// The settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    consecutive: Option<u32>,
    within: Option<(u32, u64)>,
    failure_rate: Option<f64>,
    slow_rate: Option<(f64, u64)>,
    min_requests: u32,
    count_window: Option<u32>,
    probes: u32,
    close_when: Close,
    longest: Option<u64>,
    ramp: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Close {
    Successes(u32),
    FailureRateBelow(f64),
}

/// The model. An `INNER` one can be told a call's limit, and where the real one draws, it draws [`DRAWN`].
#[derive(Clone, Debug)]
pub(super) struct Circuit<const INNER: bool> {
    pub(super) shape: Shape,
    pub(super) now: u64,
    phase: Phase,
    /// Rises with every phase.
    age: u64,
    streak: u64,
    calls: Vec<Call>,
    /// Whether the last call that asked was let through; if not, when it may come back.
    pub(super) answer: Result<(), Option<u64>>,
    pub(super) moves: Vec<(State, State)>,
    pub(super) counted: Counted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) opened: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) throttled: u64,
    pub(super) neutral: u64,
    pub(super) abandoned: u64,
    pub(super) late: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed {
        since: u64,
        ramp: bool,
        results: Vec<Seen>,
    },
    Open {
        until: u64,
    },
    HalfOpen {
        running: u32,
        good: u32,
        bad: u32,
        last: u64,
        patience: u64,
    },
    ForcedOpen,
    ForcedClosed,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: u64,
    end: End,
    slow: bool,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    age: u64,
    at: u64,
}

/// What a snapshot shows of the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) run: u32,
    pub(super) within: u32,
    pub(super) results: u32,
    pub(super) failures: u32,
    pub(super) timed: u32,
    pub(super) slow: u32,
}

impl Shape {
    pub(super) fn config(&self) -> BreakerConfig {
        let ms = Duration::from_millis;
        let close = match self.close_when {
            Close::Successes(enough) => CloseWhen::Successes(enough),
            Close::FailureRateBelow(rate) => CloseWhen::FailureRateBelow(rate),
        };
        let mut config = BreakerConfig::new()
            .break_duration(ms(BREAK))
            .break_jitter(0.0)
            .healthy_period(ms(HEALTHY))
            .probe_timeout(ms(PROBE_TIMEOUT))
            .window(ms(RATE_WINDOW))
            .min_requests(self.min_requests)
            .half_open(self.probes, close);
        if let Some(results) = self.count_window {
            config = config.count_window(results);
        }
        if let Some(failures) = self.consecutive {
            config = config.consecutive_failures(failures);
        }
        if let Some((failures, millis)) = self.within {
            config = config.failures_within(failures, ms(millis));
        }
        if let Some(rate) = self.failure_rate {
            config = config.failure_rate_threshold(rate);
        }
        if let Some((rate, millis)) = self.slow_rate {
            config = config
                .slow_call_rate_threshold(rate)
                .slow_call_duration(ms(millis));
        }
        if let Some(longest) = self.longest {
            config = config.max_break_duration(ms(longest));
        }
        match self.ramp {
            Some(ramp) => config.ramp(ms(ramp)),
            None => config,
        }
    }

    fn any(inner: bool) -> impl Strategy<Value = Self> {
        let rules = (
            prop::option::of(1..5_u32),
            prop::option::of((1..5_u32, 1..8_000_u64)),
            prop::option::of(0.2..=1.0_f64),
            prop::option::of((0.2..=1.0_f64, 1..3_000_u64)),
        );
        let rules = rules.prop_filter("a rule", |(run, within, rate, slow)| {
            run.is_some() || within.is_some() || rate.is_some() || slow.is_some()
        });
        let close = prop_oneof![
            (1..4_u32).prop_map(Close::Successes),
            (0.1..=1.0_f64).prop_map(Close::FailureRateBelow),
        ];
        let ramp = match inner {
            true => prop::option::of(1_000..20_000_u64).boxed(),
            false => Just(None).boxed(),
        };
        let rest = (
            1..6_u32,
            prop::option::of(0..8_u32),
            1..4_u32,
            close,
            prop::option::of(BREAK..40_000),
            ramp,
        );
        (rules, rest).prop_map(|(rules, rest)| {
            let (consecutive, within, failure_rate, slow_rate) = rules;
            let (min_requests, more, probes, close_when, longest, ramp) = rest;
            Self {
                consecutive,
                within,
                failure_rate,
                slow_rate,
                min_requests,
                count_window: more.map(|more| min_requests + more),
                probes,
                close_when,
                longest,
                ramp,
            }
        })
    }
}

impl<const INNER: bool> Circuit<INNER> {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            now: 0,
            phase: Phase::Closed {
                since: 0,
                ramp: false,
                results: Vec::new(),
            },
            age: 0,
            streak: 0,
            calls: Vec::new(),
            answer: Ok(()),
            moves: Vec::new(),
            counted: Counted::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Open { until } if self.now >= until => State::HalfOpen,
            _ => self.kept(),
        }
    }

    pub(super) fn is_forced(&self) -> bool {
        matches!(self.phase, Phase::ForcedOpen | Phase::ForcedClosed)
    }

    pub(super) fn next_probe_in(&self) -> Option<u64> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_sub(self.now)),
            _ => None,
        }
    }

    pub(super) fn probes(&self) -> u32 {
        match self.phase {
            Phase::HalfOpen {
                running, good, bad, ..
            } => self.taken(running, good + bad),
            _ => 0,
        }
    }

    /// What is remembered since it closed.
    pub(super) fn sums(&self) -> Sums {
        let Phase::Closed { results, .. } = &self.phase else {
            return Sums::default();
        };
        let Shape {
            consecutive,
            within,
            failure_rate,
            slow_rate,
            ..
        } = self.shape;
        let failed = |seen: &&Seen| seen.end == End::Failure;
        let run = results
            .iter()
            .rev()
            .take_while(|seen| seen.end != End::Success);
        let recent = |millis| {
            results
                .iter()
                .filter(move |seen| self.now - seen.at < millis)
        };
        let rated = self.rated(results);
        let all = rated.len() as u32;
        let bad = rated.iter().filter(|seen| seen.end != End::Success).count() as u32;
        let slow = rated.iter().filter(|seen| seen.slow).count() as u32;
        Sums {
            run: consecutive.map_or(0, |_| run.filter(failed).count() as u32),
            within: within.map_or(0, |(_, millis)| {
                recent(millis).filter(failed).count() as u32
            }),
            results: failure_rate.map_or(0, |_| all),
            failures: failure_rate.map_or(0, |_| bad),
            timed: slow_rate.map_or(0, |_| all),
            slow: slow_rate.map_or(0, |_| slow),
        }
    }

    /// The results that rates are taken of: the last ones, or those of this tenth of the window and the nine before.
    fn rated<'a>(&self, results: &'a [Seen]) -> Vec<&'a Seen> {
        match self.shape.count_window {
            Some(count) => results.iter().rev().take(count as usize).collect(),
            None => {
                let bucket = |at| at / (RATE_WINDOW / 10);
                let recent = |seen: &&Seen| bucket(self.now) - bucket(seen.at) < 10;
                results.iter().filter(recent).collect()
            }
        }
    }

    /// Where nobody has asked yet a break that is over still lasts.
    fn kept(&self) -> State {
        match self.phase {
            Phase::Closed { .. } | Phase::ForcedClosed => State::Closed,
            Phase::Open { .. } | Phase::ForcedOpen => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn enter(&mut self, phase: Phase) {
        let from = self.kept();
        self.phase = phase;
        self.age += 1;
        let to = self.kept();
        if from != to {
            self.moves.push((from, to));
            self.counted.opened += u64::from(to == State::Open);
        }
    }

    fn open(&mut self) {
        let healthy = match self.phase {
            Phase::Closed { since, .. } => self.now - since >= HEALTHY,
            _ => false,
        };
        let level = if healthy { 0 } else { self.streak };
        self.streak = level + 1;
        let length = match self.shape.longest {
            Some(longest) => (BREAK << level.min(16)).min(longest),
            None => BREAK,
        };
        let until = self.now + length;
        self.enter(Phase::Open { until });
    }

    fn taken(&self, running: u32, results: u32) -> u32 {
        match self.shape.close_when {
            Close::Successes(_) => running,
            Close::FailureRateBelow(_) => running + results,
        }
    }

    fn acquire(&mut self, limit: Option<u64>) {
        self.answer = self.admit(limit.map_or(PROBE_TIMEOUT, |limit| limit.max(PROBE_TIMEOUT)));
        match self.answer {
            Ok(()) => self.calls.push(Call {
                age: self.age,
                at: self.now,
            }),
            Err(_) => self.counted.rejected += 1,
        }
    }

    fn admit(&mut self, patience: u64) -> Result<(), Option<u64>> {
        let (now, ramp) = (self.now, self.shape.ramp);
        let first = |good, bad| Phase::HalfOpen {
            running: 1,
            good,
            bad,
            last: now,
            patience,
        };
        match &mut self.phase {
            Phase::ForcedClosed => {}
            Phase::Closed {
                since,
                ramp: climbing,
                ..
            } => {
                let Some(ramp) = ramp.filter(|_| *climbing) else {
                    return Ok(());
                };
                let share = (now - *since) as f64 / ramp as f64;
                *climbing = share < 1.0;
                return if DRAWN < share.max(0.1) {
                    Ok(())
                } else {
                    Err(None)
                };
            }
            Phase::ForcedOpen => return Err(None),
            Phase::Open { until } if now < *until => return Err(Some(*until - now)),
            Phase::Open { .. } => self.enter(first(0, 0)),
            Phase::HalfOpen {
                running,
                good,
                bad,
                last,
                patience: longest,
            } => {
                let (results, over) = ((*good, *bad), *last + *longest);
                let taken = match self.shape.close_when {
                    Close::Successes(_) => *running,
                    Close::FailureRateBelow(_) => *running + *good + *bad,
                };
                if taken < self.shape.probes {
                    *running += 1;
                    *last = now;
                    *longest = patience.max(*longest);
                } else if now >= over {
                    self.enter(first(results.0, results.1));
                } else {
                    return Err(None);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, call: usize, end: End) {
        let call = self.calls.swap_remove(call);
        let counter = match end {
            _ if call.age != self.age => &mut self.counted.late,
            End::Success => &mut 0,
            End::Throttled => &mut self.counted.throttled,
            End::Failure => &mut self.counted.failed,
            End::Neutral => &mut self.counted.neutral,
            End::Abandoned => &mut self.counted.abandoned,
        };
        *counter += 1;
        if call.age != self.age {
            return;
        }
        let (now, ran) = (self.now, self.now - call.at);
        let slow = self
            .shape
            .slow_rate
            .is_some_and(|(_, millis)| ran >= millis);
        let said = !matches!(end, End::Neutral | End::Abandoned);
        match &mut self.phase {
            Phase::Closed { results, .. } if said => {
                results.push(Seen { at: now, end, slow });
                if self.is_met(end, slow) {
                    self.open();
                }
            }
            Phase::HalfOpen {
                running, good, bad, ..
            } => {
                *running -= 1;
                let well = end == End::Success && !slow;
                *good += u32::from(said && well);
                *bad += u32::from(said && !well);
                let (good, bad) = (*good, *bad);
                self.judge(good, bad, said);
            }
            _ => {}
        }
    }

    /// Every call under way is dropped.
    pub(super) fn abandon_all(&mut self) {
        while !self.calls.is_empty() {
            self.settle(0, End::Abandoned);
        }
    }

    fn judge(&mut self, good: u32, bad: u32, said: bool) {
        let (close, open) = match self.shape.close_when {
            Close::Successes(enough) => (good >= enough, bad > 0),
            Close::FailureRateBelow(rate) => (
                good + bad >= self.shape.probes,
                f64::from(bad) >= rate * f64::from(self.shape.probes),
            ),
        };
        if said && open {
            self.open();
        } else if said && close {
            let ramp = self.shape.ramp.is_some();
            self.enter(Phase::Closed {
                since: self.now,
                ramp,
                results: Vec::new(),
            });
        }
    }

    /// Rules are looked at when a result speaks for them.
    fn is_met(&self, end: End, slow: bool) -> bool {
        let (shape, sums) = (&self.shape, self.sums());
        let reaches = |bad: u32, all: u32, rate: f64| {
            all >= shape.min_requests && f64::from(bad) / f64::from(all.max(1)) >= rate
        };
        let run = shape.consecutive.is_some_and(|enough| sums.run >= enough);
        let within = shape
            .within
            .is_some_and(|(enough, _)| sums.within >= enough);
        let rate = shape.failure_rate;
        let rate = rate.is_some_and(|rate| reaches(sums.failures, sums.results, rate));
        let dragging = shape.slow_rate;
        let dragging = dragging.is_some_and(|(rate, _)| reaches(sums.slow, sums.timed, rate));
        (end == End::Failure && (run || within))
            || (end != End::Success && rate)
            || (slow && dragging)
    }
}

impl<const INNER: bool> ReferenceStateMachine for Circuit<INNER> {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Shape::any(INNER).prop_map(Self::new).boxed()
    }

    fn transitions(circuit: &Self) -> BoxedStrategy<Step> {
        let limit = match INNER {
            true => prop::option::weighted(0.1, 1..30_000_u64).boxed(),
            false => Just(None).boxed(),
        };
        let acquire = (limit, any::<bool>())
            .prop_map(|(limit, as_future)| Step::Acquire { limit, as_future });
        let millis = prop_oneof![
            2 => 0..50_u64,
            2 => 500..1_500_u64,
            3 => Just(BREAK),
            3 => Just(PROBE_TIMEOUT),
            2 => 0..30_000_u64,
            1 => Just(HEALTHY),
        ];
        let by_hand = prop_oneof![
            Just(Step::Reset),
            Just(Step::ForceOpen),
            Just(Step::ForceClosed)
        ];
        if circuit.calls.is_empty() {
            return prop_oneof![6 => acquire, 2 => millis.prop_map(Step::Wait), 1 => by_hand]
                .boxed();
        }
        let end = prop_oneof![
            4 => Just(End::Failure),
            3 => Just(End::Success),
            1 => Just(End::Throttled),
            1 => Just(End::Neutral),
            1 => Just(End::Abandoned),
        ];
        let settle = (0..circuit.calls.len(), end).prop_map(|(call, end)| Step::Settle(call, end));
        prop_oneof![6 => acquire, 8 => settle, 4 => millis.prop_map(Step::Wait), 1 => by_hand]
            .boxed()
    }

    fn preconditions(circuit: &Self, step: &Step) -> bool {
        match step {
            Step::Settle(call, _) => *call < circuit.calls.len(),
            _ => true,
        }
    }

    fn apply(mut circuit: Self, step: &Step) -> Self {
        match step {
            Step::Wait(millis) => circuit.now += millis,
            Step::Acquire { limit, .. } => circuit.acquire(*limit),
            Step::Settle(call, end) => circuit.settle(*call, *end),
            Step::Reset => {
                circuit.streak = 0;
                let since = circuit.now;
                circuit.enter(Phase::Closed {
                    since,
                    ramp: false,
                    results: Vec::new(),
                });
            }
            Step::ForceOpen => circuit.enter(Phase::ForcedOpen),
            Step::ForceClosed => circuit.enter(Phase::ForcedClosed),
        }
        circuit
    }
}
