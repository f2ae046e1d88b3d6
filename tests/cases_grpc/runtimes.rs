//! One channel and many runtimes.

use std::{
    net::SocketAddr,
    panic,
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel::{BoxError, CallPolicy, Channel, Discover, Disposition, Endpoint, ErrorKind};
use futures::{
    StreamExt, executor,
    stream::{self, BoxStream},
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::{LocalSet, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};
use tonic::Code;

use crate::{
    ORIGIN, builder, channel, echo::echo_client::EchoClient, good, message, millis, ours,
    service::Told, support::server::Server, told,
};

const S: fn(u64) -> Duration = Duration::from_secs;

static SERVER: LazyLock<Told> = LazyLock::new(Told::start);
static CHANNEL: LazyLock<Channel> = LazyLock::new(|| channel([SERVER.address()]));

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

async fn call(channel: &Channel) {
    let mut echo = EchoClient::new(channel.clone());
    echo.unary(message("x")).await.unwrap();
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_static_channel_serves_every_kind_of_runtime_one_after_another() {
    for _ in 0..3 {
        one_thread().block_on(call(&CHANNEL));
        two_threads().block_on(async {
            call(&CHANNEL).await;
            let handle = Handle::current();
            let blocking = spawn_blocking(move || handle.block_on(call(&CHANNEL)));
            blocking.await.unwrap();
        });
        let local = LocalSet::new();
        one_thread().block_on(local.run_until(async {
            let not_send = Rc::new(());
            let local = spawn_local(async move {
                call(&CHANNEL).await;
                drop(not_send);
            });
            local.await.unwrap();
        }));
    }
}

#[test]
fn runtimes_that_end_in_the_middle_of_calls_disturb_no_other() {
    let server = Told::start();
    let channel = builder([server.address()]).no_circuit_breaker();
    let channel = channel.build_tonic(Ok).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let stays = {
        let (channel, over) = (channel.clone(), Arc::clone(&over));
        thread::spawn(move || {
            two_threads().block_on(async {
                let mut calls = 0;
                while !over.load(SeqCst) {
                    call(&channel).await;
                    calls += 1;
                }
                calls
            })
        })
    };
    for _ in 0..20 {
        let runtime = two_threads();
        for _ in 0..4 {
            let mut echo = EchoClient::new(channel.clone());
            runtime.spawn(async move { while echo.unary(message("x")).await.is_ok() {} });
        }
        thread::sleep(millis(10));
        drop(runtime);
    }
    over.store(true, SeqCst);
    assert!(stays.join().unwrap() > 0);
    assert_eq!(channel.endpoints()[0].in_flight, 0);
}

#[test]
fn a_stream_or_a_call_whose_runtime_ended_is_an_error_elsewhere_and_no_hang() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    let first = two_threads();
    let mut events = told("x-every", "100");
    events
        .extensions_mut()
        .insert(CallPolicy::new().no_deadline());
    let mut stream = first.block_on(echo.repeat(events)).unwrap().into_inner();
    let mut slow = Box::pin(async move { echo.unary(told("x-ignore", "1")).await });
    first.block_on(async {
        assert!(timeout(millis(100), &mut slow).await.is_err());
    });
    drop(first);
    one_thread().block_on(async {
        let status = timeout(S(2), slow).await.expect("no hang").unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(ours(&status).disposition(), Disposition::Unknown);
        let last = async {
            loop {
                if let Err(status) = stream.message().await {
                    break status;
                }
            }
        };
        let status = timeout(S(2), last).await.expect("no hang");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        call(&channel).await;
    });
    assert_eq!(channel.endpoints()[0].in_flight, 0);
}

#[test]
fn streams_channels_and_calls_that_never_began_are_dropped_outside_a_runtime() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let mut echo = EchoClient::new(channel.clone());
    let runtime = two_threads();
    let answers = runtime.block_on(echo.chat(stream::pending())).unwrap();
    drop(echo.unary(message("x")));
    drop(answers);
    assert_eq!(channel.endpoints()[0].in_flight, 0);
    drop((echo, channel));
    drop(runtime);
}

#[test]
fn a_name_is_looked_up_again_in_the_next_runtime_and_without_one_is_an_error() {
    let server = Told::start();
    let origin = format!("http://localhost:{}", server.address().port());
    let channel = Channel::builder(origin).build_tonic(Ok).unwrap();
    let mut echo = EchoClient::new(channel.clone());
    let status = executor::block_on(echo.unary(message("x"))).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(ours(&status).kind(), ErrorKind::NoEndpoints);
    for _ in 0..3 {
        one_thread().block_on(call(&channel));
    }
}

#[test]
fn a_runtime_without_sockets_is_an_error_of_the_call_and_no_panic_in_it() {
    let server = Told::start();
    let channel = channel([server.address()]);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let started = Instant::now();
    let answer = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        runtime.block_on(async { EchoClient::new(channel.clone()).unary(message("x")).await })
    }));
    let status = answer.expect("no panic").unwrap_err();
    assert!(!ours(&status).may_have_happened(), "{status}");
    assert!(started.elapsed() < S(2));
    one_thread().block_on(call(&channel));
}

/// Finds the server after half a second, and counts how often it is asked to.
struct Slowly(SocketAddr, Arc<AtomicUsize>);

impl Discover for Slowly {
    fn watch(&self) -> BoxStream<'static, Result<Vec<Endpoint>, BoxError>> {
        self.1.fetch_add(1, SeqCst);
        let found = Ok(vec![Endpoint::new(self.0)]);
        let found = stream::once(async {
            sleep(millis(500)).await;
            found
        });
        found.chain(stream::pending()).boxed()
    }
}

// LB-05, RUN-03
#[test]
fn a_discovery_whose_runtime_ends_is_begun_again_for_those_who_wait_elsewhere() {
    let (server, watches) = (Told::start(), Arc::new(AtomicUsize::new(0)));
    let channel = Channel::builder(ORIGIN)
        .discover(Slowly(server.address(), Arc::clone(&watches)))
        .build_tonic(Ok)
        .unwrap();
    let first = two_threads();
    let mut echo = EchoClient::new(channel.clone());
    first.spawn(async move { echo.unary(message("x")).await });
    while watches.load(SeqCst) == 0 {
        thread::sleep(millis(5));
    }
    let waits = thread::spawn(move || one_thread().block_on(call(&channel)));
    thread::sleep(millis(100));
    drop(first);
    waits.join().unwrap();
    assert!(watches.load(SeqCst) >= 2);
}

// RUN-07, linkerd/linkerd2-proxy#285
#[tokio::test]
async fn channels_that_are_dropped_leave_no_task_and_no_connection_behind() {
    let server = Server::start([]);
    server.otherwise(good());
    let named = format!("http://localhost:{}", server.address().port());
    for round in 0..50 {
        let channel = match round % 2 {
            0 => channel([server.address()]),
            _ => Channel::builder(&named).build_tonic(Ok).unwrap(),
        };
        let patience = if round % 5 == 4 { millis(1) } else { S(5) };
        let mut echo = EchoClient::new(channel);
        // The last one is dropped in the middle of its lookup, or of its call.
        let _ = timeout(patience, echo.unary(message("x"))).await;
    }
    let metrics = Handle::current().metrics();
    let limit = Instant::now() + S(5);
    while metrics.num_alive_tasks() > 0 || server.open_connections() > 0 {
        let left = (metrics.num_alive_tasks(), server.open_connections());
        assert!(Instant::now() < limit, "tasks and connections: {left:?}");
        sleep(millis(10)).await;
    }
}
