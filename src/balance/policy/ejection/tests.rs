mod room;

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

/// Other endpoints with this many calls and failures in 10 s each.
fn others(calls: u64, failures: u64) -> Counted {
    Counted {
        calls,
        failures,
        seconds: 10.0,
    }
}

struct Set {
    ejected: Ejected,
    endpoints: Vec<Health>,
    rule: Ejection,
}

impl Set {
    fn of(n: usize, rule: Ejection) -> Self {
        Self {
            ejected: Ejected::default(),
            endpoints: (0..n).map(|_| Health::default()).collect(),
            rule,
        }
    }

    fn fail(&self, endpoint: usize, at: Duration) -> Change {
        self.fail_with(endpoint, self.endpoints[endpoint].permit(), at)
    }

    fn fail_with(&self, endpoint: usize, permit: Permit, age: Duration) -> Change {
        let failed = Failed {
            size: self.endpoints.len(),
            age,
            unit: 0.0,
        };
        self.endpoints[endpoint].failure(
            permit,
            &self.ejected,
            &self.rule,
            failed,
            Counted::default,
        )
    }

    fn succeed(&self, endpoint: usize, permit: Permit, age: Duration) -> Change {
        self.endpoints[endpoint].success(permit, &self.ejected, age)
    }

    fn probe(&self, endpoint: usize, caller: Caller, age: Duration) -> Option<Permit> {
        self.endpoints[endpoint].claim_probe(&self.rule, caller, None, age)
    }

    fn out(&self) -> usize {
        let out = self
            .endpoints
            .iter()
            .filter(|health| health.is_out())
            .count();
        assert_eq!(out, self.ejected.count());
        out
    }
}

#[test]
fn the_adaptive_row_grows_with_traffic_and_with_the_failures_of_the_others() {
    let row = |per_second: u64, percent: u64| {
        adaptive(others(per_second * 10, per_second * 10 * percent / 100))
    };
    assert_eq!([row(1, 0), row(6, 0), row(600, 0)], [2, 3, 4]);
    assert!((9..=12).contains(&row(560, 20)), "{}", row(560, 20));
    assert!(
        row(100, 100) > 1000,
        "where everything fails nobody is to blame"
    );
    assert_eq!(
        adaptive(Counted::default()),
        2,
        "without evidence the least"
    );
}

#[test]
fn an_error_here_and_there_never_ejects() {
    let set = Set::of(4, Ejection::consecutive(5));
    for second in 0..600 {
        let permit = set.endpoints[0].permit();
        assert_eq!(set.fail(0, S(second)), Change::None);
        (0..19).for_each(|_| assert_eq!(set.succeed(0, permit, S(second)), Change::None));
    }
}

// OUT-01, envoyproxy/envoy#26877
#[test]
fn no_more_are_out_than_the_share_allows_after_the_ejection() {
    for (share, most) in [(0.5, 1), (0.67, 2)] {
        let set = Set::of(3, Ejection::consecutive(1).max_share(share));
        let changes: Vec<_> = (0..3).map(|endpoint| set.fail(endpoint, S(0))).collect();
        assert_eq!(set.out(), most);
        assert_eq!(
            changes
                .iter()
                .filter(|change| **change == Change::Spared)
                .count(),
            3 - most
        );
    }
}

// OUT-02, envoyproxy/envoy#3263
#[test]
fn a_share_of_less_than_one_endpoint_ejects_none_unless_one_is_allowed() {
    let tenth = Ejection::consecutive(1).max_share(0.1);
    for (n, rule, out) in [
        (1, tenth, 0),
        (2, tenth, 0),
        (2, tenth.at_least_one(true), 1),
        (1, tenth.at_least_one(true), 0),
    ] {
        let set = Set::of(n, rule);
        (0..n).for_each(|endpoint| _ = set.fail(endpoint, S(0)));
        assert_eq!(set.out(), out, "{n} endpoints");
    }
}

#[test]
fn when_the_time_is_over_exactly_one_retryable_call_probes() {
    let set = Set::of(2, Ejection::consecutive(1));
    assert_eq!(set.fail(0, S(0)), Change::Ejected);
    assert!(set.probe(0, Caller::MayRetry, S(4)).is_none());
    let permit = set.probe(0, Caller::MayRetry, S(5)).expect("due");
    assert!(
        set.probe(0, Caller::MayRetry, S(5)).is_none(),
        "one probe at a time"
    );
    assert_eq!(set.succeed(0, permit, S(6)), Change::Readmitted);
    assert_eq!(set.out(), 0);
}

#[test]
fn any_call_probes_when_no_retryable_one_came_for_another_period() {
    let set = Set::of(2, Ejection::consecutive(1));
    set.fail(0, S(0));
    assert!(set.probe(0, Caller::Any, S(9)).is_none());
    assert!(set.probe(0, Caller::Any, S(10)).is_some());
}

// OUT-03, envoyproxy/envoy#6016
#[test]
fn periods_grow_with_failed_probes_to_a_limit_and_start_again_after_a_success() {
    let set = Set::of(2, Ejection::consecutive(1));
    let mut now = S(0);
    set.fail(0, now);
    for wait in [5_000, 7_500, 10_000, 10_000] {
        let due = now + Duration::from_millis(wait);
        assert!(
            set.probe(0, Caller::MayRetry, due - Duration::from_millis(1))
                .is_none()
        );
        let permit = set.probe(0, Caller::MayRetry, due).expect("due");
        assert_eq!(set.fail_with(0, permit, due), Change::Ejected);
        now = due;
    }
    let permit = set.probe(0, Caller::MayRetry, now + S(10)).expect("due");
    set.succeed(0, permit, now + S(10));
    now += S(3600);
    set.fail(0, now);
    assert!(set.probe(0, Caller::MayRetry, now + S(5)).is_some());
}

