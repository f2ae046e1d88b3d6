//! The services of endpoints.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("no certificate")]
struct NoCertificate;

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_service_cannot_be_made_is_left_out_and_says_why() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    let (make, broken) = (fleet.make(), Arc::new(AtomicBool::new(true)));
    let fails = Arc::clone(&broken);
    let balancer = Balancer::builder(sets.clone());
    let balancer = balancer.build(move |endpoint| match endpoint.address().port() {
        1 if fails.load(Ordering::Relaxed) => Err(NoCertificate.into()),
        _ => make(endpoint),
    });
    let balancer = balancer.unwrap();
    many(&balancer, 50, 1).await;
    assert_eq!((fleet.calls(1), fleet.calls(2)), (0, 50));
    let EndpointState::Failed { reason } = status(&balancer, 1).state else {
        panic!("it has no service")
    };
    assert!(
        reason.contains("no certificate") && reason.contains("10.0.0.1:1"),
        "{reason}"
    );

    broken.store(false, Ordering::Relaxed);
    sets.answer(endpoints([1, 2]));
    settle().await;
    assert!(matches!(status(&balancer, 1).state, EndpointState::Joining));
}

#[tokio::test(start_paused = true)]
async fn if_no_service_can_be_made_calls_fail_at_once_with_the_reason() {
    let builders: [fn() -> evenkeel::BalancerConfig; 2] = [
        || Balancer::builder(fixed([1, 2])),
        || Balancer::builder(Sets::of([1, 2])),
    ];
    for builder in builders {
        let balancer: Balancer<Member> = builder().build(|_| Err(NoCertificate.into())).unwrap();
        let error = port(&balancer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoEndpoints);
        let mut source = error.source();
        while source.is_some_and(|source| !source.is::<NoCertificate>()) {
            source = source.and_then(std::error::Error::source);
        }
        assert!(source.is_some(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_service_is_made_leaves_the_others_in_service() {
    let (fleet, sets) = (Fleet::default(), Sets::of([1, 2]));
    let make = fleet.make();
    let balancer = Balancer::builder(sets.clone());
    let balancer = balancer.build(move |endpoint| {
        assert!(
            endpoint.address().port() != 1,
            "a fault of the user's function"
        );
        make(endpoint)
    });
    let balancer = balancer.unwrap();
    assert_eq!(port(&balancer).await.unwrap(), 2);
    assert!(matches!(
        status(&balancer, 1).state,
        EndpointState::Failed { .. }
    ));
    sets.answer(endpoints([2, 3]));
    settle().await;
    assert_eq!(balancer.endpoints().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_that_take_long_to_make_are_made_off_the_runtime() {
    let fleet = Fleet::default();
    let make = fleet.make();
    let caller = std::thread::current().id();
    let balancer = Balancer::builder(fixed([1, 2])).build_offloaded(move |endpoint| {
        assert_ne!(std::thread::current().id(), caller);
        std::thread::sleep(MS(50));
        make(endpoint)
    });
    let balancer = balancer.unwrap();
    assert_eq!(
        balancer.endpoints().len(),
        0,
        "nothing is made before the first call"
    );
    let other_work = async {
        let start = std::time::Instant::now();
        sleep(MS(5)).await;
        start.elapsed()
    };
    let (answered, held_up) = tokio::join!(port(&balancer), other_work);
    answered.unwrap();
    assert!(held_up < MS(45), "{held_up:?}");
}
