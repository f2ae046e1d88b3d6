//! Runtimes.

use super::*;

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

// RUN-03, seanmonstar/reqwest#1148
#[test]
fn a_channel_is_built_without_a_runtime_and_outlives_those_it_is_used_in() {
    let server = EchoServer::start([]);
    let echo = client([server.address()]);
    for _ in 0..3 {
        let runtime = current_thread();
        for _ in 0..2 {
            let mut echo = echo.clone();
            runtime
                .block_on(echo.unary(message("x")))
                .expect("an answer");
        }
    }
    assert_eq!(server.calls(), 6);
}

#[test]
fn runtimes_that_live_side_by_side_do_not_wait_for_one_another() {
    let server = EchoServer::start([]);
    let echo = client([server.address()]);
    let runtimes = [current_thread(), current_thread()];
    for _ in 0..3 {
        for runtime in &runtimes {
            let mut echo = echo.clone();
            // The other one is not driven meanwhile.
            runtime
                .block_on(echo.unary(message("x")))
                .expect("an answer");
        }
    }
    assert_eq!(server.calls(), 6);
}

#[test]
fn without_a_runtime_a_call_is_an_error_and_no_panic() {
    let server = EchoServer::start([]);
    let mut echo = client([server.address()]);
    let status = futures::executor::block_on(echo.unary(message("x"))).expect_err("no runtime");
    assert!(status.message().contains("runtime"), "{status}");
    assert!(!ours(&status).may_have_happened());
    current_thread()
        .block_on(echo.unary(message("x")))
        .expect("an answer");
}

#[test]
fn a_call_whose_runtime_ends_is_over_and_the_next_one_elsewhere_works() {
    let server = EchoServer::start([Act::AnswerAfter(Duration::from_secs(60))]);
    let mut echo = client([server.address()]);
    let first = current_thread();
    let mut cut = echo.clone();
    first.spawn(async move { cut.unary(message("cut")).await });
    first.block_on(async {
        while server.calls() < 1 {
            sleep(millis(5)).await;
        }
    });
    drop(first);
    current_thread()
        .block_on(echo.unary(message("x")))
        .expect("an answer");
}
