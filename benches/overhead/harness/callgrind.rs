use std::process::Command;

/// Two lengths: their difference holds nothing of the start and the end.
const SHORT: u64 = 1000;
const LONG: u64 = 3000;

/// Counts instructions by running this very program under valgrind.
pub(super) enum Counter {
    Valgrind,
    /// Why there is no count.
    Missing(&'static str),
}

impl Counter {
    pub(super) fn new(wanted: bool) -> Self {
        if !wanted {
            return Self::Missing("not asked for");
        }
        match Command::new("valgrind").arg("--version").output() {
            Ok(output) if output.status.success() => Self::Valgrind,
            _ => Self::Missing("valgrind is not installed"),
        }
    }

    /// Instructions of one operation.
    ///
    /// # Panics
    /// If valgrind is there but fails: a row without a count would look like one that was never asked for.
    pub(super) fn count(&self, case: &str) -> Option<f64> {
        let Self::Valgrind = self else {
            return None;
        };
        let [short, long] = [SHORT, LONG].map(|calls| instructions(case, calls));
        Some((long - short) as f64 / (LONG - SHORT) as f64)
    }
}

fn instructions(case: &str, calls: u64) -> u64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--one", case, &calls.to_string()])
        .output()
        .expect("valgrind was found before");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .filter(|_| output.status.success());
    let Some((_, count)) = collected else {
        panic!("valgrind failed for `{case}`:\n{report}");
    };
    count
        .trim()
        .parse()
        .expect("callgrind prints a whole number")
}
