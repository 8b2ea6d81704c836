//! No text makes the parser panic, and the same text always gives the same answer.

use std::path::Path;

use platform::Platform;
use proptest::prelude::*;

const FILES: [&str; 2] =
    [include_str!("../../examples/everything.toml"), include_str!("../../examples/two-lans.toml")];

/// Pieces that mean something to the parser, to be put anywhere.
const PIECES: [&str; 28] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{10ffff}",
    "0",
    "-1",
    "18446744073709551616",
    "1e400",
    "0x",
    "1979-05-27T07:32:00Z",
    "[[lan]]\n",
    "\\u0000",
    "unix:",
    "true",
];

fn check(text: &str) -> Result<(), TestCaseError> {
    let path = Path::new("p.toml");
    match (Platform::parse(text, path), Platform::parse(text, path)) {
        (Ok(first), Ok(second)) => prop_assert_eq!(first, second),
        (Err(first), Err(second)) => {
            prop_assert_eq!(first.report(), second.report());
            prop_assert!(!first.mistakes().is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in first.mistakes() {
                prop_assert!(mistake.position.line as usize <= lines && mistake.position.column >= 1);
                prop_assert!(!mistake.what.is_empty() && !mistake.hint.is_empty());
            }
        }
        _ => prop_assert!(false, "two answers to one text"),
    }
    Ok(())
}

/// The nearest place at or before `at` (of a thousand parts of the text) where a character begins.
fn place(text: &str, at: usize) -> usize {
    let mut offset = text.len() * at / 1000;
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[derive(Clone, Debug)]
enum Change {
    Insert(usize, usize),
    Remove(usize, usize),
    Copy(usize, usize, usize),
    DropLine(usize),
    SwapWords(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = || 0..=1000_usize;
    let change = prop_oneof![
        (at(), 0..PIECES.len()).prop_map(|(to, piece)| Change::Insert(to, piece)),
        (at(), 0..40_usize).prop_map(|(from, len)| Change::Remove(from, len)),
        (at(), 0..80_usize, at()).prop_map(|(from, len, to)| Change::Copy(from, len, to)),
        at().prop_map(Change::DropLine),
        (at(), at()).prop_map(|(a, b)| Change::SwapWords(a, b)),
    ];
    prop::collection::vec(change, 1..6)
}

fn piece_of(text: &str, from: usize, len: usize) -> std::ops::Range<usize> {
    let start = place(text, from);
    let mut end = (start + len).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    start..end.max(start)
}

fn change(text: &mut String, change: &Change) {
    match *change {
        Change::Insert(to, piece) => text.insert_str(place(text, to), PIECES[piece]),
        Change::Remove(from, len) => text.replace_range(piece_of(text, from, len), ""),
        Change::Copy(from, len, to) => {
            let piece = text[piece_of(text, from, len)].to_owned();
            text.insert_str(place(text, to), &piece);
        }
        Change::DropLine(at) => {
            let offset = place(text, at);
            let start = text[..offset].rfind('\n').map_or(0, |n| n + 1);
            let end = text[offset..].find('\n').map_or(text.len(), |n| offset + n);
            text.replace_range(start..end, "");
        }
        Change::SwapWords(a, b) => {
            let values: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
            if !values.is_empty() {
                let [a, b] = [a, b].map(|n| &values[n * (values.len() - 1) / 1000]);
                *text = text.replacen(a.as_str(), b, 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_valid_file_with_something_changed_never_panics(file in 0..FILES.len(), changes in changes()) {
        let mut text = FILES[file].to_owned();
        for step in &changes {
            change(&mut text, step);
        }
        check(&text)?;
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        check(&text)?;
    }
}

#[test]
fn deep_nesting_is_a_mistake_and_not_a_full_stack() {
    let deep = 200_000;
    for text in [
        format!("{}a = 1", "a.".repeat(deep)),
        format!("a = {}", "[".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("a = {}", "{b=".repeat(deep)),
    ] {
        assert!(Platform::parse(&text, Path::new("p.toml")).is_err());
    }
}
