use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, Response};

use crate::{
    classify::{Awaited, Credit, Verdict},
    error::InvalidSetting,
    retry::config::{Backoff, BudgetChoice, Retry},
    stats::{budget::Budget, quantile::RecentMedian},
};

const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Checked settings of retries, with the budget and the recent durations of one destination.
///
/// A clone is a handle to the same budget. Made by [`Retry::build`].
#[derive(Clone, Debug)]
pub struct RetryPolicy(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    settings: Retry,
    budget: Option<Budget>,
    successes: RecentMedian,
}

impl Retry {
    /// Checks the settings.
    ///
    /// # Errors
    /// If `max_attempts` or `max_pushback` is zero, or a number of the backoff is out of range.
    pub fn build(self) -> Result<RetryPolicy, InvalidSetting> {
        if self.max_attempts == 0 {
            let allowed = "1 and above; 1 means no retry";
            return Err(InvalidSetting::new("Retry::max_attempts", 0, allowed));
        }
        if self.max_pushback.is_zero() {
            return Err(InvalidSetting::new(
                "Retry::max_pushback",
                "0s",
                "above zero",
            ));
        }
        check(&self.backoff)?;
        let budget = match &self.budget {
            BudgetChoice::Preset => Some(Budget::default()),
            BudgetChoice::Given(budget) => Some(budget.clone()),
            BudgetChoice::Without => None,
        };
        Ok(RetryPolicy::new(self, budget))
    }
}

impl RetryPolicy {
    fn new(settings: Retry, budget: Option<Budget>) -> Self {
        Self(Arc::new(Checked {
            settings,
            budget,
            successes: RecentMedian::new(),
        }))
    }

    /// The same settings for another destination: with this budget, and no durations seen yet.
    #[must_use]
    pub fn with_budget(&self, budget: Budget) -> Self {
        Self::new(self.0.settings.clone(), Some(budget))
    }

    /// The budget that retries are paid from; `None` if they are not limited by one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.0.budget.as_ref()
    }

    /// How often a call may be sent, the first time included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.settings.max_attempts
    }

    pub(crate) fn settings(&self) -> &Retry {
        &self.0.settings
    }

    /// A call starts.
    pub(crate) fn deposit(&self, now: Instant) {
        if let Some(budget) = &self.0.budget {
            budget.deposit(now);
        }
    }

    /// What an answer is to the budget, if that counts ends.
    pub(crate) fn credit<B>(&self, response: Option<&Response<B>>, verdict: &Verdict) -> Credit {
        match response {
            _ if !self.counts_ends() => Credit::None,
            Some(response) => self.settings().classifier.credit(response, verdict),
            None => Credit::of(verdict, false),
        }
    }

    /// What the budget, if it counts ends, has to learn from the end of this response's body.
    pub(crate) fn awaited<B>(&self, response: &Response<B>, verdict: &Verdict) -> Option<Awaited> {
        let open = self.counts_ends() && verdict.class.is_success();
        open.then(|| self.settings().classifier.awaited(response))?
    }

    fn counts_ends(&self) -> bool {
        self.budget().is_some_and(Budget::counts_ends)
    }

    /// Tells the budget how an attempt ended.
    pub(crate) fn count(&self, credit: Credit) {
        match (self.budget(), credit) {
            (Some(budget), Credit::Success) => budget.succeeded(),
            (Some(budget), Credit::Failure) => budget.failed(),
            (None, _) | (_, Credit::None) => {}
        }
    }

    /// Tells a gRPC server how often the call went out before (gRFC A6), whatever a caller that forwards one says.
    pub(crate) fn count_previous(&self, headers: &mut HeaderMap, number: u32) {
        if !self.settings().classifier.is_grpc() {
            return;
        }
        match number {
            ..=1 => headers.remove(PREVIOUS_ATTEMPTS),
            _ => headers.insert(PREVIOUS_ATTEMPTS, (number - 1).into()),
        };
    }

    /// An attempt succeeded after this time.
    pub(crate) fn succeeded(&self, took: Duration) {
        self.0.successes.record(took);
    }

    /// How long attempts that succeed take; unknown below 20 of them.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.0.successes.median()
    }
}

fn check(backoff: &Backoff) -> Result<(), InvalidSetting> {
    if backoff.initial.is_zero() {
        return Err(InvalidSetting::new("Backoff::initial", "0s", "above zero"));
    }
    if backoff.initial > backoff.max {
        let value = format!("{:?}", backoff.max);
        return Err(InvalidSetting::new(
            "Backoff::max",
            value,
            "at least Backoff::initial",
        ));
    }
    if !backoff.multiplier.is_finite() || backoff.multiplier < 1.0 {
        return Err(InvalidSetting::new(
            "Backoff::multiplier",
            backoff.multiplier,
            "1 and above, finite",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let ms = Duration::from_millis;
        let backoff = |backoff: Backoff| Retry::default().backoff(backoff);
        let cases = [
            (Retry::default().max_attempts(0), "Retry::max_attempts"),
            (
                Retry::default().max_pushback(Duration::ZERO),
                "Retry::max_pushback",
            ),
            (
                backoff(Backoff::default().initial(Duration::ZERO)),
                "Backoff::initial",
            ),
            (
                backoff(Backoff::default().initial(ms(9)).max(ms(8))),
                "Backoff::max",
            ),
            (
                backoff(Backoff::default().max(Duration::ZERO)),
                "Backoff::max",
            ),
            (
                backoff(Backoff::default().multiplier(0.5)),
                "Backoff::multiplier",
            ),
            (
                backoff(Backoff::default().multiplier(f64::NAN)),
                "Backoff::multiplier",
            ),
            (
                backoff(Backoff::default().multiplier(f64::INFINITY)),
                "Backoff::multiplier",
            ),
        ];
        for (settings, field) in cases {
            assert_eq!(settings.build().expect_err(field).field(), field);
        }
        assert!(Retry::default().build().is_ok());
    }

    #[test]
    fn retries_are_one_less_than_attempts() {
        let attempts = |retry: Retry| retry.build().expect("valid").max_attempts();
        assert_eq!(attempts(Retry::default().max_retries(3)), 4);
        assert_eq!(attempts(Retry::default().max_retries(0)), 1);
        assert_eq!(attempts(Retry::default().max_retries(u32::MAX)), u32::MAX);
        assert_eq!(attempts(Retry::default().max_attempts(3)), 3);
    }

    #[test]
    fn another_destination_has_a_budget_and_durations_of_its_own() {
        let one = Retry::default().build().expect("valid");
        (0..20).for_each(|_| one.succeeded(Duration::from_millis(5)));
        let other = one.with_budget(Budget::default());
        assert!(one.median().is_some() && one.clone().median().is_some());
        assert!(other.median().is_none());
    }
}
