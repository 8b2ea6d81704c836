//! Rules on the text of each source file.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::lint::Finding;
use crate::source::{Source, line_of, matching};
use crate::workspace;

/// Code that says of itself that it is not finished, or that hides a test.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
/// File names that say nothing about what is in the file.
const EMPTY_NAMES: &[&str] = &["mod", "util", "utils", "common", "misc", "helper", "helpers", "manager"];
/// Function names that say nothing about what the function is for. A process is a thing here, so only what
/// is done to frames and the like is meant by the word.
const EMPTY_VERBS: &[&str] =
    &["get_", "do_", "process_frame", "process_message", "process_packet", "process_event", "process_input"];
/// Lines of a file without its tests, and of a function, past which a look is worth it.
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Checks one file against every rule on text.
pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    let mut find = |line: usize, message: String| {
        findings.push(Finding { path: source.path.clone(), line, message });
    };
    unfinished(source, &mut find);
    sleeps(source, &mut find);
    orderings(source, &mut find);
    attributes(source, &mut find);
    names(source, &mut find);
}

fn unfinished(source: &Source, find: &mut impl FnMut(usize, String)) {
    for (n, line, _) in source.code_lines() {
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            find(n, format!("{word} is not for code that is kept"));
        }
    }
}

/// A test that sleeps waits too long or not long enough. A pause inside a bounded poll of a condition, or one
/// that is itself what the test varies, says so.
fn sleeps(source: &Source, find: &mut impl FnMut(usize, String)) {
    for (n, line, test) in source.code_lines() {
        if test && line.contains("thread::sleep") && !has_comment_above(source, n, "// SLEEP:") {
            find(
                n,
                "a test waits for a condition, not for time (a poll's pause says `// SLEEP: why` above)"
                    .into(),
            );
        }
    }
}

/// Every access to an atomic names the access that it is paired with.
fn orderings(source: &Source, find: &mut impl FnMut(usize, String)) {
    const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
    for (n, line, test) in source.code_lines() {
        if test {
            continue;
        }
        let imported = line.trim_start().starts_with("use ") && line.contains("Ordering::{");
        if imported || (line.trim_start().starts_with("use ") && line.contains("Ordering::*")) {
            find(n, "memory orderings are written `Ordering::Acquire`, so that they can be found".into());
            continue;
        }
        let used = ORDERINGS.iter().any(|o| line.contains(&format!("Ordering::{o}")));
        if used && !has_comment_above(source, n, "// ORDERING:") {
            find(n, "an atomic access without an `// ORDERING:` comment that names its partner".into());
        }
    }
}

/// Whether a comment that starts with `mark` stands on the line or within the three lines of code above it;
/// comment lines themselves do not count, a long reason is welcome.
fn has_comment_above(source: &Source, n: usize, mark: &str) -> bool {
    let lines: Vec<_> = source.text.lines().collect();
    let mut code_lines_left = 3;
    for line in lines[..=n].iter().rev() {
        if line.contains(mark) {
            return true;
        }
        if !line.trim_start().starts_with("//") {
            if code_lines_left == 0 {
                return false;
            }
            code_lines_left -= 1;
        }
    }
    false
}

/// A lint that is switched off says why.
fn attributes(source: &Source, find: &mut impl FnMut(usize, String)) {
    for (at, _) in source.code.match_indices('#') {
        let open = at + 1 + usize::from(source.code[at + 1..].starts_with('!'));
        if !source.code[open..].starts_with('[') {
            continue;
        }
        let Some(close) = matching(&source.code, open) else { continue };
        let attribute = &source.code[open..close];
        if (has_word(attribute, "allow(") || has_word(attribute, "expect(")) && !attribute.contains("reason")
        {
            find(line_of(&source.code, at), "a lint is switched off without `reason = \"...\"`".into());
        }
    }
}

fn names(source: &Source, find: &mut impl FnMut(usize, String)) {
    let stem = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if EMPTY_NAMES.contains(&&*stem) {
        find(0, format!("a file named {stem} does not say what is in it"));
    }
    for (n, line, _) in source.code_lines() {
        let Some(at) = line.find("fn ") else { continue };
        let name = line[at + 3..].trim_start();
        for verb in EMPTY_VERBS {
            if name.starts_with(verb) {
                find(n, format!("a function named {verb}... does not say what it does"));
            }
        }
    }
}

