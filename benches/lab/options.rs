//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: cargo bench --bench lab -- [S2 ..] [--full] [--seeds 1-5] [--clients 1,10,100] [--policies ours,naive]
                                  [--json FILE] [--self-test] [--gate]
  S2 ..            only these scenarios (all)
  --full           as written, instead of the short form
  --seeds A-B      (full 1-5, short 1)
  --clients LIST   only these client counts
  --policies LIST  only these policies
  --json FILE      writes one object a row
  --self-test      the closed forms and the published figures first
  --gate           fails if a goal is lost";

#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) scenarios: Vec<String>,
    pub(crate) full: bool,
    pub(crate) seeds: Vec<u64>,
    pub(crate) clients: Option<Vec<u32>>,
    pub(crate) policies: Option<Vec<String>>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) self_test: bool,
    pub(crate) gate: bool,
    /// Run by `cargo test`: only whether it works.
    pub(crate) is_test: bool,
}

impl Options {
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            is_test: true,
            ..Self::default()
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => options.is_test = false,
                "--full" => options.full = true,
                "--self-test" => options.self_test = true,
                "--gate" => options.gate = true,
                "--json" => options.json = Some(value()?.into()),
                "--seeds" => options.seeds = seeds(&value()?)?,
                "--clients" => options.clients = Some(list(&value()?)?),
                "--policies" => options.policies = Some(list(&value()?)?),
                id if !id.starts_with('-') => options.scenarios.push(id.to_owned()),
                other => return Err(format!("{other} is not understood")),
            }
        }
        if options.seeds.is_empty() {
            let last = if options.full { 5 } else { 1 };
            options.seeds = (1..=last).collect();
        }
        Ok(options)
    }
}

fn seeds(text: &str) -> Result<Vec<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_error| format!("{text} is no seed"));
    Ok((number(first)?..=number(last)?).collect())
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String> {
    let read = |word: &str| {
        word.parse()
            .map_err(|_error| format!("{word} is not understood"))
    };
    text.split(',').map(read).collect()
}
