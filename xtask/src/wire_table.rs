//! `spec/tlv.md` and the code name the same messages with the same type numbers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::lint::Finding;
use crate::source::Source;

const TABLE: &str = "spec/tlv.md";
const CODE: &str = "vlan-core/src/wire/control.rs";

/// Compares the table of control messages with the constants of the code, both ways.
///
/// # Errors
/// When the table cannot be read.
pub fn check(top: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(top.join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    let stated = stated(&text);
    let coded = sources.iter().find(|s| s.path == Path::new(CODE)).map(coded).unwrap_or_default();
    let mut findings = Vec::new();
    let names: std::collections::BTreeSet<_> = stated.keys().chain(coded.keys()).collect();
    for name in names.into_iter().filter(|name| stated.get(*name) != coded.get(*name)) {
        let shown = |number: Option<&u16>| number.map_or("missing".into(), |n| format!("{n:#06x}"));
        let message =
            format!("{name} is {} here and {} in {CODE}", shown(stated.get(name)), shown(coded.get(name)));
        findings.push(Finding { path: TABLE.into(), line: 0, message });
    }
    Ok(findings)
}

/// Rows of the form: type number, name in backquotes and in capitals.
fn stated(table: &str) -> BTreeMap<String, u16> {
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let number = u16::from_str_radix(cells.next()?.strip_prefix("0x")?, 16).ok()?;
        let name = cells.next()?.strip_prefix('`')?.split('`').next()?;
        Some((name.to_owned(), number))
    });
    rows.collect()
}

/// Pairs `NAME = 0x0123` outside of tests.
fn coded(source: &Source) -> BTreeMap<String, u16> {
    let lines = source.code_lines().filter(|(_, _, test)| !test).map(|(_, line, _)| line);
    let pairs = lines.flat_map(|line| line.split(',')).filter_map(|pair| {
        let (name, number) = pair.split_once(" = 0x")?;
        let capitals = name.trim().chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let number = u16::from_str_radix(number.trim(), 16).ok()?;
        capitals.then(|| (name.trim().to_owned(), number))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_table_and_the_code_name_the_same_messages() {
        let sources = Source::all().unwrap();
        let code = sources.iter().find(|s| s.path == Path::new(CODE)).unwrap();
        assert!(coded(code).len() > 20, "{:?}", coded(code));
        let findings = check(workspace::root(), &sources).unwrap();
        let messages: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(messages.is_empty(), "{}", messages.join("\n"));
    }

    #[test]
    fn rows_and_constants_are_read() {
        let table = "| 0x0020 | `A_B` (S54) | x |\n| 0x8001 | unicast | y |\n| type | message |\n";
        assert_eq!(stated(table), BTreeMap::from([("A_B".to_owned(), 0x20)]));
        let source = Source::new(
            Path::new("a.rs"),
            "kinds! {\n    A_B = 0x0020, C = 0x00ff,\n}\nlet x = 0x1;\n".into(),
        );
        assert_eq!(coded(&source), BTreeMap::from([("A_B".to_owned(), 0x20), ("C".to_owned(), 0xff)]));
    }
}
