//! The citation report, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::citations::{Outcome, Rule};

/// Prints a line per heading, the ids covered and the problems.
pub fn print(outcome: &Outcome) {
    for (file, rules) in by_file(outcome) {
        println!("{file}: {} rules", rules.len());
        println!("   {:<48} {:>5} {:>5} {:>5}", "heading", "rules", "code", "tests");
        for (anchor, rules) in group(&rules, |r| r.anchor.clone()) {
            let code: usize = rules.iter().map(|r| r.code.len()).sum();
            let tests: usize = rules.iter().map(|r| r.tests.len()).sum();
            println!("   {anchor:<48} {:>5} {code:>5} {tests:>5}", rules.len());
        }
    }
    println!("requirements covered: {}", covered(outcome).join(" "));
    for problem in &outcome.problems {
        println!("{problem}");
    }
    println!("{} rules, {} problems", outcome.rules.len(), outcome.problems.len());
}

/// The whole report: each rule with every place that cites it.
pub fn markdown(outcome: &Outcome) -> String {
    let mut text = String::from("# Citation report\n");
    for (file, rules) in by_file(outcome) {
        let _ =
            write!(text, "\n## {file}\n\n| heading | rule | ids | code | tests |\n|---|---|---|---|---|\n");
        for rule in rules {
            let sentence = rule.sentence.replace('|', "\\|");
            let (ids, code, tests) = (rule.ids.join(", "), rule.code.join(", "), rule.tests.join(", "));
            let _ = writeln!(text, "| {} | {sentence} | {ids} | {code} | {tests} |", rule.anchor);
        }
    }
    let _ = write!(text, "\n## Requirements covered\n\n{}\n", covered(outcome).join(", "));
    if !outcome.problems.is_empty() {
        let _ = write!(text, "\n## Problems\n\n");
        for problem in &outcome.problems {
            let _ = writeln!(text, "- {problem}");
        }
    }
    text
}

/// Ids of the rules that have both code and test, in order.
fn covered(outcome: &Outcome) -> Vec<String> {
    let complete = outcome.rules.iter().filter(|r| !r.code.is_empty() && !r.tests.is_empty());
    let mut ids: Vec<_> = complete.flat_map(|r| r.ids.clone()).collect();
    ids.sort_by_key(|id| {
        let digits = id.find(|c: char| c.is_ascii_digit()).unwrap_or(id.len());
        (id[..digits].to_owned(), id[digits..].parse::<u32>().unwrap_or(0))
    });
    ids.dedup();
    ids
}

fn by_file(outcome: &Outcome) -> BTreeMap<String, Vec<&Rule>> {
    let rules: Vec<_> = outcome.rules.iter().collect();
    group(&rules, |r| r.file.clone()).into_iter().collect()
}

/// Rules with the same key, in the order in which the keys are first met.
fn group<'r>(rules: &[&'r Rule], key: impl Fn(&Rule) -> String) -> Vec<(String, Vec<&'r Rule>)> {
    let mut groups: Vec<(String, Vec<&Rule>)> = Vec::new();
    for rule in rules {
        let key = key(rule);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.push(rule),
            None => groups.push((key, vec![rule])),
        }
    }
    groups
}
