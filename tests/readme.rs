//! What the README shows and no documentation test compiles.

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../examples/tonic.rs");

#[test]
fn the_grpc_lines_of_the_readme_stand_in_the_example_that_runs() {
    let (_, block) = README.split_once("```rust,ignore\n").expect("one block");
    let (block, rest) = block.split_once("```").expect("it ends");
    assert!(!rest.contains("```rust,ignore"), "only one");
    let squeezed = |text: &str| -> String { text.split_whitespace().collect() };
    let example = squeezed(EXAMPLE);
    for part in block.split("\n\n") {
        assert!(example.contains(&squeezed(part)), "{part}");
    }
}
