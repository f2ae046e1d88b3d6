//! The house rules of the crate, checked on the text of `src`.
//!
//! Each rule is a function from a tree of sources to what breaks it, and each has a self-test in `planted.rs`, in
//! which a planted violation is found.

mod planted;
mod reading;
mod rules;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use {reading::*, rules::*, tree::*};

/// Folders that hold one layer each, in the shape of `LAYER_FILES`.
const LAYERS: [&str; 10] = [
    "timeout",
    "commit",
    "idempotency",
    "retry",
    "breaker",
    "limit",
    "balance",
    "fallback",
    "fault",
    "inbound",
];

/// Files of a layer folder with their rank: a file names only files of a lower rank. `policy` and `handle` may be
/// folders.
/// `handle` is what users hold on to and all clones of a layer share.
const LAYER_FILES: [(&str, u8); 8] = [
    ("layer", 7),
    ("service", 6),
    ("future", 5),
    ("body", 4),
    ("handle", 3),
    ("policy", 2),
    ("config", 1),
    ("error", 0),
];

/// Below the layers: these name none of them.
const FOUNDATION: [&str; 10] = [
    "call", "classify", "stats", "error", "clock", "rng", "dispatch", "discover", "health", "sync",
];

/// Pure wherever they stand; `policy` of a layer folder is too.
const PURE: [&str; 3] = ["call", "classify", "stats"];
const MAX_FILE_LINES: usize = 350;
const MAX_FUNCTION_LINES: usize = 60;

#[test]
fn the_tree_keeps_every_house_rule() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let found = tree.breaches();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
