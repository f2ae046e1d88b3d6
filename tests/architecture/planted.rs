//! Each rule finds a planted violation.

use super::*;

const ROOT: (&str, &str) = (
    "lib.rs",
    "#![forbid(unsafe_code)]\nmod error;\nmod retry;\npub use error::Error;\npub use retry::Retry;\n",
);

fn found(rule: fn(&Tree) -> Vec<String>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::of([ROOT].into_iter().chain(files.iter().copied())))
}

#[track_caller]
fn assert_found(rule: fn(&Tree) -> Vec<String>, file: &str, text: &str) {
    let found = found(rule, &[(file, text)]);
    assert!(
        !found.is_empty() && found.iter().all(|breach| breach.starts_with(file)),
        "{text:?} gave {found:?}"
    );
}

#[track_caller]
fn assert_clean(rule: fn(&Tree) -> Vec<String>, file: &str, text: &str) {
    assert_eq!(
        found(rule, &[(file, text)]),
        Vec::<String>::new(),
        "{text:?}"
    );
}

#[test]
fn a_stranger_in_a_layer_folder_is_found() {
    let rule = layer_folders_hold_only_known_files;
    assert_found(rule, "retry/helpers.rs", "");
    assert_found(rule, "retry/future/state.rs", "");
    assert_clean(rule, "retry/policy/delay.rs", "");
    assert_clean(rule, "retry/policy/tests.rs", "");
    assert_clean(rule, "retry/handle/permit.rs", "");
    assert_clean(rule, "client/anything.rs", "");
}

#[test]
fn logic_in_a_mod_file_is_found() {
    assert_found(
        mod_files_hold_no_logic,
        "retry/mod.rs",
        "mod layer;\npub fn go() {}",
    );
    assert_found(mod_files_hold_no_logic, "retry/mod.rs", "pub struct X;");
    assert_clean(
        mod_files_hold_no_logic,
        "retry/mod.rs",
        "//! fn of this\nmod layer;\npub use layer::Layer;",
    );
}

#[test]
fn impure_policies_are_found() {
    for text in [
        "use tokio::sync::Mutex;",
        "use futures::Stream;",
        "use futures_core::Stream;",
        "use tower::Service;",
        "use rand::Rng;",
        "use crate::{call::Call, clock};",
        "use crate::rng::Random;",
        "fn now() { std::time::Instant::now(); }",
        "use std::time::Instant as I;\nfn now() { I::now(); }",
        "async fn go() {}",
    ] {
        for file in [
            "retry/policy.rs",
            "retry/policy/delay.rs",
            "classify/http.rs",
            "stats/window.rs",
            "call/mod.rs",
        ] {
            assert_found(pure_code_is_pure, file, text);
        }
        assert_clean(pure_code_is_pure, "retry/config.rs", text);
    }
    let text = "// tokio::time\nuse std::time::Instant;\n#[cfg(test)]\nmod tests { fn t() { Instant::now(); } }\n";
    assert_clean(pure_code_is_pure, "retry/policy.rs", text);
}

#[test]
fn a_layer_that_names_another_is_found() {
    let rule = layers_name_no_other_layer;
    assert_found(rule, "timeout/service.rs", "use crate::retry::Retry;");
    assert_found(
        rule,
        "timeout/service.rs",
        "fn go() { crate::breaker::trip(); }",
    );
    assert_found(rule, "timeout/policy.rs", "use super::super::retry;");
    assert_found(rule, "call/mod.rs", "use crate::{error::Error, retry};");
    assert_found(rule, "retry/layer.rs", "use crate::discover::Fixed;");
    assert_found(rule, "retry/layer.rs", "use crate::client::Client;");
    assert_found(rule, "discover/mod.rs", "use crate::client::Client;");
    assert_found(rule, "error.rs", "fn f() { crate::stack::build(); }");
    assert_found(rule, "retry/layer.rs", "use crate::testkit::Scripted;");
    assert_found(rule, "clock.rs", "use crate::testkit::Scripted;");
    assert_clean(rule, "testkit/stack.rs", "use crate::client::Balanced;");
    assert_clean(rule, "balance/layer.rs", "use crate::discover::Fixed;");
    assert_clean(rule, "retry/layer.rs", "use crate::{call, Error};");
}

