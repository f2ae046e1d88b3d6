//! The sources, read once.

use super::*;

/// Sources by their path under `src`, such as `retry/policy/delay.rs`.
pub(super) struct Tree(pub(super) BTreeMap<String, Source>);

pub(super) struct Source {
    /// Absolute module path: `crate`, `retry`, `policy`, `delay`.
    pub(super) module: Vec<String>,
    /// Code without comments and tests; strings kept.
    pub(super) code: String,
    /// The same without the contents of strings.
    pub(super) bare: String,
    /// Lines before the tests.
    pub(super) lines: usize,
    pub(super) tokens: Vec<Token>,
    /// Every path that the code writes down, as written, `use` trees unfolded.
    pub(super) written: Vec<Written>,
}

#[derive(Clone)]
pub(super) struct Written {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
    /// The name a `use` gives it here.
    pub(super) alias: Option<String>,
}

impl Tree {
    pub(super) fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        collect(src, src, &mut files);
        Self::of(
            files
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        )
    }

    pub(super) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let shipped = files
            .into_iter()
            .filter(|(path, _)| !path.ends_with("tests.rs") && !path.contains("tests/"));
        Self(
            shipped
                .map(|(path, text)| (path.to_owned(), Source::new(path, text)))
                .collect(),
        )
    }

    pub(super) fn breaches(&self) -> Vec<String> {
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
    pub(super) fn paths(&self) -> impl Iterator<Item = (&str, usize, Vec<String>)> {
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
    pub(super) fn absolute(&self, source: &Source, written: &[String]) -> Vec<String> {
        let mut path = self.anchored(source, written);
        for _ in 0..8 {
            match self.through_reexport(&path) {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        path
    }

    pub(super) fn anchored(&self, source: &Source, written: &[String]) -> Vec<String> {
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

    pub(super) fn through_reexport(&self, path: &[String]) -> Option<Vec<String>> {
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

    pub(super) fn has_module(&self, module: &[String]) -> bool {
        self.0.values().any(|source| source.module == module)
    }
}

pub(super) fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
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
    pub(super) fn new(path: &str, text: &str) -> Self {
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

    pub(super) fn imports(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        let named = self
            .written
            .iter()
            .filter_map(|written| Some((written.alias.clone()?, written)));
        named.map(|(name, written)| (name, written.path.clone()))
    }

    /// The line of the first token that `holds`.
    pub(super) fn line_of(&self, holds: impl Fn(&[Token]) -> bool) -> Option<usize> {
        (0..self.tokens.len())
            .find(|&at| holds(&self.tokens[at..]))
            .map(|at| self.tokens[at].line)
    }
}

/// The layer a path under `src` belongs to.
pub(super) fn layer_of_file(file: &str) -> Option<&str> {
    let (folder, _) = file.split_once('/')?;
    LAYERS.contains(&folder).then_some(folder)
}

/// The top module that an absolute path leads to, if it is one of the crate.
pub(super) fn top(path: &[String]) -> Option<&str> {
    match path {
        [root, top, ..] if root == "crate" => Some(top),
        _ => None,
    }
}

/// The name that decides a file's rank in its layer folder: `retry/policy/delay.rs` is `policy`.
pub(super) fn part_of_file(file: &str) -> &str {
    let part = file.split('/').nth(1).unwrap_or("");
    part.trim_end_matches(".rs")
}

pub(super) fn rank(part: &str) -> Option<u8> {
    LAYER_FILES
        .iter()
        .find(|(name, _)| *name == part)
        .map(|(_, rank)| *rank)
}

pub(super) fn is_pure(file: &str) -> bool {
    let folder = file.split('/').next().unwrap_or("").trim_end_matches(".rs");
    PURE.contains(&folder) || (layer_of_file(file).is_some() && part_of_file(file) == "policy")
}