#[test]
fn results_of_calls_from_before_an_ejection_change_nothing() {
    let set = Set::of(2, Ejection::consecutive(1));
    let old = set.endpoints[0].permit();
    set.fail(0, S(0));
    assert_eq!(set.succeed(0, old, S(1)), Change::None);
    let probe = set.probe(0, Caller::MayRetry, S(5)).expect("due");
    assert_eq!(set.fail_with(0, old, S(6)), Change::None);
    assert_eq!(set.succeed(0, probe, S(6)), Change::Readmitted);
    assert_eq!(
        set.fail_with(0, old, S(7)),
        Change::None,
        "nor after it came back"
    );
}

#[test]
fn a_probe_that_is_dropped_leaves_its_place_to_the_next_call() {
    let set = Set::of(2, Ejection::consecutive(1));
    set.fail(0, S(0));
    let permit = set.probe(0, Caller::MayRetry, S(5)).expect("due");
    set.endpoints[0].abandoned(permit, &set.ejected, &set.rule, S(6));
    assert!(set.ejected.probe_may_be_due(Caller::MayRetry, S(6)));
    assert!(set.probe(0, Caller::MayRetry, S(6)).is_some());
}

#[test]
fn a_probe_without_an_answer_gives_up_its_slot_after_10_s_and_speaks_no_more() {
    let set = Set::of(2, Ejection::consecutive(1));
    set.fail(0, S(0));
    let lost = set.probe(0, Caller::MayRetry, S(5)).expect("due");
    assert!(set.probe(0, Caller::MayRetry, S(14)).is_none());
    let second = set
        .probe(0, Caller::MayRetry, S(15))
        .expect("the slot is free");
    assert_eq!(set.succeed(0, lost, S(16)), Change::None);
    assert_eq!(set.succeed(0, second, S(16)), Change::Readmitted);
}

#[test]
fn throttling_answers_a_probe_and_else_says_nothing() {
    let set = Set::of(2, Ejection::consecutive(1));
    let ordinary = set.endpoints[0].permit();
    assert_eq!(
        set.endpoints[0].neither(ordinary, &set.ejected),
        Change::None
    );
    set.fail(0, S(0));
    let permit = set.probe(0, Caller::MayRetry, S(5)).expect("due");
    assert_eq!(
        set.endpoints[0].neither(permit, &set.ejected),
        Change::Readmitted
    );
}

// OUT-05, envoyproxy/envoy#2671
#[test]
fn below_the_panic_share_all_are_used_and_a_success_brings_one_back() {
    let set = Set::of(4, Ejection::consecutive(1).max_share(1.0));
    (0..4).for_each(|endpoint| _ = set.fail(endpoint, S(0)));
    assert_eq!(set.out(), 4);
    assert!(set.ejected.is_panic(4, &set.rule));
    let permit = set.endpoints[2].permit();
    assert_eq!(
        set.fail_with(2, permit, S(1)),
        Change::None,
        "no longer period for a call in panic"
    );
    assert_eq!(set.succeed(2, permit, S(1)), Change::Readmitted);
    assert!(set.ejected.is_panic(4, &set.rule));
    set.succeed(1, set.endpoints[1].permit(), S(1));
    assert!(!set.ejected.is_panic(4, &set.rule));
}

#[test]
fn removed_endpoints_take_up_no_place() {
    let set = Set::of(4, Ejection::consecutive(1));
    set.fail(0, S(0));
    let permit = set.endpoints[0].permit();
    set.endpoints[0].retire(&set.ejected);
    assert_eq!(set.ejected.count(), 0);
    assert_eq!(set.succeed(0, permit, S(1)), Change::None);
    assert_eq!(set.fail(0, S(1)), Change::None);
    assert_eq!(set.endpoints[0].standing(), Standing::Retired);
}

#[test]
fn clearing_brings_everybody_back() {
    let set = Set::of(4, Ejection::consecutive(1));
    set.fail(0, S(0));
    set.fail(1, S(0));
    set.endpoints
        .iter()
        .for_each(|health| _ = health.clear(&set.ejected));
    assert_eq!(set.out(), 0);
}

#[test]
fn the_hint_says_when_to_look_for_a_probe() {
    let set = Set::of(3, Ejection::consecutive(1));
    assert!(!set.ejected.probe_may_be_due(Caller::MayRetry, S(99)));
    set.fail(0, S(0));
    assert!(!set.ejected.probe_may_be_due(Caller::MayRetry, S(4)));
    assert!(set.ejected.probe_may_be_due(Caller::MayRetry, S(5)));
    assert!(
        !set.ejected.probe_may_be_due(Caller::MayRetry, S(5)),
        "one caller looks"
    );
    set.ejected.expect_probe(&set.endpoints[0], &set.rule);
    assert!(set.ejected.probe_may_be_due(Caller::MayRetry, S(5)));
    assert!(!set.ejected.probe_may_be_due(Caller::Any, S(9)));
    assert!(set.ejected.probe_may_be_due(Caller::Any, S(10)));
}

#[test]
fn many_threads_never_eject_more_than_the_share() {
    let set = Set::of(10, Ejection::consecutive(1));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            scope.spawn(move || (0..10).for_each(|i| _ = set.fail((i + thread * 3) % 10, S(0))));
        }
    });
    assert_eq!(set.out(), 5);
}

#[test]
fn an_endless_ejection_stays_and_overflows_nothing() {
    let set = Set::of(
        2,
        Ejection::consecutive(1)
            .time(Duration::MAX)
            .max_time(Duration::MAX),
    );
    set.fail(0, S(1));
    assert!(set.probe(0, Caller::Any, S(1 << 40)).is_none());
    assert!(set.endpoints[0].is_out());
}
