//! The house rules of the crate, checked on the text of `src`.
//!
//! Each rule is a function from a tree of sources to what breaks it, and each has a self-test below in
//! which a planted violation is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

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

// ===== the tree =====

/// Sources by their path under `src`, such as `retry/policy/delay.rs`.
struct Tree(BTreeMap<String, Source>);

struct Source {
    /// Absolute module path: `crate`, `retry`, `policy`, `delay`.
    module: Vec<String>,
    /// Code without comments and tests; strings kept.
    code: String,
    /// The same without the contents of strings.
    bare: String,
    /// Lines before the tests.
    lines: usize,
    tokens: Vec<Token>,
    /// Every path that the code writes down, as written, `use` trees unfolded.
    written: Vec<Written>,
}

#[derive(Clone)]
struct Written {
    line: usize,
    path: Vec<String>,
    /// The name a `use` gives it here.
    alias: Option<String>,
}

impl Tree {
    fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        collect(src, src, &mut files);
        Self::of(
            files
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        )
    }

    fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let shipped = files
            .into_iter()
            .filter(|(path, _)| !path.ends_with("tests.rs") && !path.contains("tests/"));
        Self(
            shipped
                .map(|(path, text)| (path.to_owned(), Source::new(path, text)))
                .collect(),
        )
    }

    fn breaches(&self) -> Vec<String> {
        let rules: [fn(&Self) -> Vec<String>; 14] = [
            layer_folders_hold_only_known_files,
            mod_files_hold_no_logic,
            pure_code_is_pure,
            layers_name_no_other_layer,
            few_files_name_several_layers,
            layer_files_name_only_lower_ones,
            only_the_client_names_transports,
            features_are_asked_for_in_few_places,
            time_is_read_in_one_file,
            randomness_is_drawn_in_one_file,
            no_future_is_boxed_in_a_layer,
            unsafe_code_is_forbidden,
            nothing_unfinished_or_silenced,
            files_and_functions_are_short,
        ];
        rules.iter().flat_map(|rule| rule(self)).collect()
    }

    /// The files with their paths resolved to absolute ones.
    fn paths(&self) -> impl Iterator<Item = (&str, usize, Vec<String>)> {
        self.0.iter().flat_map(move |(file, source)| {
            source.written.iter().map(move |written| {
                (
                    file.as_str(),
                    written.line,
                    self.absolute(source, &written.path),
                )
            })
        })
    }

    /// Follows `self`, `super`, aliases and re-exports: `super::Retry` becomes `crate::retry::config::Retry`.
    fn absolute(&self, source: &Source, written: &[String]) -> Vec<String> {
        let mut path = self.anchored(source, written);
        for _ in 0..8 {
            match self.through_reexport(&path) {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        path
    }

    fn anchored(&self, source: &Source, written: &[String]) -> Vec<String> {
        let mut module = source.module.clone();
        let mut rest = written;
        let mut relative = false;
        while let [first, tail @ ..] = rest {
            match first.as_str() {
                "crate" => module.truncate(1),
                "self" => {}
                "super" => {
                    module.pop();
                }
                _ => break,
            }
            relative = true;
            rest = tail;
        }
        if !relative {
            let Some(first) = rest.first() else {
                return module;
            };
            let imported = source.imports().find(|(name, _)| name == first);
            if let Some((_, target)) = imported.filter(|(_, target)| target.as_slice() != written) {
                let target = if target.first() == Some(first) {
                    target.clone()
                } else {
                    self.anchored(source, &target)
                };
                return [target, rest[1..].to_vec()].concat();
            }
            let child = [module.clone(), vec![first.clone()]].concat();
            if !self.has_module(&child) {
                return rest.to_vec();
            }
        }
        [module, rest.to_vec()].concat()
    }

    fn through_reexport(&self, path: &[String]) -> Option<Vec<String>> {
        let (module, rest) = (1..path.len())
            .rev()
            .map(|at| path.split_at(at))
            .find(|(module, _)| self.has_module(module))?;
        let source = self.0.values().find(|source| source.module == module)?;
        if self.has_module(&[module, &rest[..1]].concat()) {
            return None;
        }
        let (_, target) = source.imports().find(|(name, _)| name == &rest[0])?;
        Some([self.anchored(source, &target), rest[1..].to_vec()].concat())
    }

    fn has_module(&self, module: &[String]) -> bool {
        self.0.values().any(|source| source.module == module)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("a file of the folder");
            let name = name.to_string_lossy().replace('\\', "/");
            files.push((name, fs::read_to_string(&path).expect("sources are UTF-8")));
        }
    }
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, bare) = strip(text);
        let lines = test_module(&bare)
            .map_or_else(|| text.lines().count(), |at| bare[..at].lines().count());
        let (code, bare) = without_tests(code, bare);
        let tokens = tokenize(&bare);
        let written = written_paths(&tokens);
        let names = path.trim_end_matches(".rs").split('/');
        let names = names.filter(|name| !["lib", "mod"].contains(name));
        let module = ["crate"]
            .into_iter()
            .chain(names)
            .map(str::to_owned)
            .collect();
        Self {
            module,
            code,
            bare,
            lines,
            tokens,
            written,
        }
    }

    fn imports(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        let named = self
            .written
            .iter()
            .filter_map(|written| Some((written.alias.clone()?, written)));
        named.map(|(name, written)| (name, written.path.clone()))
    }

    /// The line of the first token that `holds`.
    fn line_of(&self, holds: impl Fn(&[Token]) -> bool) -> Option<usize> {
        (0..self.tokens.len())
            .find(|&at| holds(&self.tokens[at..]))
            .map(|at| self.tokens[at].line)
    }
}

