//! What the endpoints of one set share about ejection: how many are out, and when to look for one to probe.

use std::time::Duration;

use super::{
    ejection::Health,
    ejection_rule::Ejection,
    word::{OUT, Word},
};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What all endpoints of a set share.
#[derive(Debug)]
pub(crate) struct Ejected {
    count: AtomicU32,
    /// No probe is due before this many milliseconds: by a call that may be retried, and by any call.
    /// A hint, so that picks do not look for probes at every call; never later than the truth.
    due: [AtomicU64; 2],
}

impl Default for Ejected {
    fn default() -> Self {
        Self {
            count: AtomicU32::new(0),
            due: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
        }
    }
}

impl Ejected {
    /// How many endpoints are out at the moment.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    /// Whether so few of `size` endpoints are left that all are used.
    pub(crate) fn is_panic(&self, size: usize, rule: &Ejection) -> bool {
        let out = self.count();
        out > 0 && (size.saturating_sub(out) as f64) < size as f64 * rule.panic_share()
    }

    /// Whether it is time to look for an endpoint that wants a probe. If so the hint is taken away: whoever looks
    /// puts it back by [`expect_probe`](Self::expect_probe) for every endpoint that is still out.
    pub(crate) fn probe_may_be_due(&self, caller: Caller, age: Duration) -> bool {
        let now = millis(age);
        self.count() > 0
            && self.due[caller as usize].load(Ordering::Relaxed) <= now
            && self.due[caller as usize].swap(u64::MAX, Ordering::Relaxed) <= now
    }

    /// Puts the hint for an endpoint that is out.
    pub(crate) fn expect_probe(&self, health: &Health, rule: &Ejection) {
        if let Some(word) = health.out() {
            for caller in [Caller::MayRetry, Caller::Any] {
                self.due[caller as usize].fetch_min(due(word, rule, caller), Ordering::Relaxed);
            }
        }
    }

    /// Takes one of the places that `rule` allows in a set of `size`.
    pub(super) fn claim(&self, size: usize, rule: &Ejection) -> bool {
        let most = rule.most_ejected(size);
        let next = |count| ((count as usize) < most).then_some(count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    /// Lets the endpoint that has been out longest prove itself now, since another one should be out and finds no
    /// place: one that recovered long ago must not keep one in use that fails every call.
    pub(crate) fn make_room<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Health>,
        rule: &Ejection,
        age: Duration,
    ) {
        let now = millis(age);
        let mut first: Option<(u64, &Health)> = None;
        for health in endpoints {
            let Some(word) = health.out().filter(|word| word.kind() == OUT) else {
                continue;
            };
            if word.until() <= now {
                // The next call is a probe already.
                return;
            }
            if first.is_none_or(|(until, _)| word.until() < until) {
                first = Some((word.until(), health));
            }
        }
        if let Some((_, health)) = first
            && health.hasten(rule, age)
        {
            self.expect_probe(health, rule);
        }
    }

    pub(super) fn release(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who would carry a probe: a call that somebody retries if it fails is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    MayRetry = 0,
    Any = 1,
}

/// From when on a caller of this kind may probe, in milliseconds.
pub(super) fn due(word: Word, rule: &Ejection, caller: Caller) -> u64 {
    match (word.kind(), caller) {
        (OUT, Caller::Any) => word
            .until()
            .saturating_add(millis(rule.period(word.level()))),
        _ => word.until(),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
