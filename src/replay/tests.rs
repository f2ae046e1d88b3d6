use http_body_util::{BodyExt, StreamBody};

use super::*;

type Chunks = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, String>>>>;

fn chunks(parts: &[&'static str]) -> Chunks {
    let frames: Vec<_> = parts
        .iter()
        .map(|part| match *part {
            "!" => Err("broken".to_owned()),
            "." => Ok(Frame::trailers(HeaderMap::new())),
            data => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
        })
        .collect();
    StreamBody::new(futures::stream::iter(frames))
}

fn start(parts: &[&'static str], limit: usize) -> (Recording<Chunks>, Tape<Chunks>) {
    let recording = Recording::start(chunks(parts), limit, None);
    let tape = recording.tape();
    (recording, tape)
}

async fn whole<B>(body: B) -> Bytes
where
    B: HttpBody<Data = Bytes>,
    B::Error: fmt::Debug,
{
    body.collect().await.expect("a body").to_bytes()
}

#[tokio::test]
async fn a_body_that_was_not_touched_is_handed_on() {
    let (first, tape) = start(&["ab", "cd"], 0);
    assert_eq!(
        tape.replayable(false),
        Err(Stop::BodyNotReplayable),
        "still with attempt 1"
    );
    drop(first);
    assert_eq!(tape.replayable(false), Ok(()));
    assert_eq!(tape.replayable(true), Err(Stop::EarlyAnswer));
    assert_eq!(whole(tape.again()).await, "abcd");
}

#[tokio::test]
async fn what_was_sent_comes_first_and_then_the_rest() {
    let (mut first, tape) = start(&["ab", "cd", "ef", "."], 100);
    for _ in 0..2 {
        first.frame().await.expect("a frame").expect("data");
    }
    drop(first);
    let mut second = tape.again();
    assert_eq!(second.size_hint().lower(), 4);
    let replayed = second.frame().await.expect("a frame").expect("data");
    assert_eq!(replayed.into_data().expect("data"), "abcd");
    assert!(!second.is_end_stream());
    drop(second);
    let third = tape.again().collect().await.expect("a body");
    assert!(third.trailers().is_some());
    assert_eq!(third.to_bytes(), "abcdef");
    let fourth = tape.again();
    assert_eq!(fourth.size_hint().exact(), Some(6), "complete by now");
    assert_eq!(whole(fourth).await, "abcdef");
}

#[tokio::test]
async fn above_the_limit_nothing_is_kept_and_the_attempt_goes_on() {
    let (first, tape) = start(&["ab", "cd", "ef"], 5);
    assert_eq!(whole(first).await, "abcdef");
    assert_eq!(tape.replayable(false), Err(Stop::BodyNotReplayable));
    assert_eq!(lock(&tape.0).bytes.capacity(), 0);
    let (first, tape) = start(&["ab", "cd", "ef"], 6);
    assert_eq!(whole(first).await, "abcdef");
    assert_eq!(tape.replayable(true), Ok(()));
}

#[tokio::test]
async fn a_call_that_is_over_frees_the_tape_while_the_body_is_still_sent() {
    let (mut first, tape) = start(&["ab", "cd"], 100);
    first.frame().await.expect("a frame").expect("data");
    tape.stop();
    assert_eq!(lock(&tape.0).bytes.capacity(), 0);
    assert_eq!(whole(first).await, "cd");
    assert_eq!(lock(&tape.0).bytes.capacity(), 0);
}

#[tokio::test]
async fn a_body_that_fails_is_not_replayed() {
    let (first, tape) = start(&["ab", "!"], 100);
    assert!(first.collect().await.is_err());
    assert_eq!(tape.replayable(false), Err(Stop::BodyNotReplayable));
}

#[tokio::test]
async fn a_body_whose_announced_length_was_taken_is_complete() {
    let mut first = Recording::start(chunks(&["ab", "cd"]), 100, Some(4));
    let tape = first.tape();
    first.frame().await.expect("a frame").expect("data");
    assert_eq!(tape.replayable(true), Err(Stop::EarlyAnswer));
    first.frame().await.expect("a frame").expect("data");
    assert_eq!(
        tape.replayable(true),
        Err(Stop::BodyNotReplayable),
        "trailers may follow"
    );
    drop(first);
    assert_eq!(tape.replayable(true), Ok(()), "nobody asked for its end");
    assert_eq!(whole(tape.again()).await, "abcd");
}

#[tokio::test]
async fn a_recorded_body_ends_when_its_stream_does() {
    let full = Full::new(Bytes::from("abc"));
    let mut first = Recording::start(full, 100, None);
    assert_eq!(first.size_hint().exact(), Some(3));
    first.frame().await.expect("a frame").expect("data");
    assert!(first.is_end_stream());
    let tape = first.tape();
    let again = tape.again();
    assert!(!again.is_end_stream());
    assert_eq!(again.size_hint().exact(), Some(3));
}
