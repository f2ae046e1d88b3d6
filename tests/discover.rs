//! What every source of endpoints keeps to: whole sets, errors that take nothing away, and few lookups.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evenkeel::{
    BoxError, Random,
    discover::{Discover, Endpoint, Fixed, LookupHost, from_stream},
};
use futures::{FutureExt, StreamExt, channel::mpsc, stream::BoxStream};
use tokio::time::Instant;

type Watch = BoxStream<'static, Result<Vec<Endpoint>, BoxError>>;

fn at(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 8443).into()
}

fn set(lasts: &[u8]) -> Vec<Endpoint> {
    lasts.iter().map(|last| Endpoint::new(at(*last))).collect()
}

/// A source whose n-th lookup, from 0, answers what `answers` makes of n; and how often it looked up.
fn scripted(
    answers: impl Fn(usize) -> Result<Vec<SocketAddr>, BoxError> + Send + Sync + 'static,
) -> (LookupHost, Arc<AtomicUsize>) {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    let resolver =
        move |_: &str, _: u16| std::future::ready(answers(counted.fetch_add(1, Ordering::SeqCst)));
    (
        LookupHost::new("payments.internal:8443")
            .random(Random::seeded(7))
            .resolver(resolver),
        lookups,
    )
}

fn unreachable_resolver() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionRefused).into()
}

async fn next(watch: &mut Watch) -> Result<Vec<Endpoint>, BoxError> {
    watch.next().await.expect("the watch goes on")
}

fn assert_about(elapsed: Duration, expected: Duration) {
    let range = expected.mul_f64(0.8).max(Duration::from_secs(1))
        ..=expected.mul_f64(1.2) + Duration::from_millis(1);
    assert!(
        range.contains(&elapsed),
        "{elapsed:?}, expected about {expected:?}"
    );
}

// DSC-01, cortexproject/cortex#7698, haproxy/haproxy#345
#[tokio::test(start_paused = true)]
async fn a_failed_lookup_is_an_error_and_never_a_smaller_set() {
    let (source, _) = scripted(|n| {
        if (1..=3).contains(&n) {
            Err(unreachable_resolver())
        } else {
            Ok(vec![at(1), at(2)])
        }
    });
    let mut watch = source.watch();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1, 2]));
    for seconds in [30, 1, 2] {
        let start = Instant::now();
        let error = next(&mut watch).await.unwrap_err();
        assert!(error.to_string().contains("payments.internal"), "{error}");
        assert!(error.source().is_some(), "the reason is kept");
        assert_about(start.elapsed(), Duration::from_secs(seconds));
    }
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1, 2]));
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_up_to_the_usual_delay_and_an_answer_ends_that() {
    let (source, _) = scripted(|n| {
        if n < 8 || n == 9 {
            Err(unreachable_resolver())
        } else {
            Ok(vec![at(1)])
        }
    });
    let mut watch = source.watch();
    assert!(next(&mut watch).await.is_err());
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let start = Instant::now();
        assert!(next(&mut watch).await.is_err());
        assert_about(start.elapsed(), Duration::from_secs(seconds));
    }
    assert!(next(&mut watch).await.is_ok());
    assert!(next(&mut watch).await.is_err());
    let start = Instant::now();
    assert!(next(&mut watch).await.is_ok());
    assert_about(start.elapsed(), Duration::from_secs(1));
}

// DSC-02, apple/servicetalk#2776: the system does not tell "no such name" from "no answer"; a resolver that knows
// answers with an empty set, and the balancer decides what that means.
#[tokio::test(start_paused = true)]
async fn only_an_answer_without_addresses_is_an_empty_set() {
    let (source, _) = scripted(|n| if n == 1 { Ok(vec![]) } else { Ok(vec![at(1)]) });
    let mut watch = source.watch();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1]));
    assert_eq!(next(&mut watch).await.unwrap(), set(&[]));
    let start = Instant::now();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1]));
    assert_about(start.elapsed(), Duration::from_secs(30));
}

// DSC-03, temporalio/sdk-rust#1266, sems-server/sems#593
#[tokio::test(start_paused = true)]
async fn lookups_are_never_closer_than_a_second() {
    for (every, most) in [(1, 61), (5, 15), (30, 3)] {
        let (source, lookups) = scripted(|_| Ok(vec![at(1)]));
        let source = source.refresh_every(Duration::from_secs(every));
        let watching = tokio::spawn(source.watch().for_each(|_| std::future::ready(())));
        tokio::time::sleep(Duration::from_secs(60)).await;
        watching.abort();
        let made = lookups.load(Ordering::SeqCst);
        assert!(
            (2..=most).contains(&made),
            "{made} lookups in a minute, asked for every {every} s"
        );
    }
}

