//! A Rust source file as the rules see it: what is code, what is comment, what is test.
//!
//! This is no parser. It knows comments and literals, which is enough to keep a rule from matching its own
//! text, and finds items by their braces.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// One source file.
pub struct Source {
    /// Relative to the project's top folder.
    pub path: PathBuf,
    /// The text as it stands.
    pub text: String,
    /// The text with every comment and literal blanked out: same length, same lines, ASCII only.
    pub code: String,
    /// By line, from 0: true when the line is test code.
    pub test_lines: Vec<bool>,
    /// By line, from 0: true when the line begins inside a literal.
    pub in_literal: Vec<bool>,
}

impl Source {
    /// Reads a file of the project.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(top: &Path, path: &Path) -> Result<Self> {
        let full = top.join(path);
        let text = fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))?;
        Ok(Self::new(path, text))
    }

    /// Takes a text apart; `path` decides whether all of it is test code.
    pub fn new(path: &Path, text: String) -> Self {
        let (code, in_literal) = blank(&text);
        let test_lines =
            if is_test_file(path) { vec![true; code.lines().count()] } else { test_lines(&code) };
        Self { path: path.into(), text, code, test_lines, in_literal }
    }

    /// Every Rust file of the project, sorted by path.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let root = workspace::root();
        workspace::files(root, &["rs"])?.iter().map(|path| Self::read(root, path)).collect()
    }

    /// The lines of code with their numbers from 0 and whether they are test code.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        self.code.lines().enumerate().map(|(n, line)| (n, line, self.is_test(n)))
    }

    /// True when line `n`, from 0, is test code.
    pub fn is_test(&self, n: usize) -> bool {
        self.test_lines.get(n).copied().unwrap_or(false)
    }
}

/// Test folders, and the packages that hold nothing but tests.
fn is_test_file(path: &Path) -> bool {
    let in_tests = path.components().any(|c| c.as_os_str() == "tests");
    in_tests
        || path.file_name().is_some_and(|f| f == "tests.rs")
        || ["e2e", "sim", "fuzz"].iter().any(|folder| path.starts_with(folder))
}

/// Marks the items behind `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for (at, _) in code.match_indices("#[cfg(") {
        let condition_end = matching(code, at + 5).unwrap_or(code.len());
        let condition: String = code[at + 6..condition_end].split_whitespace().collect();
        let words: Vec<_> = condition.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        if !words.contains(&"test") || condition.contains("not(test") {
            continue;
        }
        let end = item_end(code, condition_end);
        for line in line_of(code, at)..=line_of(code, end) {
            if let Some(mark) = marks.get_mut(line) {
                *mark = true;
            }
        }
    }
    marks
}

/// Where the item that begins somewhere behind `from` ends: its semicolon or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let Some(length) = code[from..].find(['{', ';']) else { return code.len() };
    let at = from + length;
    if code.as_bytes()[at] == b';' { at } else { matching(code, at).unwrap_or(code.len()) }
}

/// The place of the bracket that closes the one at `open`.
pub fn matching(code: &str, open: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    let (opening, closing) = match bytes.get(open)? {
        b'(' => (b'(', b')'),
        b'[' => (b'[', b']'),
        b'{' => (b'{', b'}'),
        _ => return None,
    };
    let mut depth = 0usize;
    for (i, &byte) in bytes.iter().enumerate().skip(open) {
        if byte == opening {
            depth += 1;
        } else if byte == closing {
            depth -= 1;
            if depth == 0 {
                return Some(i);
            }
        }
    }
    None
}

/// The line, from 0, of the octet at `at`.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count()
}

/// Blanks comments and literals; says of each line whether it begins inside a literal.
fn blank(text: &str) -> (String, Vec<bool>) {
    let bytes = text.as_bytes();
    let mut code: Vec<u8> = bytes.iter().map(|b| if b.is_ascii() { *b } else { b' ' }).collect();
    let mut in_literal = vec![false; text.lines().count() + 1];
    let mut line = 0;
    let mut i = 0;
    while i < bytes.len() {
        let (end, literal) = match token_end(text, i) {
            Some(token) => token,
            None => {
                line += usize::from(bytes[i] == b'\n');
                i += 1;
                continue;
            }
        };
        for j in i..end {
            if bytes[j] == b'\n' {
                line += 1;
                in_literal[line] = literal;
            } else {
                code[j] = b' ';
            }
        }
        i = end;
    }
    (String::from_utf8(code).unwrap_or_default(), in_literal)
}

/// The end of the comment or literal that begins at `i`, and whether it is a literal.
fn token_end(text: &str, i: usize) -> Option<(usize, bool)> {
    let rest = &text.as_bytes()[i..];
    let part_of_word = i > 0 && {
        let before = text.as_bytes()[i - 1];
        before.is_ascii_alphanumeric() || before == b'_'
    };
    match rest[0] {
        b'/' if rest.starts_with(b"//") => {
            Some((i + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()), false))
        }
        b'/' if rest.starts_with(b"/*") => Some((i + block_comment_len(rest), false)),
        b'"' => Some((i + string_len(rest), true)),
        b'r' | b'b' | b'c' if !part_of_word => raw_string_len(rest).map(|len| (i + len, true)),
        b'\'' => char_len(text, i).map(|len| (i + len, true)),
        _ => None,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut i = 0;
    while i < rest.len() {
        if rest[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// The length of a raw string with its prefix; `None` for anything else that starts with the same letter.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().position(|b| !b"rbc".contains(b))?;
    if prefix > 2 || rest[prefix - 1] != b'r' {
        return None;
    }
    let hashes = rest[prefix..].iter().position(|&b| b != b'#')?;
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = prefix + hashes + 1;
    let found = rest[body..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(rest.len(), |at| body + at + close.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn char_len(text: &str, i: usize) -> Option<usize> {
    let rest = &text[i + 1..];
    let first = rest.chars().next()?;
    if first == '\\' {
        let close = rest.get(2..)?.find('\'')?;
        return Some(1 + 2 + close + 1);
    }
    rest[first.len_utf8()..].starts_with('\'').then(|| 1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        blank(text).0
    }

    #[test]
    fn comments_and_literals_are_blanked_and_the_rest_stays() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x \" // y", 'z', '\'', b"w")"#), "f(           ,    ,     , b   )");
        assert_eq!(code("r#\"a\"b\"# c"), "         c");
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("'\u{fc}' x"), "     x");
    }

    #[test]
    fn test_modules_are_test_code_and_what_follows_them_is_not() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(not(test))]\nfn d() {}\n";
        let source = Source::new(Path::new("vlan-core/src/x.rs"), text.into());
        assert_eq!(source.test_lines, [false, true, true, true, true, false, false, false]);
        assert!(Source::new(Path::new("rvi/tests/x.rs"), text.into()).is_test(0));
    }

    #[test]
    fn a_line_inside_a_literal_is_known() {
        let source = Source::new(Path::new("x.rs"), "let a = \"\n//= b\n\";\n// c\n".into());
        assert_eq!(source.in_literal[..4], [false, true, true, false]);
    }
}
