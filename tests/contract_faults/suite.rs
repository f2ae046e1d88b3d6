//! The suite itself.

use super::*;

#[tokio::test]
async fn the_suite_may_be_asked_for_inside_of_a_runtime() {
    contract::check(Plain::new(forward));
}

#[test]
fn layers_without_a_fault_break_nothing() {
    Suite::new(Plain::new(forward)).check();
    contract::check(|inner| TimeoutLayer::new(Duration::from_secs(9)).layer(inner));
    contract::check(|inner| MapRequestLayer::new(|request| request).layer(inner));
    contract::check(|inner: Scripted| {
        let inner = ServiceExt::<Request<Body>>::map_err(inner, BoxError::from);
        BoxCloneSyncService::<Request<Body>, _, BoxError>::new(inner)
    });
    for slots in [1, 3] {
        Suite::new(move |inner| ConcurrencyLimitLayer::new(slots).layer(inner))
            .slots(slots)
            .check();
    }
    Suite::new(|inner| LoadShedLayer::new().layer(inner))
        .without(Contract::WaitsForReadiness)
        .without(Contract::WakesWaiters)
        .without(Contract::TakesLongDurations)
        .check();
}

/// Found by their names in these files.
#[test]
fn every_contract_has_a_fault_here() {
    let sources = [
        include_str!("building.rs"),
        include_str!("dropping.rs"),
        include_str!("readiness.rs"),
        include_str!("requests.rs"),
        include_str!("waking.rs"),
    ];
    let source: String = sources.concat().split_whitespace().collect();
    for contract in Contract::ALL {
        let planted = format!("assert_breaks(Contract::{contract:?},");
        assert!(source.contains(&planted), "{contract}");
    }
}