/// The layer a path under `src` belongs to.
fn layer_of_file(file: &str) -> Option<&str> {
    let (folder, _) = file.split_once('/')?;
    LAYERS.contains(&folder).then_some(folder)
}

/// The top module that an absolute path leads to, if it is one of the crate.
fn top(path: &[String]) -> Option<&str> {
    match path {
        [root, top, ..] if root == "crate" => Some(top),
        _ => None,
    }
}

/// The name that decides a file's rank in its layer folder: `retry/policy/delay.rs` is `policy`.
fn part_of_file(file: &str) -> &str {
    let part = file.split('/').nth(1).unwrap_or("");
    part.trim_end_matches(".rs")
}

fn rank(part: &str) -> Option<u8> {
    LAYER_FILES
        .iter()
        .find(|(name, _)| *name == part)
        .map(|(_, rank)| *rank)
}

fn is_pure(file: &str) -> bool {
    let folder = file.split('/').next().unwrap_or("").trim_end_matches(".rs");
    PURE.contains(&folder) || (layer_of_file(file).is_some() && part_of_file(file) == "policy")
}

// ===== the rules =====

fn layer_folders_hold_only_known_files(tree: &Tree) -> Vec<String> {
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

fn mod_files_hold_no_logic(tree: &Tree) -> Vec<String> {
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

fn pure_code_is_pure(tree: &Tree) -> Vec<String> {
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

fn layers_name_no_other_layer(tree: &Tree) -> Vec<String> {
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

fn few_files_name_several_layers(tree: &Tree) -> Vec<String> {
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

fn layer_files_name_only_lower_ones(tree: &Tree) -> Vec<String> {
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

fn only_the_client_names_transports(tree: &Tree) -> Vec<String> {
    let transports = ["reqwest", "tonic", "hyper", "hyper_util", "h2"];
    let may = |file: &str| file.starts_with("client/") || file.starts_with("discover/");
    let paths = tree
        .paths()
        .filter(|(file, _, path)| !may(file) && transports.contains(&path[0].as_str()));
    paths
        .map(|(file, line, path)| format!("{file}:{line}: only client/ names `{}`", path[0]))
        .collect()
}

fn features_are_asked_for_in_few_places(tree: &Tree) -> Vec<String> {
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

fn asks_for_feature(text: &str) -> bool {
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

fn time_is_read_in_one_file(tree: &Tree) -> Vec<String> {
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
fn reads_time(path: &[String]) -> bool {
    let path = path.iter().map(String::as_str).collect::<Vec<_>>();
    matches!(
        path[..],
        [.., "Instant" | "SystemTime" | "Utc" | "Local", "now"] | [.., "Instant", "elapsed"]
    ) || matches!(
        path[..],
        ["tokio", "time", ..] | ["std", "thread", "sleep", ..] | ["thread", "sleep"]
    )
}

fn randomness_is_drawn_in_one_file(tree: &Tree) -> Vec<String> {
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

fn no_future_is_boxed_in_a_layer(tree: &Tree) -> Vec<String> {
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

fn unsafe_code_is_forbidden(tree: &Tree) -> Vec<String> {
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

fn nothing_unfinished_or_silenced(tree: &Tree) -> Vec<String> {
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

fn files_and_functions_are_short(tree: &Tree) -> Vec<String> {
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

// ===== reading Rust well enough =====

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_name(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Blanks comments (in both results) and the contents of strings and characters (in the second), keeping every line.
fn strip(text: &str) -> (String, String) {
    let chars = text.chars().collect::<Vec<_>>();
    let (mut code, mut bare) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (end, kind) = piece(&chars, at);
        for &char in &chars[at..end] {
            let blank = if char == '\n' { '\n' } else { ' ' };
            code.push(if kind == Piece::Comment { blank } else { char });
            bare.push(if kind == Piece::Code { char } else { blank });
        }
        at = end;
    }
    (code, bare)
}

#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Code,
    Comment,
    Literal,
}

/// Where the piece of text that starts here ends, and what it is.
fn piece(chars: &[char], at: usize) -> (usize, Piece) {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or(' ');
    let in_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', '/') => (
            until(chars, at, |chars, at| chars[at] == '\n'),
            Piece::Comment,
        ),
        ('/', '*') => (block_comment(chars, at), Piece::Comment),
        ('"', _) => (string(chars, at + 1), Piece::Literal),
        ('r', '"' | '#') if !in_name || chars[at - 1] == 'b' => match raw_string(chars, at + 1) {
            Some(end) => (end, Piece::Literal),
            None => (at + 1, Piece::Code),
        },
        ('\'', '\\') => (
            until(chars, at + 3, |chars, at| chars[at] == '\'') + 1,
            Piece::Literal,
        ),
        ('\'', _) if next(2) == '\'' => (at + 3, Piece::Literal),
        _ => (at + 1, Piece::Code),
    }
}

fn until(chars: &[char], from: usize, ends: impl Fn(&[char], usize) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| ends(chars, at))
        .unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    chars.len().min(at + 1)
}

/// `None` if this is no raw string but a raw identifier.
fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..]
        .iter()
        .take_while(|char| **char == '#')
        .count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let ends = |chars: &[char], at: usize| {
        chars[at] == '"'
            && chars[at + 1..]
                .iter()
                .take(hashes)
                .filter(|char| **char == '#')
                .count()
                == hashes
    };
    Some(
        chars
            .len()
            .min(until(chars, from + hashes + 1, ends) + hashes + 1),
    )
}

/// Where the test module starts.
fn test_module(bare: &str) -> Option<usize> {
    bare.match_indices("#[cfg(test)]")
        .map(|(at, _)| at)
        .find(|&at| {
            let item = bare[at + "#[cfg(test)]".len()..].trim_start();
            item.starts_with("mod ")
        })
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: String, bare: String) -> (String, String) {
    let (mut code, mut bare) = (
        code.chars().collect::<Vec<_>>(),
        bare.chars().collect::<Vec<_>>(),
    );
    let mark = "#[cfg(test)]".chars().collect::<Vec<_>>();
    while let Some(start) = bare.windows(mark.len()).position(|window| window == mark) {
        let end = item_end(&bare, start + mark.len());
        for at in start..end {
            if bare[at] != '\n' {
                bare[at] = ' ';
                code[at] = ' ';
            }
        }
    }
    (code.into_iter().collect(), bare.into_iter().collect())
}

/// The end of an item: its semicolon or the brace that closes its body.
fn item_end(bare: &[char], from: usize) -> usize {
    let mut depth = 0;
    for (at, char) in bare.iter().enumerate().skip(from) {
        match char {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (*char == ';' || *char == '}') {
            return at + 1;
        }
    }
    bare.len()
}

fn tokenize(bare: &str) -> Vec<Token> {
    let mut tokens = Vec::<Token>::new();
    for (at, text) in bare.lines().enumerate() {
        let line = at + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|char: char| !char.is_alphanumeric() && char != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token {
                text: rest[..length].to_owned(),
                line,
            });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

fn written_paths(tokens: &[Token]) -> Vec<Written> {
    let mut written = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("use") {
            at = use_tree(tokens, at + 1, &[], &mut written);
        } else if tokens[at].is_name() {
            let start = at;
            let mut path = vec![tokens[at].text.clone()];
            at += 1;
            while at + 1 < tokens.len() && tokens[at].is("::") && tokens[at + 1].is_name() {
                path.push(tokens[at + 1].text.clone());
                at += 2;
            }
            let inner = start > 1 && tokens[start - 1].is("::") && tokens[start - 2].is(">");
            if path.len() > 1 && !inner {
                written.push(Written {
                    line: tokens[start].line,
                    path,
                    alias: None,
                });
            }
        } else {
            at += 1;
        }
    }
    written
}

/// Unfolds one branch of a `use` tree; answers where it ends.
fn use_tree(tokens: &[Token], from: usize, prefix: &[String], written: &mut Vec<Written>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while at < tokens.len() && !tokens[at].is("}") {
                    at = use_tree(tokens, at, &path, written);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.is(",")));
                }
                return at + 1;
            }
            "as" => {
                let alias = tokens.get(at + 1).map(|token| token.text.clone());
                written.push(Written {
                    line: tokens[from].line,
                    path,
                    alias,
                });
                return at + 2;
            }
            "," | ";" | "}" => break,
            "self" if !path.is_empty() => at += 1,
            name => {
                path.push(name.to_owned());
                at += 1;
            }
        }
    }
    let alias = path.last().cloned();
    written.push(Written {
        line: tokens[from.min(tokens.len() - 1)].line,
        path,
        alias,
    });
    at
}

/// Name, first line and length of every function with a body.
fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
    let starts = (0..tokens.len())
        .filter(|&at| tokens[at].is("fn") && tokens.get(at + 1).is_some_and(Token::is_name));
    starts
        .filter_map(|at| {
            Some((
                tokens[at + 1].text.clone(),
                tokens[at].line,
                body_end(tokens, at)? - tokens[at].line + 1,
            ))
        })
        .collect()
}

/// The line of the brace that closes the function which starts here; none for a declaration.
fn body_end(tokens: &[Token], from: usize) -> Option<usize> {
    let (mut depth, mut entered) = (0_usize, false);
    for token in &tokens[from..] {
        match token.text.as_str() {
            "{" | "(" | "[" => {
                entered |= token.is("{") && depth == 0;
                depth += 1;
            }
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return None,
            _ => {}
        }
        if entered && depth == 0 {
            return Some(token.line);
        }
    }
    None
}

// ===== each rule finds a planted violation =====

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
