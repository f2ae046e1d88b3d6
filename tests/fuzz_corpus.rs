//! What the fuzz targets have found worth keeping is read again, and so are some thousand variations of it.

use std::{fs, panic, path::Path};

use rand::{RngExt, SeedableRng, rngs::StdRng};

#[path = "../fuzz/targets.rs"]
mod targets;

/// For each target; a run by libFuzzer tries millions.
const VARIATIONS: usize = 3_000;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&folder).expect("a corpus of this name");
    let mut inputs: Vec<Vec<u8>> = files
        .map(|file| fs::read(file.expect("readable").path()).expect("readable"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} of {name}", inputs.len());
    for input in &inputs {
        try_one(target, input);
    }
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..VARIATIONS {
        try_one(target, &varied(&inputs, &mut rng));
    }
}

fn try_one(target: fn(&[u8]), input: &[u8]) {
    if let Err(panicked) = panic::catch_unwind(|| target(input)) {
        eprintln!("on b\"{}\"", input.escape_ascii());
        panic::resume_unwind(panicked);
    }
}

/// One input, or two joined, with some bytes changed, put in or left out.
fn varied(inputs: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    const BYTES: &[u8] = b"0123456789:.-+%[]@/?# \n\t,aHMSmunZxG~\x00\x7f\xc3\xbc\xff";
    let pick = |rng: &mut StdRng| inputs[rng.random_range(0..inputs.len())].clone();
    let mut input = pick(rng);
    if rng.random_range(0..8) == 0 {
        let at = rng.random_range(0..=input.len());
        input.truncate(at);
        input.extend(pick(rng));
    }
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=input.len());
        let byte = BYTES[rng.random_range(0..BYTES.len())];
        match rng.random_range(0..3) {
            0 => input.insert(at, byte),
            1 if at < input.len() => input[at] = byte,
            _ if at < input.len() => drop(input.remove(at)),
            _ => {}
        }
    }
    input
}

#[test]
fn retry_after_is_read_as_the_oracle_reads_it() {
    replay("retry_after", targets::retry_after);
}

#[test]
fn grpc_pushback_is_read_as_the_oracle_reads_it() {
    replay("grpc_pushback", targets::grpc_pushback);
}

#[test]
fn grpc_timeout_is_read_as_the_oracle_reads_it() {
    replay("grpc_timeout", targets::grpc_timeout);
}

#[test]
fn origins_are_written_as_they_are_read() {
    replay("origin", targets::origin);
}

#[test]
fn endpoints_are_what_the_standard_library_takes_for_one() {
    replay("endpoint", targets::endpoint);
}