#[test]
fn another_layer_is_found_behind_a_reexport_of_the_root() {
    let files = [
        ("retry/mod.rs", "mod config;\npub use config::Retry;"),
        ("retry/config.rs", "pub struct Retry;"),
    ];
    let planted = ("timeout/service.rs", "use crate::Retry;");
    let found = found(
        layers_name_no_other_layer,
        &[&files[..], &[planted]].concat(),
    );
    assert_eq!(
        found,
        ["timeout/service.rs:1: `timeout` names the layer `retry`"]
    );
}

#[test]
fn a_file_that_names_two_layers_is_found() {
    let text = "use crate::{retry::Retry, timeout::Deadline};";
    assert_found(few_files_name_several_layers, "telemetry/mod.rs", text);
    for file in ["stack.rs", "client/mod.rs"] {
        assert_clean(few_files_name_several_layers, file, text);
    }
}

#[test]
fn a_lower_file_that_names_a_higher_one_is_found() {
    let rule = layer_files_name_only_lower_ones;
    for (file, text) in [
        ("retry/config.rs", "use super::policy::Policy;"),
        ("retry/policy/delay.rs", "use crate::retry::service::X;"),
        ("retry/policy.rs", "use super::future::X;"),
        ("retry/future.rs", "use super::service::X;"),
        ("retry/service.rs", "fn f() { super::layer::x(); }"),
        ("retry/error.rs", "use super::config::X;"),
        ("retry/service.rs", "use super::Unknown;"),
    ] {
        assert_found(rule, file, text);
    }
    assert_clean(
        rule,
        "retry/layer.rs",
        "use super::{config::A, service::{self, B}};",
    );
    assert_clean(
        rule,
        "retry/policy/delay.rs",
        "use super::super::config::A;\nuse super::jitter::B;",
    );
    assert_clean(rule, "retry/mod.rs", "mod layer;\npub use layer::X;");
}

#[test]
fn the_order_is_found_behind_a_reexport_of_the_folder() {
    let files = [
        (
            "retry/mod.rs",
            "mod layer;\nmod service;\npub use layer::RetryLayer;",
        ),
        ("retry/layer.rs", "pub struct RetryLayer;"),
        ("retry/service.rs", "use super::RetryLayer;"),
    ];
    let found = found(layer_files_name_only_lower_ones, &files);
    assert_eq!(
        found,
        ["retry/service.rs:1: names `layer`, which is above or beside it"]
    );
}

#[test]
fn a_transport_outside_the_client_is_found() {
    assert_found(
        only_the_client_names_transports,
        "retry/body.rs",
        "impl X for reqwest::Body {}",
    );
    assert_found(
        only_the_client_names_transports,
        "classify/mod.rs",
        "use h2::Reason;",
    );
    assert_clean(
        only_the_client_names_transports,
        "client/evidence.rs",
        "use h2::Reason;",
    );
    assert_clean(
        only_the_client_names_transports,
        "retry/body.rs",
        "/// as reqwest::Body\nfn f() {}",
    );
}

#[test]
fn a_feature_asked_for_elsewhere_is_found() {
    let rule = features_are_asked_for_in_few_places;
    let text = "#[cfg(feature = \"reqwest\")]\nfn f() {}";
    for file in [
        "retry/service.rs",
        "error.rs",
        "call/mod.rs",
        "stack.rs",
        "rng.rs",
    ] {
        assert_found(rule, file, text);
    }
    for file in ["client/mod.rs", "discover/mod.rs", "telemetry/mod.rs"] {
        assert_clean(rule, file, text);
    }
    assert_found(
        rule,
        "retry/service.rs",
        "fn f() -> bool { cfg!(feature=\"dns\") }",
    );
    assert_clean(rule, "rng.rs", "#[cfg(feature = \"test-util\")]\nfn f() {}");
    assert_clean(
        rule,
        "retry/config.rs",
        "#[cfg_attr(feature = \"serde\", derive(serde::Deserialize))]\nstruct X;",
    );
    assert_found(
        rule,
        "retry/policy.rs",
        "#[cfg_attr(feature = \"serde\", derive(serde::Deserialize))]\nstruct X;",
    );
    assert_clean(rule, "retry/service.rs", "// feature = \"dns\"\nfn f() {}");
}

