//! Building, runtimes, clones and the end.

use super::*;

// RUN-02, tower-rs/tower#139
#[test]
fn a_balancer_is_built_and_dropped_without_a_runtime() {
    let fleet = Fleet::default();
    drop(
        Balancer::builder(fixed([1, 2]))
            .build(fleet.make())
            .unwrap(),
    );
    drop(
        Balancer::builder(Sets::of([1]))
            .build(fleet.make())
            .unwrap(),
    );
    drop(
        Balancer::builder(fixed([1]))
            .build_offloaded(fleet.make())
            .unwrap(),
    );
}

#[test]
fn outside_a_runtime_a_fixed_set_works_and_discovery_fails_at_once() {
    let fleet = Fleet::default();
    let balancer = Balancer::builder(fixed([1])).build(fleet.make()).unwrap();
    assert_eq!(futures::executor::block_on(port(&balancer)).unwrap(), 1);
    let balancer = Balancer::builder(Sets::of([1]))
        .build(fleet.make())
        .unwrap();
    let error = futures::executor::block_on(port(&balancer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoEndpoints);
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_balancer_outlives_the_runtime_that_discovered_for_it() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1]));
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    for port_now in 1..4 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            sets.answer(endpoints([port_now]));
            port(&balancer).await.unwrap();
            settle().await;
            assert_eq!(port(&balancer).await.unwrap(), port_now);
            assert_eq!(sets.watches(), 1);
        });
    }
}

