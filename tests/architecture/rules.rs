//! The rules.

use super::*;

pub(super) fn layer_folders_hold_only_known_files(tree: &Tree) -> Vec<String> {
    let known = |file: &str| match file.split('/').collect::<Vec<_>>()[..] {
        [_, "mod.rs"] => true,
        [_, "policy" | "handle", _] => true,
        [_, name] => rank(name.trim_end_matches(".rs")).is_some(),
        _ => false,
    };
    let files = tree
        .0
        .keys()
        .filter(|file| layer_of_file(file).is_some() && !known(file));
    files
        .map(|file| format!("{file}: a layer folder has no file of this name"))
        .collect()
}

pub(super) fn mod_files_hold_no_logic(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in &tree.0 {
        if layer_of_file(file).is_none() || part_of_file(file) != "mod" {
            continue;
        }
        for word in ["fn", "impl", "struct", "enum", "trait", "macro_rules"] {
            if let Some(line) = source.line_of(|tokens| tokens[0].is(word)) {
                found.push(format!(
                    "{file}:{line}: mod.rs holds docs, mod and use lines, not `{word}`"
                ));
            }
        }
    }
    found
}

pub(super) fn pure_code_is_pure(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, line, path) in tree.paths().filter(|(file, ..)| is_pure(file)) {
        let root = path[0].as_str();
        let impure = ["tokio", "futures", "tower", "rand"]
            .iter()
            .any(|name| root == *name || root.starts_with(&format!("{name}_")));
        if impure || ["clock", "rng"].map(Some).contains(&top(&path)) || reads_time(&path) {
            found.push(format!(
                "{file}:{line}: pure code names `{}`",
                path.join("::")
            ));
        }
    }
    for (file, source) in tree.0.iter().filter(|(file, _)| is_pure(file)) {
        for word in ["async", "await"] {
            if let Some(line) = source.line_of(|tokens| tokens[0].is(word)) {
                found.push(format!("{file}:{line}: pure code is `{word}`"));
            }
        }
    }
    found
}

pub(super) fn layers_name_no_other_layer(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, line, path) in tree.paths() {
        let Some(other) = top(&path) else { continue };
        let folder = file.split('/').next().unwrap_or("").trim_end_matches(".rs");
        let own = layer_of_file(file);
        let crosses = own.is_some_and(|own| own != other) || FOUNDATION.contains(&folder);
        if crosses && LAYERS.contains(&other) {
            found.push(format!(
                "{file}:{line}: `{folder}` names the layer `{other}`"
            ));
        }
        if own.is_some_and(|own| own != "balance" && other == "discover") {
            found.push(format!(
                "{file}:{line}: only the balancer among the layers names `discover`"
            ));
        }
        let below = own.is_some() || FOUNDATION.contains(&folder);
        if below && ["stack", "client", "testkit"].contains(&other) {
            found.push(format!(
                "{file}:{line}: `{folder}` names `{other}`, which is above it"
            ));
        }
    }
    found
}

pub(super) fn few_files_name_several_layers(tree: &Tree) -> Vec<String> {
    let mut named = BTreeMap::<&str, BTreeSet<String>>::new();
    for (file, _, path) in tree.paths() {
        if let Some(layer) = top(&path).filter(|top| LAYERS.contains(top)) {
            named.entry(file).or_default().insert(layer.to_owned());
        }
    }
    let above = |file: &str| ["lib.rs", "stack.rs"].contains(&file) || file.starts_with("client/");
    let several = named
        .iter()
        .filter(|(file, layers)| layers.len() > 1 && !above(file));
    several
        .map(|(file, layers)| {
            format!("{file}: only stack.rs and client/ name several layers: {layers:?}")
        })
        .collect()
}

pub(super) fn layer_files_name_only_lower_ones(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, line, path) in tree.paths() {
        let (Some(own), Some(part)) = (layer_of_file(file), rank(part_of_file(file))) else {
            continue;
        };
        if top(&path) != Some(own) {
            continue;
        }
        let target = path.get(2).map_or("", String::as_str);
        let same = target == part_of_file(file);
        match rank(target) {
            Some(other) if same || other < part => {}
            Some(_) => found.push(format!(
                "{file}:{line}: names `{target}`, which is above or beside it"
            )),
            None => found.push(format!(
                "{file}:{line}: name the file, not the folder: `{}`",
                path.join("::")
            )),
        }
    }
    found
}

pub(super) fn only_the_client_names_transports(tree: &Tree) -> Vec<String> {
    let transports = ["reqwest", "tonic", "hyper", "hyper_util", "h2"];
    let may = |file: &str| file.starts_with("client/") || file.starts_with("discover/");
    let paths = tree
        .paths()
        .filter(|(file, _, path)| !may(file) && transports.contains(&path[0].as_str()));
    paths
        .map(|(file, line, path)| format!("{file}:{line}: only client/ names `{}`", path[0]))
        .collect()
}

pub(super) fn features_are_asked_for_in_few_places(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let places = ["client/", "discover/", "telemetry/", "testkit/"];
    for (file, source) in &tree.0 {
        if file == "lib.rs" || places.iter().any(|place| file.starts_with(place)) {
            continue;
        }
        let seeds = file == "rng.rs" || file.starts_with("idempotency/");
        for (at, text) in source
            .code
            .lines()
            .enumerate()
            .filter(|(_, text)| asks_for_feature(text))
        {
            let serde = file.ends_with("config.rs")
                && text.contains("cfg_attr(feature = \"serde\", derive");
            let seed = seeds && text.contains("\"test-util\"");
            if !serde && !seed {
                found.push(format!("{file}:{}: asks for a feature", at + 1));
            }
        }
    }
    found
}

