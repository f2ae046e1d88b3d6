//! The testkit's scripted service as the tests of retry use it: with bodies that are not empty.

use evenkeel::testkit::Step;
pub use evenkeel::testkit::{Act, Scripted as Script, Seen as Sent};

pub use super::mock::millis;

/// Answers with this status and a body that says so.
pub fn answering(status: u16) -> Act {
    Act::status(status).body([Step::data(format!("status {status}"))])
}

/// Answers with these statuses in turn, with the last one for ever.
pub fn statuses<const N: usize>(statuses: [u16; N]) -> Script {
    Script::by(move |number| answering(statuses[(number - 1).min(N - 1)]))
}
