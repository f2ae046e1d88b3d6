use super::report::AttemptReport;

/// How many attempts a report tells: so many of the first ones, and of the last ones.
///
/// The first tell how the trouble began and the last how it ended; a call that may try for ever must not take ever more
/// memory for what lies between.
const FIRST: usize = 16;
const LAST: usize = 16;

/// The attempts of one call, those in the middle left out once there are many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    told: Vec<AttemptReport>,
    omitted: u32,
}

impl Attempts {
    pub(super) const fn none() -> Self {
        Self {
            told: Vec::new(),
            omitted: 0,
        }
    }

    pub(super) fn push(&mut self, attempt: AttemptReport) {
        if self.told.len() == FIRST + LAST {
            self.told.remove(FIRST);
            self.omitted = self.omitted.saturating_add(1);
        }
        self.told.push(attempt);
    }

    pub(super) fn told(&self) -> &[AttemptReport] {
        &self.told
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut AttemptReport> {
        self.told.last_mut()
    }

    pub(super) const fn omitted(&self) -> u32 {
        self.omitted
    }

    /// Whether those left out lie right before this one of [`told`](Self::told).
    pub(super) const fn resume_at(&self, index: usize) -> bool {
        self.omitted > 0 && index == FIRST
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::call::{Call, CallPolicy, Disposition, Outcome};

    fn attempt(number: u32, disposition: Disposition) -> AttemptReport {
        AttemptReport {
            number,
            endpoint: None,
            ran: Duration::ZERO,
            outcome: Outcome::Unanswered,
            disposition,
            backoff: None,
        }
    }

    proptest! {
        #[test]
        fn a_report_tells_the_first_and_the_last_and_counts_all(
            dispositions in prop::collection::vec(0..4_u8, 0..150),
            runs in any::<bool>(),
        ) {
            let now = Instant::now();
            let call = Call::new(CallPolicy::new(), now);
            let dispositions: Vec<_> = dispositions.into_iter().map(Disposition::from_index).collect();
            for (number, disposition) in (1..).zip(&dispositions) {
                call.begin_attempt(number, now);
                call.ended(attempt(number, *disposition));
                call.backing_off(Duration::from_secs(number.into()));
            }
            let ended = dispositions.len() as u32;
            if runs {
                call.begin_attempt(ended + 1, now);
            }
            let report = call.report(now);
            let all = ended + u32::from(runs);
            let told: Vec<_> = report.attempts().iter().map(AttemptReport::number).collect();
            let first_and_last: Vec<_> = (1..=all).filter(|n| *n <= 16 || *n + 16 > all).collect();
            prop_assert_eq!(&told, &first_and_last);
            prop_assert_eq!((report.count(), report.omitted()), (all, all - told.len() as u32));
            let worst = dispositions.iter().max().copied().unwrap_or(Disposition::NotSent);
            prop_assert_eq!(report.disposition(), worst);
            for attempt in report.attempts().iter().filter(|attempt| attempt.number() <= ended) {
                let pause = Duration::from_secs(attempt.number().into());
                prop_assert_eq!(attempt.backoff(), Some(pause));
                prop_assert_eq!(attempt.disposition(), dispositions[attempt.number() as usize - 1]);
            }
            let words = format!("{} left out", report.omitted());
            prop_assert_eq!(report.to_string().contains(&words), report.omitted() > 0);
        }
    }
}
