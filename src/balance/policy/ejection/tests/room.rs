//! Where no more may be left out.

use super::*;

#[test]
fn where_no_place_is_left_the_one_out_longest_may_prove_itself_after_a_second() {
    let set = Set::of(4, Ejection::consecutive(1));
    let full = |at| {
        assert_eq!(set.fail(2, at), Change::Spared);
        set.ejected.make_room(set.endpoints.iter(), &set.rule, at);
    };
    set.fail(0, S(0));
    set.fail(1, S(1));
    full(S(1));
    assert!(set.probe(0, Caller::MayRetry, S(1)).is_none(), "too soon");
    full(S(2));
    assert!(set.ejected.probe_may_be_due(Caller::MayRetry, S(2)));
    assert!(set.probe(1, Caller::MayRetry, S(2)).is_none());
    let permit = set.probe(0, Caller::MayRetry, S(2)).expect("hastened");
    assert_eq!(set.succeed(0, permit, S(2)), Change::Readmitted);
    assert_eq!(set.fail(2, S(2)), Change::Ejected);
    assert_eq!(set.out(), 2);
}

#[test]
fn a_hastened_probe_that_fails_lengthens_the_period_and_the_next_in_line_follows() {
    let set = Set::of(4, Ejection::consecutive(1));
    set.fail(0, S(0));
    set.fail(1, S(1));
    for (endpoint, at) in [(0, S(3)), (1, S(3))] {
        set.fail(2, at);
        set.ejected.make_room(set.endpoints.iter(), &set.rule, at);
        let permit = set.probe(endpoint, Caller::MayRetry, at).expect("hastened");
        assert_eq!(set.fail_with(endpoint, permit, at), Change::Ejected);
    }
    set.ejected.make_room(set.endpoints.iter(), &set.rule, S(3));
    assert!(set.probe(0, Caller::MayRetry, S(10)).is_none());
    assert!(
        set.probe(0, Caller::MayRetry, Duration::from_millis(10_500))
            .is_some()
    );
}

#[test]
fn an_endless_ejection_makes_no_room() {
    let endless = Ejection::consecutive(1)
        .time(Duration::MAX)
        .max_time(Duration::MAX);
    let set = Set::of(2, endless);
    set.fail(0, S(1));
    assert_eq!(set.fail(1, S(99)), Change::Spared);
    set.ejected
        .make_room(set.endpoints.iter(), &set.rule, S(99));
    assert!(set.probe(0, Caller::MayRetry, S(99)).is_none());
}
