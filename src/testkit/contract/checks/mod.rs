//! One function for each contract.

mod clones;
mod drops;
mod ends;
mod lifetime;
mod others;
mod panics;
mod passing;
mod readiness;
mod wakes;

use super::{
    bench::{Bench, Finding},
    kinds::Contract,
};

/// Checks one contract.
pub(super) fn find(contract: Contract, bench: &Bench) -> Finding {
    let check = match contract {
        Contract::CallsReadyInstance => readiness::calls_ready_instance,
        Contract::WaitsForReadiness => readiness::waits_for_readiness,
        Contract::KeepsReadinessErrors => readiness::keeps_readiness_errors,
        Contract::AlwaysReady => readiness::always_ready,
        Contract::HoldsNoPlace => readiness::holds_no_place,
        Contract::GivesBack => drops::gives_back,
        Contract::LeavesOthersAlone => others::leaves_others_alone,
        Contract::SurvivesPanics => panics::survives_panics,
        Contract::DoesNotSpin => wakes::does_not_spin,
        Contract::WakesWaiters => wakes::wakes_waiters,
        Contract::EndsOnce => ends::ends_once,
        Contract::SharesState => clones::shares_state,
        Contract::TakesLongDurations => lifetime::takes_long_durations,
        Contract::NeedsNoRuntime => lifetime::needs_no_runtime,
        Contract::OutlivesRuntime => lifetime::outlives_runtime,
        Contract::PassesCalls => passing::passes_calls,
        Contract::PassesBodies => passing::passes_bodies,
    };
    check(bench)
}