#[test]
fn time_read_elsewhere_is_found() {
    for text in [
        "fn f() { Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
        "use std::time::Instant as Clock;\nfn f() { Clock::now(); }",
        "use tokio::time::sleep;",
        "use tokio::{sync::watch, time};",
        "fn f() { std::thread::sleep(d); }",
        "fn f() { let nap = ::tokio::time::sleep(d); }",
        "use std::{sync::Arc, thread};\nfn f() { thread::sleep(d); }",
    ] {
        assert_found(time_is_read_in_one_file, "retry/service.rs", text);
        assert_clean(time_is_read_in_one_file, "clock.rs", text);
    }
    let text = "fn f() { let s = \"Instant::now()\"; let r = r#\"tokio::time\"#; let c = '\"'; }";
    assert_clean(time_is_read_in_one_file, "retry/service.rs", text);
}

#[test]
fn randomness_drawn_elsewhere_is_found() {
    for text in [
        "use rand::Rng;",
        "fn f() { rand::random::<u8>(); }",
        "fn f() { uuid::Uuid::new_v4(); }",
    ] {
        assert_found(randomness_is_drawn_in_one_file, "retry/service.rs", text);
        assert_clean(randomness_is_drawn_in_one_file, "rng.rs", text);
    }
}

#[test]
fn a_boxed_future_in_a_layer_is_found() {
    let rule = no_future_is_boxed_in_a_layer;
    assert_found(
        rule,
        "retry/service.rs",
        "fn f() { Box::pin(async move { 1 }) }",
    );
    assert_found(rule, "retry/service.rs", "fn f() { future.boxed() }");
    assert_clean(
        rule,
        "client/send.rs",
        "fn f() { Box::pin(async move { 1 }) }",
    );
    assert_clean(rule, "retry/service.rs", "fn f() { Box::pin(inner) }");
}

#[test]
fn unsafe_code_and_a_missing_ban_are_found() {
    assert_found(
        unsafe_code_is_forbidden,
        "retry/service.rs",
        "fn f() { unsafe { g() } }",
    );
    assert_clean(
        unsafe_code_is_forbidden,
        "retry/service.rs",
        "// unsafe\nfn f() {}",
    );
    let unbanned = Tree::of([("lib.rs", "// #![forbid(unsafe_code)]\n")]);
    assert_eq!(
        unsafe_code_is_forbidden(&unbanned),
        ["lib.rs: #![forbid(unsafe_code)] is missing"]
    );
}

#[test]
fn unfinished_and_silenced_code_is_found() {
    let rule = nothing_unfinished_or_silenced;
    for text in [
        "fn f() { todo!() }",
        "fn f() { dbg!(1); }",
        "#[allow(dead_code)]\nfn f() {}",
        "use std::fmt::*;",
    ] {
        assert_found(rule, "retry/service.rs", text);
    }
    assert_clean(
        rule,
        "retry/service.rs",
        "#[expect(dead_code, reason = \"allow(x)\")]\nfn f() {}",
    );
    assert_clean(
        rule,
        "retry/service.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests { use super::*; fn g() { todo!() } }",
    );
}

#[test]
fn long_files_and_functions_are_found() {
    let rule = files_and_functions_are_short;
    assert_found(
        rule,
        "retry/service.rs",
        &"// line\n".repeat(MAX_FILE_LINES + 1),
    );
    assert_clean(
        rule,
        "retry/service.rs",
        &"// line\n".repeat(MAX_FILE_LINES),
    );
    let tests = format!(
        "fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "// line\n".repeat(MAX_FILE_LINES)
    );
    assert_clean(rule, "retry/service.rs", &tests);
    let function = |lines: usize| {
        format!(
            "fn f<'a>(x: &'a [u8; 3])\n{{\n{}}}\n",
            "x();\n".repeat(lines)
        )
    };
    assert_found(rule, "retry/service.rs", &function(MAX_FUNCTION_LINES - 2));
    assert_clean(rule, "retry/service.rs", &function(MAX_FUNCTION_LINES - 3));
}
