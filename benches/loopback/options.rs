use std::path::PathBuf;

pub(super) const USAGE: &str = "\
usage: cargo bench --bench loopback -- [TEXT] [--alone] [--tasks N] [--rounds N] [--json FILE]
  TEXT         only the cases whose `part: name` contains it, and what they are compared with
  --alone      without what they are compared with, for a profiler
  --tasks N    only with so many tasks (1 and 32)
  --rounds N   rounds, of which the median counts (101)
  --json FILE  writes the figures there too";

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) filter: Option<String>,
    pub(super) alone: bool,
    pub(super) tasks: Vec<usize>,
    pub(super) rounds: usize,
    pub(super) json: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// What could not be understood.
    pub(super) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        // Without `--bench` it is `cargo test --benches` that asks: whether it runs at all.
        let mut options = Self {
            filter: None,
            alone: false,
            tasks: vec![1, 32],
            rounds: 1,
            json: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => options.rounds = options.rounds.max(101),
                "--alone" => options.alone = true,
                "--tasks" => options.tasks = vec![above_zero(&value()?)?],
                "--rounds" => options.rounds = above_zero(&value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "--help" => return Err("what the bench can be told:".to_owned()),
                unknown if unknown.starts_with('-') => return Err(format!("{word} is unknown")),
                _ => options.filter = Some(word),
            }
        }
        Ok(options)
    }
}

fn above_zero(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text} is no number above zero"))
}
