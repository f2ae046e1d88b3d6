//! The command line.

pub const USAGE: &str = "usage: cargo run --example quickstart -- [--json] [--seed N] [--calls N]

  --json     print one JSON object as the last line
  --seed N   choose the weather (default 1)
  --calls N  charges per client, 200 a second (default 2000)";

#[derive(Clone, Copy, Debug)]
pub struct Args {
    pub json: bool,
    pub seed: u64,
    pub calls: u64,
}

impl Args {
    /// Reads the arguments after the program's name.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            json: false,
            seed: 1,
            calls: 2000,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => parsed.json = true,
                "--seed" => parsed.seed = number(&arg, args.next(), 0)?,
                "--calls" => parsed.calls = number(&arg, args.next(), 1)?,
                _ => return Err(format!("unknown argument `{arg}`\n\n{USAGE}")),
            }
        }
        Ok(parsed)
    }
}

fn number(name: &str, value: Option<String>, least: u32) -> Result<u64, String> {
    let number = value.as_deref().unwrap_or_default().parse::<u32>().ok();
    match number.filter(|number| *number >= least) {
        Some(number) => Ok(number.into()),
        None => Err(format!(
            "{name} takes a number from {least} to {}\n\n{USAGE}",
            u32::MAX
        )),
    }
}
