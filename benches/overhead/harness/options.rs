use std::path::PathBuf;

pub(super) const USAGE: &str = "\
usage: cargo bench --bench overhead -- [TEXT] [--runs N] [--json FILE] [--no-callgrind] [--gate]
  TEXT             only the cases whose name contains it (and the raw ones)
  --runs N         whole runs, of which the median counts (3)
  --json FILE      writes the figures there too
  --no-callgrind   counts no instructions
  --gate           fails if a row misses its target in instructions or allocations, which repeat exactly";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(super) mode: Mode,
    pub(super) filter: Option<String>,
    pub(super) runs: usize,
    pub(super) json: Option<PathBuf>,
    pub(super) callgrind: bool,
    pub(super) gate: bool,
}

#[derive(Debug)]
pub(super) enum Mode {
    /// `cargo test --benches`: no `--bench`.
    Smoke,
    Measure,
    /// One case so many times and nothing else, for valgrind to count.
    One {
        case: String,
        calls: u64,
    },
}

impl Options {
    /// # Errors
    /// What could not be understood.
    pub(super) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mode: Mode::Smoke,
            filter: None,
            runs: 3,
            json: None,
            callgrind: true,
            gate: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => options.mode = Mode::Measure,
                "--runs" => options.runs = number(&value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "--no-callgrind" => options.callgrind = false,
                "--gate" => options.gate = true,
                "--help" => return Err("what the bench can be told:".to_owned()),
                "--one" => {
                    let case = value()?;
                    let calls = number(&value()?)?;
                    options.mode = Mode::One { case, calls };
                }
                unknown if unknown.starts_with('-') => return Err(format!("{word} is unknown")),
                _ => options.filter = Some(word),
            }
        }
        Ok(options)
    }
}

fn number<N: std::str::FromStr + From<u8> + PartialOrd>(text: &str) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= N::from(1))
        .ok_or_else(|| format!("{text} is no number above zero"))
}
