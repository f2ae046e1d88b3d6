use std::task::Poll;

use bytes::Buf;
use http::{HeaderMap, StatusCode, header::MaxSizeReached};
use http_body::Frame;

use crate::{
    call::is_grpc,
    classify::{awaits_status, is_failure},
};

/// How many empty DATA frames are passed over, so that a server which sends nothing else does not keep us.
const MOST_EMPTY: u8 = 16;

/// One answer, as far as it has been looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// The request is gRPC's.
    grpc: bool,
    /// One message is all that the answer has, so it may be waited for.
    unary: bool,
    /// The empty frames so far.
    empty: u8,
}

/// What follows from the state of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// This frame says nothing: look at the next one.
    Skip,
    /// Look again when there is something.
    Wait,
    /// The attempt failed: these trailers belong into the head.
    Move(&'a HeaderMap),
    /// The answer is the caller's, who may stay with it for longer than it took to get.
    Commit,
    /// The answer is the caller's.
    HandOn,
}

impl Opening {
    pub(crate) fn of(request: &HeaderMap, unary: bool) -> Self {
        Self {
            grpc: is_grpc(request),
            unary,
            empty: 0,
        }
    }

    /// Whether the head leaves it to the body whether the call has failed.
    pub(crate) fn is_open(&self, status: StatusCode, head: &HeaderMap) -> bool {
        self.grpc && awaits_status(status, head)
    }

    /// What follows when the body was polled so.
    pub(crate) fn next<'a, D: Buf>(&mut self, polled: &'a Poll<Option<Frame<D>>>) -> Next<'a> {
        match polled {
            Poll::Pending if self.unary => Next::Wait,
            Poll::Pending => Next::Commit,
            Poll::Ready(None) => Next::HandOn,
            Poll::Ready(Some(frame)) => match frame.trailers_ref() {
                Some(trailers) if is_failure(trailers) => Next::Move(trailers),
                Some(_) => Next::HandOn,
                None => self.data(frame),
            },
        }
    }

    fn data<D: Buf>(&mut self, frame: &Frame<D>) -> Next<'static> {
        let empty = frame.data_ref().is_some_and(|data| !data.has_remaining());
        if empty && self.empty < MOST_EMPTY {
            self.empty += 1;
            return Next::Skip;
        }
        match self.unary {
            true => Next::HandOn,
            false => Next::Commit,
        }
    }
}

/// Adds trailers to a head; what they say in words of gRPC's own replaces what the head said.
///
/// # Errors
/// If they are more than a head can hold: it is as before then.
pub(crate) fn into_head(head: &mut HeaderMap, trailers: &HeaderMap) -> Result<(), MaxSizeReached> {
    let mut whole = head.clone();
    let own = |name: &&http::HeaderName| name.as_str().starts_with("grpc-");
    for name in trailers.keys().filter(own) {
        whole.remove(name);
    }
    for (name, value) in trailers {
        whole.try_append(name.clone(), value.clone())?;
    }
    *head = whole;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    type Polled = Poll<Option<Frame<Bytes>>>;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(entry).collect()
    }

    fn opening(unary: bool) -> Opening {
        Opening::of(&map(&[("content-type", "application/grpc+proto")]), unary)
    }

    fn data(content: &'static str) -> Polled {
        Poll::Ready(Some(Frame::data(Bytes::from(content))))
    }

    fn trailers(pairs: &[(&'static str, &'static str)]) -> Polled {
        Poll::Ready(Some(Frame::trailers(map(pairs))))
    }

    #[test]
    fn only_a_good_head_of_grpc_without_a_status_is_open() {
        let grpc = ("content-type", "application/grpc");
        let is_open = |status, pairs: &[_]| {
            let status = StatusCode::from_u16(status).expect("a status");
            opening(false).is_open(status, &map(pairs))
        };
        assert!(is_open(200, &[grpc]));
        assert!(!is_open(503, &[grpc]));
        assert!(!is_open(200, &[("content-type", "text/html")]));
        for code in ["0", "14", "garbage"] {
            assert!(!is_open(200, &[grpc, ("grpc-status", code)]), "{code}");
        }
        let http = Opening::of(&map(&[("content-type", "application/json")]), true);
        assert!(!http.is_open(StatusCode::OK, &map(&[grpc])));
    }

    #[test]
    fn nothing_is_waited_for_but_the_answer_of_a_unary_method() {
        assert_eq!(opening(true).next::<Bytes>(&Poll::Pending), Next::Wait);
        assert_eq!(opening(false).next::<Bytes>(&Poll::Pending), Next::Commit);
    }

    #[test]
    fn data_commits_and_an_end_is_as_it_came() {
        assert_eq!(opening(true).next(&data("x")), Next::HandOn);
        assert_eq!(opening(false).next(&data("x")), Next::Commit);
        let good = [("grpc-status", "0")];
        for end in [Poll::Ready(None), trailers(&good), trailers(&[("x", "y")])] {
            assert_eq!(opening(false).next(&end), Next::HandOn, "{end:?}");
        }
    }

    #[test]
    fn trailers_that_tell_a_failure_are_for_the_head() {
        for code in ["1", "5", "14", "16", "", "00", "abc"] {
            let end = trailers(&[("grpc-status", code)]);
            let moved = matches!(opening(false).next(&end), Next::Move(_));
            assert!(moved, "{code:?}");
        }
    }

    #[test]
    fn empty_frames_are_passed_over_but_not_without_end() {
        let mut opening = opening(true);
        for _ in 0..MOST_EMPTY {
            assert_eq!(opening.next(&data("")), Next::Skip);
        }
        assert_eq!(opening.next(&data("")), Next::HandOn);
    }

    #[test]
    fn in_the_head_words_of_grpc_are_those_of_the_trailers_and_all_others_stay() {
        let mut head = map(&[
            ("content-type", "application/grpc"),
            ("grpc-message", "early"),
            ("x-tenant", "blue"),
        ]);
        let end = map(&[
            ("grpc-status", "14"),
            ("grpc-message", "late"),
            ("x-tenant", "green"),
            ("x-tenant", "red"),
        ]);
        into_head(&mut head, &end).expect("they fit");
        let all = |name| head.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("grpc-status"), ["14"]);
        assert_eq!(all("grpc-message"), ["late"]);
        assert_eq!(all("x-tenant"), ["blue", "green", "red"]);
        assert_eq!(all("content-type"), ["application/grpc"]);
    }

    #[test]
    fn trailers_that_do_not_fit_leave_the_head_as_it_was() {
        let numbered = |prefix: &str, count: usize| -> HeaderMap {
            let name = |number| HeaderName::try_from(format!("{prefix}-{number}"));
            let entry = |number| (name(number).expect("a name"), HeaderValue::from(number));
            (0..count).map(entry).collect()
        };
        let (mut head, end) = (numbered("head", 20_000), numbered("end", 20_000));
        let before = head.clone();
        assert!(into_head(&mut head, &end).is_err());
        assert_eq!(head, before);
    }

    proptest! {
        #[test]
        fn what_is_not_the_callers_is_bounded(empty in 0_usize..40, unary in any::<bool>()) {
            let mut opening = opening(unary);
            let skipped = (0..empty).filter(|_| opening.next(&data("")) == Next::Skip).count();
            prop_assert_eq!(skipped, empty.min(usize::from(MOST_EMPTY)));
        }
    }
}