#[test]
fn an_interval_below_a_second_is_refused() {
    for every in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(999),
    ] {
        let refused = LookupHost::new("a:80")
            .refresh_every(every)
            .check()
            .unwrap_err();
        assert_eq!(
            (refused.field(), refused.value()),
            ("LookupHost::refresh_every", format!("{every:?}").as_str())
        );
    }
    assert!(
        LookupHost::new("a:80")
            .refresh_every(Duration::from_secs(1))
            .check()
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_not_checked_says_what_is_wrong_and_looks_nothing_up() {
    let (source, lookups) = scripted(|_| Ok(vec![at(1)]));
    let answers: Vec<_> = source.refresh_every(Duration::ZERO).watch().collect().await;
    assert!(
        matches!(&answers[..], [Err(refused)] if refused.to_string().contains("refresh_every"))
    );
    assert_eq!(lookups.load(Ordering::SeqCst), 0);
    let answers: Vec<_> = LookupHost::new("payments.internal").watch().collect().await;
    assert!(
        matches!(&answers[..], [Err(refused)] if refused.to_string().contains("payments.internal"))
    );
    let answers: Vec<_> = Fixed::new(Vec::<SocketAddr>::new()).watch().collect().await;
    assert!(matches!(&answers[..], [Err(refused)] if refused.to_string().contains("at least one")));
}

// TMO-08, tokio-rs/tokio#3551, #5183, #6634
#[tokio::test(start_paused = true)]
async fn the_longest_interval_means_one_lookup() {
    let (source, lookups) = scripted(|n| {
        if n < 2 {
            Err(unreachable_resolver())
        } else {
            Ok(vec![at(1)])
        }
    });
    let answers: Vec<_> = source.refresh_every(Duration::MAX).watch().collect().await;
    assert_eq!(
        answers
            .iter()
            .map(|answer| answer.is_ok())
            .collect::<Vec<_>>(),
        [false, false, true]
    );
    assert_eq!(lookups.load(Ordering::SeqCst), 3);

    for nearly in [
        Duration::MAX - Duration::from_nanos(1),
        Duration::from_secs(u64::MAX / 10),
    ] {
        let (source, lookups) = scripted(|_| Ok(vec![at(1)]));
        let mut watch = source.refresh_every(nearly).watch();
        assert!(next(&mut watch).await.is_ok());
        assert!(watch.next().now_or_never().is_none());
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert!(watch.next().now_or_never().is_none());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_fails_and_is_repeated() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    let source = LookupHost::new("payments.internal:8443").resolver(move |_, _| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending().await
            } else {
                Ok(vec![at(1)])
            }
        }
    });
    let mut watch = source.watch();
    let start = Instant::now();
    let error = next(&mut watch).await.unwrap_err();
    assert!(start.elapsed() >= Duration::from_secs(15));
    let reason = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .expect("an io error");
    assert_eq!(reason.kind(), io::ErrorKind::TimedOut);
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1]));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_panics_has_failed_and_is_asked_again() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    let source = LookupHost::new("payments.internal:8443").resolver(move |_, _| {
        let lookup = counted.fetch_add(1, Ordering::SeqCst);
        assert!(lookup != 0, "the call panics");
        async move {
            tokio::task::yield_now().await;
            assert!(lookup != 1, "the future panics");
            Ok(vec![at(1)])
        }
    });
    let mut watch = source.watch();
    for _ in 0..2 {
        let error = next(&mut watch).await.unwrap_err();
        let reason = error.source().map(ToString::to_string);
        assert_eq!(reason.as_deref(), Some("the resolver panicked"));
    }
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1]));
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test(start_paused = true)]
async fn a_watch_dropped_in_mid_lookup_looks_nothing_up_any_more() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    let source = LookupHost::new("payments.internal:8443").resolver(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let mut watch = source.watch();
    assert!(watch.next().now_or_never().is_none());
    drop(watch);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    drop(source);
    assert_eq!(Arc::strong_count(&lookups), 1, "nothing holds the source");
}