pub(super) fn asks_for_feature(text: &str) -> bool {
    text.split("feature").skip(1).any(|rest| {
        rest.trim_start()
            .trim_start_matches('=')
            .trim_start()
            .starts_with('"')
    }) && text
        .split("feature")
        .skip(1)
        .any(|rest| rest.trim_start().starts_with('='))
}

pub(super) fn time_is_read_in_one_file(tree: &Tree) -> Vec<String> {
    let paths = tree
        .paths()
        .filter(|(file, _, path)| *file != "clock.rs" && reads_time(path));
    paths
        .map(|(file, line, path)| {
            format!("{file}:{line}: only clock.rs names `{}`", path.join("::"))
        })
        .collect()
}

/// Reads a clock or sleeps.
pub(super) fn reads_time(path: &[String]) -> bool {
    let path = path.iter().map(String::as_str).collect::<Vec<_>>();
    matches!(
        path[..],
        [.., "Instant" | "SystemTime" | "Utc" | "Local", "now"] | [.., "Instant", "elapsed"]
    ) || matches!(
        path[..],
        ["tokio", "time", ..] | ["std", "thread", "sleep", ..] | ["thread", "sleep"]
    )
}

pub(super) fn randomness_is_drawn_in_one_file(tree: &Tree) -> Vec<String> {
    let draws = |path: &[String]| {
        let path = path.iter().map(String::as_str).collect::<Vec<_>>();
        matches!(
            path[..],
            [
                "rand" | "rand_core" | "rand_chacha" | "getrandom" | "fastrand",
                ..
            ]
        ) || matches!(
            path[..],
            [.., "Uuid", "new_v4" | "now_v7"] | [.., "RandomState", "new"]
        )
    };
    let paths = tree
        .paths()
        .filter(|(file, _, path)| *file != "rng.rs" && draws(path));
    paths
        .map(|(file, line, path)| format!("{file}:{line}: only rng.rs names `{}`", path.join("::")))
        .collect()
}

pub(super) fn no_future_is_boxed_in_a_layer(tree: &Tree) -> Vec<String> {
    let boxed = |tokens: &[Token]| {
        let words = tokens
            .iter()
            .take(6)
            .map(|token| token.text.as_str())
            .collect::<Vec<_>>();
        words.starts_with(&["Box", "::", "pin", "(", "async"])
            || words.starts_with(&[".", "boxed", "("])
    };
    let layers = tree
        .0
        .iter()
        .filter(|(file, _)| layer_of_file(file).is_some() || *file == "dispatch.rs");
    let lines = layers.filter_map(|(file, source)| Some((file, source.line_of(boxed)?)));
    lines
        .map(|(file, line)| {
            format!("{file}:{line}: a layer names its futures instead of boxing them")
        })
        .collect()
}

pub(super) fn unsafe_code_is_forbidden(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let root = tree
        .0
        .get("lib.rs")
        .map_or("", |source| source.bare.as_str());
    if !root.contains("#![forbid(unsafe_code)]") {
        found.push("lib.rs: #![forbid(unsafe_code)] is missing".to_owned());
    }
    for (file, source) in &tree.0 {
        if let Some(line) = source.line_of(|tokens| tokens[0].is("unsafe")) {
            found.push(format!("{file}:{line}: unsafe code"));
        }
    }
    found
}

pub(super) fn nothing_unfinished_or_silenced(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in &tree.0 {
        for name in ["todo", "unimplemented", "dbg", "println", "eprintln"] {
            let used = |tokens: &[Token]| {
                tokens[0].is(name) && tokens.get(1).is_some_and(|next| next.is("!"))
            };
            if let Some(line) = source.line_of(used) {
                found.push(format!("{file}:{line}: `{name}!` in shipped code"));
            }
        }
        let allowed = |tokens: &[Token]| {
            let words = tokens
                .iter()
                .take(4)
                .map(|token| token.text.as_str())
                .collect::<Vec<_>>();
            words.starts_with(&["#", "[", "allow"]) || words == ["#", "!", "[", "allow"]
        };
        if let Some(line) = source.line_of(allowed) {
            found.push(format!(
                "{file}:{line}: say #[expect(lint, reason)] instead of allow"
            ));
        }
        let glob = source
            .written
            .iter()
            .find(|written| written.path.last().is_some_and(|last| last == "*"));
        if let Some(written) = glob {
            found.push(format!("{file}:{}: glob import", written.line));
        }
    }
    found
}

pub(super) fn files_and_functions_are_short(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in &tree.0 {
        if source.lines > MAX_FILE_LINES {
            found.push(format!(
                "{file}: {} lines before the tests, at most {MAX_FILE_LINES}",
                source.lines
            ));
        }
        for (name, line, length) in functions(&source.tokens) {
            if length > MAX_FUNCTION_LINES {
                found.push(format!(
                    "{file}:{line}: `{name}` has {length} lines, at most {MAX_FUNCTION_LINES}"
                ));
            }
        }
    }
    found
}
