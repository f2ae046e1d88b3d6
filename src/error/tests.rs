use std::io;

use super::*;

#[test]
fn an_error_of_ours_passes_through_a_box_unwrapped() {
    let boxed: BoxError = Box::new(Error::new(ErrorKind::NoEndpoints));
    assert_eq!(Error::from_inner(boxed).kind(), ErrorKind::NoEndpoints);
}

#[test]
fn the_error_below_stays_reachable() {
    let error = Error::from_inner(io::Error::from(io::ErrorKind::BrokenPipe));
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
    assert!(error.may_have_happened(), "nothing is known of it");
}

#[test]
fn the_line_goes_down_to_the_root_cause_and_says_nothing_twice() {
    #[derive(Debug, thiserror::Error)]
    #[error("sending failed")]
    struct Outer(#[source] io::Error);
    let root = io::Error::from(io::ErrorKind::ConnectionRefused);
    let error = Error::from_inner(Outer(io::Error::other(root)));
    let line = error.to_string();
    assert!(
        line.starts_with("upstream failed: sending failed: connection refused; "),
        "{line}"
    );
}

#[test]
fn timeouts_carry_an_io_timeout_in_their_source_chain() {
    for kind in [
        ErrorKind::DeadlineExceeded,
        ErrorKind::AttemptTimeout,
        ErrorKind::BodyIdle,
    ] {
        let error = Error::new(kind);
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::TimedOut));
    }
}

#[test]
fn the_line_says_whether_it_may_have_happened() {
    let error = Error::new(ErrorKind::DeadlineExceeded).with_disposition(Disposition::Unknown);
    assert_eq!(
        error.to_string(),
        "deadline exceeded; it was sent without an answer and may have happened"
    );
}

#[test]
fn a_bad_setting_names_field_value_and_range() {
    let error = InvalidSetting::new("Retry::max_attempts", 0, "1 and above");
    assert_eq!(
        error.to_string(),
        "Retry::max_attempts is 0, allowed: 1 and above"
    );
}
