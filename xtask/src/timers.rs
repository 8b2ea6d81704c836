//! `spec/timers.md` and the constants that it lists say the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lint::Finding;
use crate::source::{Source, line_of};

const TABLE: &str = "spec/timers.md";

/// The file whose every constant must have a row.
const COMPLETE: &str = "vlan-core/src/limits.rs";

/// Folders of what is shipped: every constant there that is a duration or a bound must have a row.
const SHIPPED: &[&str] = &[
    "vlan-core",
    "rvi",
    "arp-server",
    "lan-proxy",
    "cluster-proxy",
    "platform",
    "switch-node",
    "switch-server",
    "switchctl",
];

/// What is shipped to show the fabric but is no part of it.
const SHOWN: &str = "switch-server/src/demo";

/// A row of the table.
struct Row {
    line: usize,
    file: PathBuf,
    name: String,
    value: String,
    unit: String,
}

/// A constant of the code.
struct Constant {
    line: usize,
    kind: String,
    expression: String,
}

type Constants = BTreeMap<PathBuf, BTreeMap<String, Constant>>;

/// Compares the table with the source files that its headings name, and looks for what has no row.
///
/// # Errors
/// When the table cannot be read.
pub fn check(top: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let table = fs::read_to_string(top.join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    let rows = parse_rows(&table);
    let constants: Constants = sources.iter().map(|s| (s.path.clone(), parse_constants(s))).collect();
    let mut findings: Vec<_> = rows.iter().filter_map(|row| check_row(row, &constants)).collect();
    for (path, constants) in &constants {
        let shipped = SHIPPED.iter().any(|folder| path.starts_with(folder)) && !path.starts_with(SHOWN);
        for (name, constant) in constants {
            // Lengths belong to formats, and stand in their specification.
            let bound = name.ends_with("_MAX") && !name.ends_with("LEN_MAX");
            let wanted = path == Path::new(COMPLETE) || (shipped && (bound || constant.kind == "Duration"));
            if wanted && !rows.iter().any(|r| r.file == *path && r.name == *name) {
                let file = path.display();
                let message = format!("{name} has no row in {TABLE} under the heading \"## `{file}`\"");
                findings.push(Finding { path: path.clone(), line: constant.line, message });
            }
        }
    }
    Ok(findings)
}

fn check_row(row: &Row, constants: &Constants) -> Option<Finding> {
    let finding = |message| Some(Finding { path: TABLE.into(), line: row.line, message });
    let file = constants.get(&row.file);
    let Some(constant) = file.and_then(|f| f.get(&row.name)) else {
        return finding(format!("{} is no constant of {}", row.name, row.file.display()));
    };
    // A name in an expression may be of the same file or of the limits.
    let names: BTreeMap<_, _> = [constants.get(Path::new(COMPLETE)), file]
        .into_iter()
        .flatten()
        .flatten()
        .map(|(name, constant)| (name.clone(), constant.expression.clone()))
        .collect();
    let code = value(&constant.expression, &names);
    if code.is_some() && code == stated(&row.value, &row.unit) {
        return None;
    }
    finding(format!("{} is {} in the code, {} {} here", row.name, constant.expression, row.value, row.unit))
}

/// Rows of the tables under headings that name a source file in backquotes.
fn parse_rows(table: &str) -> Vec<Row> {
    let mut file = None;
    let mut rows = Vec::new();
    for (line, text) in table.lines().enumerate() {
        if text.starts_with('#') {
            file = text.split('`').nth(1).map(PathBuf::from);
            continue;
        }
        let cells: Vec<_> = text.split('|').map(str::trim).collect();
        let (Some(file), [_, name, value, unit, ..]) = (&file, cells.as_slice()) else { continue };
        if let Some(name) = name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) {
            let (name, value, unit) = (name.into(), (*value).into(), (*unit).into());
            rows.push(Row { line, file: file.clone(), name, value, unit });
        }
    }
    rows
}

