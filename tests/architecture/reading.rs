//! Reading Rust well enough.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(super) fn is_name(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Blanks comments (in both results) and the contents of strings and characters (in the second), keeping every line.
pub(super) fn strip(text: &str) -> (String, String) {
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
pub(super) enum Piece {
    Code,
    Comment,
    Literal,
}

/// Where the piece of text that starts here ends, and what it is.
pub(super) fn piece(chars: &[char], at: usize) -> (usize, Piece) {
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

pub(super) fn until(chars: &[char], from: usize, ends: impl Fn(&[char], usize) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| ends(chars, at))
        .unwrap_or(chars.len())
}

pub(super) fn block_comment(chars: &[char], from: usize) -> usize {
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

pub(super) fn string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    chars.len().min(at + 1)
}

/// `None` if this is no raw string but a raw identifier.
pub(super) fn raw_string(chars: &[char], from: usize) -> Option<usize> {
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
pub(super) fn test_module(bare: &str) -> Option<usize> {
    bare.match_indices("#[cfg(test)]")
        .map(|(at, _)| at)
        .find(|&at| {
            let item = bare[at + "#[cfg(test)]".len()..].trim_start();
            item.starts_with("mod ")
        })
}

/// Blanks every item under `#[cfg(test)]`.
pub(super) fn without_tests(code: String, bare: String) -> (String, String) {
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
pub(super) fn item_end(bare: &[char], from: usize) -> usize {
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

pub(super) fn tokenize(bare: &str) -> Vec<Token> {
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

pub(super) fn written_paths(tokens: &[Token]) -> Vec<Written> {
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
pub(super) fn use_tree(
    tokens: &[Token],
    from: usize,
    prefix: &[String],
    written: &mut Vec<Written>,
) -> usize {
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
pub(super) fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
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
pub(super) fn body_end(tokens: &[Token], from: usize) -> Option<usize> {
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
