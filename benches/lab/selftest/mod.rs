//! Whether the lab itself is right: what is known in closed form, and figures that others have published.

mod closed;
mod contention;
mod published;

/// One figure beside what it has to be.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) is: f64,
    pub(crate) should: f64,
    /// As a share.
    pub(crate) within: f64,
}

impl Check {
    fn new(what: impl Into<String>, is: f64, should: f64, within: f64) -> Self {
        Self {
            what: what.into(),
            is,
            should,
            within,
        }
    }

    fn holds(&self) -> bool {
        (self.is - self.should).abs() <= self.within * self.should.abs()
    }
}

/// The ones that take a second or two.
pub(crate) fn quick() -> Vec<Check> {
    [closed::checks(), contention::few()]
        .into_iter()
        .flatten()
        .collect()
}

/// All of them.
pub(crate) fn all() -> Vec<Check> {
    [
        quick(),
        closed::slow(),
        contention::many(),
        published::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Prints them, and says whether all hold.
pub(crate) fn print(checks: &[Check]) -> bool {
    for check in checks {
        let verdict = if check.holds() { "" } else { "  WRONG" };
        let (what, is, should) = (&check.what, check.is, check.should);
        println!(
            "{what:<58} {is:>11.3}  should be {should:>11.3} +- {:>4.1} %{verdict}",
            check.within * 100.0
        );
    }
    checks.iter().all(Check::holds)
}