/// True when `line` has `word` and no letter, digit or underscore in front of it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Every package takes its lints from the workspace.
///
/// # Errors
/// When a manifest cannot be read.
pub fn check_manifests(top: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace::files(top, &["toml"])? {
        let text = fs::read_to_string(top.join(&path))?;
        let member = path.ends_with("Cargo.toml") && text.contains("[package]") && !path.starts_with("fuzz");
        if member && !text.contains("[lints]\nworkspace = true") {
            let message = "a package without `[lints] workspace = true`".into();
            findings.push(Finding { path, line: 0, message });
        }
    }
    Ok(findings)
}

/// Names the long files and functions: not an error, but somebody should be able to say why.
pub fn print_lengths(sources: &[Source]) {
    for source in sources {
        let lines = source.code.lines().count() - source.test_lines.iter().filter(|t| **t).count();
        if lines > FILE_LINES {
            println!("note: {}: {lines} lines without tests", source.path.display());
        }
        for (name, line, length) in long_functions(source) {
            println!("note: {}:{}: {name} has {length} lines", source.path.display(), line + 1);
        }
    }
}

fn long_functions(source: &Source) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("fn ") {
        let rest = &source.code[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let starts_word = at == 0 || !source.code.as_bytes()[at - 1].is_ascii_alphanumeric();
        let Some(open) = rest.find(['{', ';']).map(|o| at + 3 + o) else { continue };
        if name.is_empty() || !starts_word || source.code.as_bytes()[open] == b';' {
            continue;
        }
        let Some(close) = matching(&source.code, open) else { continue };
        let (first, last) = (line_of(&source.code, open), line_of(&source.code, close));
        if last - first > FUNCTION_LINES {
            found.push((name, first, last - first));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<usize> {
        let mut findings = Vec::new();
        check(&Source::new(Path::new(path), text.into()), &mut findings);
        findings.iter().map(|f| f.line).collect()
    }

    #[test]
    fn unfinished_code_is_found_and_talk_of_it_is_not() {
        assert_eq!(findings("a/src/a.rs", "fn a() { todo!() }\n// todo! later\nlet x = \"dbg!\";\n"), [0]);
        assert_eq!(findings("a/src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), [1]);
    }

    #[test]
    fn an_atomic_access_needs_its_comment() {
        assert_eq!(findings("a/src/a.rs", "x.load(Ordering::Acquire);\n"), [0]);
        let commented =
            "// ORDERING: pairs with the store in b,\n// because.\nlet x =\n    x.load(Ordering::Acquire);\n";
        assert_eq!(findings("a/src/a.rs", commented), [0; 0]);
        assert_eq!(findings("a/src/a.rs", "a.cmp(&b) == Ordering::Less;\n"), [0; 0]);
        assert_eq!(findings("a/tests/a.rs", "x.load(Ordering::Acquire);\n"), [0; 0]);
    }

    #[test]
    fn a_sleep_in_a_test_needs_to_be_a_poll() {
        assert_eq!(findings("a/src/a.rs", "fn a() { thread::sleep(t); }\n"), [0; 0]);
        assert_eq!(findings("a/tests/a.rs", "fn a() { thread::sleep(t); }\n"), [0]);
        assert_eq!(findings("a/tests/a.rs", "// SLEEP: until the file appears\nthread::sleep(t);\n"), [0; 0]);
    }

    #[test]
    fn a_lint_is_switched_off_only_with_a_reason() {
        assert_eq!(findings("a/src/a.rs", "#[allow(dead_code)]\nfn a() {}\n"), [0]);
        assert_eq!(
            findings("a/src/a.rs", "#![allow(\n    unsafe_code,\n    reason = \"rings\"\n)]\n"),
            [0; 0]
        );
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(
            findings("a/src/util.rs", "fn get_mac() {}\nfn process_id() {}\nfn forget_it() {}\n"),
            [0, 0]
        );
    }
}