/// The constants of a source file, those of its tests apart.
fn parse_constants(source: &Source) -> BTreeMap<String, Constant> {
    let mut constants = BTreeMap::new();
    for (at, _) in source.code.match_indices("const ") {
        let line = line_of(&source.code, at);
        let statement = source.code[at + 6..].split(';').next().unwrap_or_default();
        let Some((name, (kind, expression))) =
            statement.split_once(':').and_then(|(name, rest)| Some((name, rest.split_once('=')?)))
        else {
            continue;
        };
        if source.is_test(line)
            || !name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        {
            continue;
        }
        let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let kind = kind.trim().rsplit("::").next().unwrap_or_default().to_owned();
        constants.insert(name.to_owned(), Constant { line, kind, expression });
    }
    constants
}

/// The value of a constant: a number, or nanoseconds for a duration. Knows sums, products, shifts, brackets,
/// names and the constructors of `Duration`, and no more.
fn value(expression: &str, names: &BTreeMap<String, String>) -> Option<u128> {
    let expression = expression.trim();
    for (constructor, unit) in
        [("from_nanos", "ns"), ("from_micros", "us"), ("from_millis", "ms"), ("from_secs", "s")]
    {
        if let Some(inner) = expression.strip_prefix(&format!("Duration::{constructor}(")) {
            return Some(value(inner.strip_suffix(')')?, names)? * nanos(unit)?);
        }
    }
    // Weakest first; the last operator outside of brackets is the one that is applied last.
    for operator in ["<<", "+", "*"] {
        if let Some(at) = last_outside_brackets(expression, operator) {
            let left = value(&expression[..at], names)?;
            let right = value(&expression[at + operator.len()..], names)?;
            return match operator {
                "<<" => left.checked_shl(u32::try_from(right).ok()?),
                "+" => left.checked_add(right),
                _ => left.checked_mul(right),
            };
        }
    }
    if let Some(inner) = expression.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
        return value(inner, names);
    }
    let word = expression.split(" as ").next()?.trim();
    match word.replace('_', "").parse() {
        Ok(number) => Some(number),
        Err(_) => value(names.get(word)?, names),
    }
}

fn last_outside_brackets(expression: &str, operator: &str) -> Option<usize> {
    let depth_at = |at: usize| {
        let count = |c: char| expression[..at].matches(c).count();
        count('(') - count(')')
    };
    expression.rmatch_indices(operator).map(|(at, _)| at).find(|at| depth_at(*at) == 0)
}

/// The value that a row states, in the same measure as [`value`].
fn stated(value: &str, unit: &str) -> Option<u128> {
    Some(value.replace(',', "").parse::<u128>().ok()? * nanos(unit).unwrap_or(1))
}

/// Nanoseconds of a unit of time; `None` for any other unit.
fn nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_table_and_the_code_agree() {
        let findings = check(workspace::root(), &Source::all().unwrap()).unwrap();
        let messages: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(messages.is_empty(), "{}", messages.join("\n"));
    }

    #[test]
    fn values_are_read_as_the_compiler_reads_them() {
        let text = "/// One.\npub const A: usize = 4 * 1_024;\nconst B: usize = A + 2 * 3;\n\
                    pub const C: core::time::Duration = Duration::from_millis(50);\nconst fn d(e: u8) {}\n";
        let constants = parse_constants(&Source::new(Path::new("rvi/src/a.rs"), text.into()));
        assert_eq!(constants.keys().collect::<Vec<_>>(), ["A", "B", "C"]);
        assert_eq!((constants["C"].line, &*constants["C"].kind), (3, "Duration"));
        let names = constants.into_iter().map(|(name, constant)| (name, constant.expression)).collect();
        assert_eq!(value("A", &names), Some(4096));
        assert_eq!(value("B", &names), Some(4102));
        assert_eq!(value("C", &names), stated("50", "ms"));
        assert_eq!(value("2 * (A + 1) + 1", &names), Some(8195));
        assert_eq!(value("1 << 20", &names), Some(1 << 20));
        assert_eq!(value("A as u64 + 1", &names), Some(4097));
        assert_eq!(value("unknown", &names), None);
    }
}