#[test]
fn a_call_that_waits_starts_discovery_again_when_its_runtime_is_gone() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    first.block_on(async { assert!(timeout(MS(20), port(&balancer)).await.is_err()) });
    let waiting = second.spawn({
        let balancer = balancer.clone();
        async move { port(&balancer).await }
    });
    second.block_on(async { sleep(MS(20)).await });
    drop(first);
    sets.answer(endpoints([1]));
    let answered = second
        .block_on(async { timeout(S(5), waiting).await })
        .expect("woken");
    assert_eq!(answered.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again_by_the_next_call() {
    struct Panics(AtomicUsize);
    impl evenkeel::Discover for Panics {
        fn watch(&self) -> stream::BoxStream<'static, Result<Vec<Endpoint>, evenkeel::BoxError>> {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            let set = move || {
                assert!(!first, "a fault of the source");
                Ok(endpoints([1]))
            };
            stream::once(async move { set() }).boxed()
        }
    }
    let balancer = Balancer::builder(Panics(AtomicUsize::new(0)))
        .build(Fleet::default().make())
        .unwrap();
    assert!(timeout(S(1), port(&balancer)).await.is_err());
    assert_eq!(port(&balancer).await.unwrap(), 1);
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test(start_paused = true)]
async fn discovery_ends_with_the_last_clone() {
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let sets = Sets::of([1]);
    for _ in 0..100 {
        let fleet = Fleet::default();
        let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
        let clone = balancer.clone();
        port(&balancer).await.unwrap();
        drop(balancer);
        settle().await;
        assert_eq!(sets.watches(), 1);
        drop(clone);
        settle().await;
        assert_eq!((sets.watches(), fleet.instances(1)), (0, 0));
    }
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        before
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_discovery_going_after_the_last_clone() {
    let (fleet, sets) = (Fleet::default(), Sets::new());
    let call = Balancer::builder(sets.clone())
        .build(fleet.make())
        .unwrap()
        .oneshot(get());
    let call = tokio::spawn(call);
    sleep(S(1)).await;
    sets.answer(endpoints([1]));
    assert!(call.await.unwrap().is_ok());
    settle().await;
    assert_eq!(sets.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn discovery_starts_with_the_first_call() {
    let sets = Sets::of([1]);
    let balancer = Balancer::builder(sets.clone())
        .build(Fleet::default().make())
        .unwrap();
    settle().await;
    assert_eq!(sets.watches(), 0);
    port(&balancer).await.unwrap();
    assert_eq!(sets.watches(), 1);
}

// RUN-01, SergejJurecko/mio_httpc#9; TMO-08, tokio-rs/tokio#3551
#[tokio::test(start_paused = true)]
async fn endless_settings_are_never_and_overflow_nothing() {
    let fleet = Fleet::default();
    failing(&fleet, [1]);
    for endless in [Duration::MAX, S(u64::MAX / 10)] {
        let builder = Balancer::builder(fixed([1, 2])).pick(Pick::least_cost().decay(endless));
        let ejection = Ejection::consecutive(1).time(endless).max_time(endless);
        let builder = builder
            .ejection(ejection)
            .slow_start(SlowStart::over(endless));
        let balancer = builder.build(fleet.make()).unwrap();
        while ejected(&balancer) == 0 {
            many(&balancer, 1, 1).await;
        }
        advance(S(365 * 24 * 3600)).await;
        fleet.forget_calls();
        many(&balancer, 100, 1).await;
        assert_eq!(fleet.calls(1), 0, "out for ever");
    }
}

// RUN-04, hyperium/hyper#3950, kube-rs/kube#840
#[tokio::test(start_paused = true)]
async fn an_hour_of_paused_time_ends_ejection_penalty_and_slow_start() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    failing(&fleet, [1]);
    let balancer = Balancer::builder(sets.clone())
        .ejection(Ejection::consecutive(1))
        .build(fleet.make())
        .unwrap();
    while status_if_known(&balancer, 1).is_none_or(|status| status.penalty == 1.0) {
        many(&balancer, 1, 1).await;
    }
    sets.answer(endpoints([1, 2, 3]));
    settle().await;
    assert_eq!(status(&balancer, 3).state, EndpointState::Joining);
    let started = std::time::Instant::now();
    advance(S(3600)).await;
    assert_eq!(status(&balancer, 1).penalty, 1.0);
    assert_eq!(status(&balancer, 3).state, EndpointState::Ready);
    fleet.set(1, Manner::Answer(200), MS(1));
    many(&balancer, 10, 1).await;
    assert_eq!(ejected(&balancer), 0);
    assert!(started.elapsed() < S(2), "nobody really slept");
}

fn status_if_known(balancer: &Balancer<Member>, port: u16) -> Option<EndpointStatus> {
    balancer
        .endpoints()
        .into_iter()
        .find(|status| status.address == address(port))
}

#[test]
fn bad_settings_are_refused_where_they_are_built() {
    let built = |builder: evenkeel::BalancerConfig| {
        let result = builder.build(Fleet::default().make());
        result.map(drop).map_err(|refused| refused.field())
    };
    let builder = || Balancer::builder(fixed([1]));
    assert_eq!(built(builder()), Ok(()));
    assert_eq!(
        built(builder().max_in_flight(0)),
        Err("BalancerConfig::max_in_flight")
    );
    assert_eq!(
        built(builder().pick(Pick::choices(0))),
        Err("Pick::candidates")
    );
    assert_eq!(
        built(builder().pick(Pick::least_cost().tolerance(f64::NAN))),
        Err("Pick::tolerance")
    );
    assert_eq!(
        built(builder().ejection(Ejection::consecutive(0))),
        Err("Ejection::consecutive")
    );
    assert_eq!(
        built(builder().slow_start(SlowStart::over(Duration::ZERO))),
        Err("SlowStart::over")
    );
    assert_eq!(
        built(Balancer::builder(Fixed::new(Vec::<Endpoint>::new()))),
        Err("endpoints")
    );
}

#[test]
fn the_balancer_and_its_futures_fit_into_an_applications_state() {
    fn fits<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn sends<T: Send + 'static>(_: &T) {}
    let mut balancer = Balancer::builder(fixed([1]))
        .build(Fleet::default().make())
        .unwrap();
    fits(&balancer);
    sends(&balancer.call(get()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_lose_no_count() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2, 3]));
    fleet.set(2, Manner::Answer(503), Duration::ZERO);
    let balancer = Balancer::builder(sets.clone()).build(fleet.make()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (balancer, done) = (balancer.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..500 {
                    port(&balancer).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut flip = 0;
    while done.load(Ordering::Relaxed) < 4_000 {
        flip += 1;
        sets.answer(if flip % 2 == 0 {
            endpoints([1, 2, 3])
        } else {
            endpoints([2, 3, 4])
        });
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        balancer
            .endpoints()
            .iter()
            .all(|status| status.in_flight == 0)
    );
    assert_eq!((1..5).map(|port| fleet.calls(port)).sum::<usize>(), 4_000);
}
