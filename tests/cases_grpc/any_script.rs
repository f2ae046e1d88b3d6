//! Whatever servers say and callers do: what must always hold.

use std::{error::Error as _, time::Duration};

use evenkeel::breaker::State;
use evenkeel::{Backoff, CallPolicy, Channel, Disposition, Ejection, Error, Random, Retry};
use futures::{StreamExt, future::join_all, stream};
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use crate::{
    SERVICE, builder,
    echo::{Message, echo_client::EchoClient},
    message, millis,
    service::Told,
    support::raw_h2::{
        Act, CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, RawServer,
    },
};

/// Draws from 0 up to `n`, `n` left out.
fn draw(random: &Random, n: u64) -> usize {
    (random.next_u64() % n) as usize
}

fn act(random: &Random) -> Act {
    const CODES: [u32; 5] = [
        NO_ERROR,
        INTERNAL_ERROR,
        REFUSED_STREAM,
        CANCEL,
        ENHANCE_YOUR_CALM,
    ];
    const PAGES: [u16; 6] = [200, 204, 401, 429, 500, 503];
    let code = CODES[draw(random, 5)];
    match draw(random, 10) {
        0 => Act::OK,
        1 => Act::Answer {
            messages: draw(random, 3),
            status: draw(random, 17) as u8,
        },
        2 => Act::TrailersOnly(draw(random, 18) as u8),
        3 => Act::NoStatus,
        4 => Act::OnlyHead,
        5 => Act::Page(PAGES[draw(random, 6)]),
        6 => Act::Reset {
            messages: draw(random, 2),
            code,
        },
        7 => Act::GoAwayBelow(code),
        8 => Act::GoAwayAt(code),
        _ => Act::GoAwayThenAnswer,
    }
}

/// Whether it proves that nothing was processed.
fn is_refusal(act: Act) -> bool {
    matches!(
        act,
        Act::GoAwayBelow(_)
            | Act::Reset {
                messages: 0,
                code: REFUSED_STREAM
            }
    )
}

/// How a call ended: `Ok` if well.
async fn call(channel: &Channel, streams: bool) -> Result<(), Status> {
    let mut echo = EchoClient::new(channel.clone());
    if !streams {
        return echo.unary(message("x")).await.map(drop);
    }
    let mut replies = echo.repeat(message("x")).await?.into_inner();
    while replies.message().await?.is_some() {}
    Ok(())
}

/// What must hold of a call that met these acts.
fn check(acts: &[Act], idempotent: bool, ended: &Result<(), Status>) {
    let processed = acts.iter().filter(|act| !is_refusal(**act)).count();
    let what = format!("{acts:?}, idempotent {idempotent}: {ended:?}");
    assert!(acts.len() <= 3 && (idempotent || processed <= 1), "{what}");
    let Some(last) = acts.last() else { return };
    let said = match *last {
        Act::OK => Some(Code::Ok),
        Act::TrailersOnly(code)
        | Act::Answer {
            messages: 0,
            status: code,
        } if code != 0 => Some(Code::from(i32::from(code))),
        _ => None,
    };
    let shown = ended.as_ref().map_or_else(Status::code, |()| Code::Ok);
    assert!(said.is_none_or(|said| said == shown), "{what}");
    let source = ended.as_ref().err().and_then(Status::source);
    if let Some(error) = source.and_then(|source| source.downcast_ref::<Error>()) {
        let claims_none = error.disposition() < Disposition::Answered;
        assert_eq!(claims_none, processed == 0, "{what}");
        // One on a connection that was going away may not have arrived.
        assert!(error.report().attempts().len() >= acts.len(), "{what}");
        assert!(!error.to_string().contains(char::is_control), "{what}");
    }
}

#[tokio::test]
async fn whatever_a_server_says_nothing_is_done_twice_that_must_not_be_and_no_claim_is_false() {
    let random = Random::seeded(7);
    let quick = Backoff::default().initial(millis(1)).max(millis(2));
    let retry = Retry::default().without_budget().backoff(quick);
    for round in 0..200 {
        let script: Vec<_> = (0..12).map(|_| act(&random)).collect();
        let server = RawServer::start(script);
        let (idempotent, unary) = (round % 2 == 0, round % 4 < 2);
        let policy = CallPolicy::new().idempotent(idempotent).unary(unary);
        let channel = builder([server.address()])
            .no_circuit_breaker()
            .ejection(Ejection::off())
            .retry(retry.clone())
            .method(SERVICE, policy)
            .build_tonic(Ok)
            .unwrap();
        for streams in [false, false, true, true] {
            let before = server.seen().len();
            let ended = call(&channel, streams).await;
            let seen = server.seen().split_off(before);
            // One that came after the end of its connection was answered by nobody.
            let acts: Option<Vec<_>> = seen.iter().map(|seen| seen.act).collect();
            if let Some(acts) = acts {
                check(&acts, idempotent, &ended);
            }
            assert_eq!(channel.endpoints()[0].in_flight, 0, "{seen:?}");
        }
    }
}

/// One call of any kind by a caller that may lose patience.
async fn impatient(channel: Channel, random: &Random) {
    let (kind, delay) = (draw(random, 4), draw(random, 30));
    let patience = [millis(10), Duration::from_secs(9)][draw(random, 2)];
    let mut echo = EchoClient::new(channel);
    let parts = || stream::iter(["a", "b", "c"]).map(message);
    let mut request = Request::new(message("x"));
    let told = delay.to_string().parse().unwrap();
    request.metadata_mut().insert("x-delay", told);
    let call = async {
        match kind {
            0 => drop(echo.unary(request).await),
            1 => drop(echo.collect(parts()).await),
            2 => {
                if let Ok(replies) = echo.repeat(request).await {
                    let replies: Vec<_> = replies.into_inner().take(delay % 4).collect().await;
                    assert!(replies.iter().all(Result::is_ok));
                }
            }
            _ => {
                if let Ok(answers) = echo.chat(parts()).await {
                    let texts: Vec<_> = answers
                        .into_inner()
                        .map(|answer: Result<Message, _>| answer.unwrap().text)
                        .collect()
                        .await;
                    assert_eq!(texts, ["a", "b", "c"]);
                }
            }
        }
    };
    // Dropped where it is.
    let _ = timeout(patience, call).await;
}

// CLS-03, RUN-06
#[tokio::test]
async fn callers_that_lose_patience_anywhere_are_nobodys_fault_and_leave_nothing_behind() {
    let (random, server) = (Random::seeded(11), Told::start());
    let channel = builder([server.address()]).build_tonic(Ok).unwrap();
    for _ in 0..20 {
        join_all((0..25).map(|_| impatient(channel.clone(), &random))).await;
    }
    assert_eq!(channel.endpoints()[0].in_flight, 0);
    server.counts.rest().await;
    let breaker = channel.circuit_breaker().snapshot();
    assert_eq!((breaker.state, breaker.failed), (State::Closed, 0));
    assert!(breaker.abandoned > 0, "{breaker:?}");
    assert_eq!(channel.endpoints()[0].penalty, 1.0);
}
