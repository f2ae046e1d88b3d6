//! What this crate tests itself with, for tests of your own: scripted services, a virtual upstream, a seeded stack,
//! and contracts that any layer can be held to. With the feature `test-util`.
//!
//! Everything runs on tokio's clock. Under `#[tokio::test(start_paused = true)]` a minute of retries takes no time,
//! and the same seeds give the same run.
//!
//! | you want to | take |
//! |---|---|
//! | say call by call what a server does | [`Scripted`], [`Act`], [`Step`], [`Readiness`] |
//! | see what reached it, when, and how it ended | [`Recorder`], [`Seen`] |
//! | check the report of a call | [`story`] |
//! | have a server with workers, a queue and an outage | [`Upstream`], [`ServiceTime`], [`Fault`] |
//! | run all of a ready-made client over such servers, by one seed | [`seeded`] |
//! | hold a layer of your own to what tower and this crate ask of one | [`contract`] |
//!
//! ```toml
//! [dev-dependencies]
//! evenkeel = { version = "0.1", features = ["test-util"] }
//! tokio = { version = "1", features = ["macros", "rt", "test-util"] }
//! ```

mod act;
mod answer;
mod body;
pub mod contract;
mod ledger;
mod pause;
mod readiness;
mod recorder;
mod recording;
mod scripted;
mod step;
mod story;
mod upstream;

pub use self::{
    act::Act,
    answer::Answer,
    body::ScriptedBody,
    readiness::Readiness,
    recorder::{Ending, Recorder, Seen},
    recording::{Recorded, RecordedFuture},
    scripted::Scripted,
    step::Step,
    story::{Story, story},
    upstream::{Fault, ServiceTime, Upstream, UpstreamFuture},
};
pub use crate::client::seeded::{SeededStack, seeded};