// ADR-02, cfal/shoes#155, open-telemetry/opentelemetry-java-instrumentation#19540
#[tokio::test]
async fn an_address_is_never_looked_up() {
    for (source, expected) in [
        (LookupHost::new("[::1]:8080"), "[::1]:8080"),
        (LookupHost::new("10.0.0.1:8080"), "10.0.0.1:8080"),
        (
            LookupHost::from(("2001:db8::10", 1079)),
            "[2001:db8::10]:1079",
        ),
        (
            LookupHost::from(("[::ffff:10.0.0.1]", 1079)),
            "[::ffff:10.0.0.1]:1079",
        ),
        (LookupHost::from(("fe80::1%3", 1079)), "[fe80::1%3]:1079"),
    ] {
        let source =
            source.resolver(|name, _| -> std::future::Ready<_> { panic!("{name} was looked up") });
        let expected = vec![expected.parse::<Endpoint>().unwrap()];
        assert_eq!(source.fixed(), Some(expected.clone()));
        let answers: Vec<_> = source.watch().map(|answer| answer.unwrap()).collect().await;
        assert_eq!(answers, [expected]);
    }
    for text in ["[example.com]:80", "[::1", "[::1]", "2001:db8::10:80"] {
        assert!(LookupHost::try_new(text).is_err(), "{text}");
    }
}

// LB-12, envoyproxy/envoy#433, grpc/grpc-java#11342
#[tokio::test(start_paused = true)]
async fn a_repeated_address_counts_once_in_every_answer() {
    let (source, _) = scripted(|_| Ok(vec![at(1), at(1), at(2)]));
    let mut watch = source.watch();
    for _ in 0..1000 {
        assert_eq!(next(&mut watch).await.unwrap(), set(&[1, 2]));
    }
    let mut watch = from_stream(futures::stream::iter([vec![at(1), at(2), at(1)]])).watch();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1, 2]));
}

// DSC-09, linkerd/linkerd2#573
#[tokio::test]
async fn each_item_of_a_stream_is_the_whole_set() {
    let (items, stream) = mpsc::unbounded::<Result<Vec<SocketAddr>, io::Error>>();
    let mut watch = from_stream(stream).watch();
    items.unbounded_send(Ok(vec![at(1), at(2)])).unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1, 2]));
    items
        .unbounded_send(Err(io::ErrorKind::ConnectionReset.into()))
        .unwrap();
    assert!(next(&mut watch).await.unwrap_err().is::<io::Error>());
    items.unbounded_send(Ok(vec![at(1)])).unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), set(&[1]));
    drop(items);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_stream_of_weighted_endpoints_keeps_their_settings() {
    let weighted = vec![
        Endpoint::new(at(1)).with_weight(3).with_zone("a"),
        Endpoint::new(([10, 0, 0, 2], 0).into()),
    ];
    let mut watch = from_stream(futures::stream::iter([weighted])).watch();
    let answer = next(&mut watch).await.unwrap();
    assert_eq!(answer, set(&[1]), "port 0 is left out");
    assert_eq!(
        (answer[0].weight(), answer[0].zone().map(|zone| &**zone)),
        (3, Some("a"))
    );
}

// RUN-02, tower-rs/tower#139, tokio-rs/tokio#1713
#[test]
fn sources_are_built_watched_and_dropped_without_a_runtime() {
    let sources: Vec<Box<dyn Discover>> = vec![
        Box::new(Fixed::new([at(1)])),
        Box::new(LookupHost::new("payments.internal:8443")),
        Box::new(from_stream(futures::stream::pending::<Vec<SocketAddr>>())),
        Box::new(Arc::new(Fixed::new([at(1)]))),
    ];
    for source in sources {
        assert!(source.check().is_ok());
        drop(source.watch());
    }
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_source_is_watched_again_on_a_second_runtime() {
    let source = LookupHost::new("localhost:8443");
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut watch = source.watch();
        runtime.spawn(async move { watch.next().await });
        let found = runtime.block_on(async { next(&mut source.watch()).await.unwrap() });
        assert!(!found.is_empty());
    }
}

#[tokio::test]
async fn the_system_resolves_names_and_its_failure_names_the_name() {
    let found = next(&mut LookupHost::new("localhost:8443").watch())
        .await
        .unwrap();
    assert!(
        found
            .iter()
            .all(|endpoint| endpoint.address().ip().is_loopback()
                && endpoint.address().port() == 8443)
    );
    assert!(!found.is_empty());
    let error = next(&mut LookupHost::new("no-such-name.invalid:80").watch())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no-such-name.invalid"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_the_same_delays() {
    let mut delays = Vec::new();
    for _ in 0..2 {
        let (source, _) = scripted(|_| Ok(vec![at(1)]));
        let mut watch = source.random(Random::seeded(3)).watch();
        let start = Instant::now();
        for _ in 0..5 {
            next(&mut watch).await.unwrap();
        }
        delays.push(start.elapsed());
    }
    assert_eq!(delays[0], delays[1]);
}
