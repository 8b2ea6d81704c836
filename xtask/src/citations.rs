//! `cargo xtask citations`: every MUST of `spec/` is cited by code and by a test, and every citation still
//! says what the specification says.

mod code;
mod report;
mod spec;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::citations::code::Citation;
use crate::citations::spec::Section;
use crate::source::Source;
use crate::workspace;

/// A sentence with MUST, and who cites it.
#[derive(Debug)]
struct Rule {
    /// The file, as citations name it: `spec/tlv.md`.
    file: String,
    anchor: String,
    line: usize,
    sentence: String,
    /// Requirement ids of its section.
    ids: Vec<String>,
    /// Places in code that cite it, as `path:line`.
    code: Vec<String>,
    /// Places in tests that cite it.
    tests: Vec<String>,
}

/// What a comparison of specification and code found.
#[derive(Debug, Default)]
struct Outcome {
    rules: Vec<Rule>,
    problems: Vec<String>,
}

/// Compares, prints a table for each specification file, and writes the whole report when asked.
///
/// # Errors
/// When a rule is not cited or a citation is wrong.
pub fn run(report: Option<&Path>) -> Result<()> {
    let root = workspace::root();
    let mut sections = Vec::new();
    for path in workspace::files(&root.join("spec"), &["md"])? {
        let name = format!("spec/{}", path.display());
        let text = fs::read_to_string(root.join(&name)).with_context(|| format!("cannot read {name}"))?;
        sections.extend(spec::parse(&name, &text));
    }
    let citations: Vec<_> = Source::all()?.iter().flat_map(code::collect).collect();
    let outcome = compare(&sections, &citations);
    report::print(&outcome);
    if let Some(file) = report {
        fs::write(file, report::markdown(&outcome))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !outcome.problems.is_empty() {
        bail!("{} problems between spec/ and the code", outcome.problems.len());
    }
    Ok(())
}

fn compare(sections: &[Section], citations: &[Citation]) -> Outcome {
    let mut outcome = Outcome::default();
    for (i, section) in sections.iter().enumerate() {
        if sections[..i].iter().any(|s| s.file == section.file && s.anchor == section.anchor) {
            let Section { file, anchor, line, .. } = section;
            outcome.problems.push(format!("{file}:{}: a second heading #{anchor}", line + 1));
        }
        outcome.rules.extend(rules_of(section));
    }
    for citation in citations {
        if let Err(problem) = attach(citation, sections, &mut outcome.rules) {
            outcome.problems.push(format!("{}: {problem}", citation.place()));
        }
    }
    for rule in &outcome.rules {
        let missing = match (rule.code.is_empty(), rule.tests.is_empty()) {
            (false, false) => continue,
            (true, true) => "neither code nor test cites",
            (true, false) => "no code cites",
            (false, true) => "no test cites",
        };
        let place = format!("{}#{} (line {})", rule.file, rule.anchor, rule.line + 1);
        outcome.problems.push(format!("{place}: {missing} \"{}\"", rule.sentence));
    }
    outcome
}

fn rules_of(section: &Section) -> impl Iterator<Item = Rule> {
    section.sentences.iter().filter(|s| s.is_rule()).map(|sentence| Rule {
        file: section.file.clone(),
        anchor: section.anchor.clone(),
        line: sentence.line,
        sentence: sentence.text.clone(),
        ids: section.ids.clone(),
        code: Vec::new(),
        tests: Vec::new(),
    })
}

/// Notes the citation at each rule that it quotes.
fn attach(citation: &Citation, sections: &[Section], rules: &mut [Rule]) -> Result<(), String> {
    let target = format!("{}#{}", citation.file, citation.anchor);
    let section = sections.iter().find(|s| s.file == citation.file && s.anchor == citation.anchor);
    let section = section.ok_or_else(|| format!("there is no {target}"))?;
    let quoted = spec::sentences(&citation.quote);
    if quoted.is_empty() {
        return Err(format!("cites {target} without quoting a sentence"));
    }
    for sentence in &quoted {
        if !section.sentences.iter().any(|s| s.text == *sentence) {
            return Err(format!("quotes what {target} does not say: \"{sentence}\""));
        }
    }
    if citation.is_test && !citation.in_test_code {
        return Err(format!("cites {target} as a test but is no test code"));
    }
    if !citation.is_test && citation.in_test_code {
        return Err(format!("cites {target} from test code without `//= type=test`"));
    }
    for rule in rules.iter_mut() {
        if rule.file == citation.file && rule.anchor == citation.anchor && quoted.contains(&rule.sentence) {
            if citation.is_test { &mut rule.tests } else { &mut rule.code }.push(citation.place());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str =
        "# T\n\n## One rule\n\nAn end MUST stop\nreading. It may rest. (S7, amendment 3)\n\nWhy.\n";

    fn outcome(code: &str) -> Outcome {
        let source = Source::new(Path::new("rvi/src/a.rs"), code.into());
        compare(&spec::parse("spec/t.md", SPEC), &code::collect(&source))
    }

    const CODE: &str = "//= spec/t.md#one-rule\n//# An end MUST\n//# stop reading.\nfn a() {}\n";
    const TEST: &str = "#[cfg(test)]\nmod tests {\n    //= spec/t.md#one-rule\n    //= type=test\n    //# An end MUST stop reading.\n    fn b() {}\n}\n";

    #[test]
    fn a_rule_with_code_and_test_is_covered() {
        let outcome = outcome(&format!("{CODE}{TEST}"));
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        assert_eq!(outcome.rules[0].code, ["rvi/src/a.rs:1"]);
        assert_eq!(outcome.rules[0].tests, ["rvi/src/a.rs:7"]);
        assert_eq!(outcome.rules[0].ids, ["S7", "amendment 3"]);
    }

    #[test]
    fn a_rule_without_code_or_without_test_is_a_problem() {
        for (code, words) in [("", "neither"), (CODE, "no test"), (TEST, "no code")] {
            let problems = outcome(code).problems;
            assert_eq!(problems.len(), 1);
            assert!(problems[0].contains(words), "{problems:?}");
        }
    }

    #[test]
    fn a_quote_that_no_longer_matches_is_a_problem() {
        let outcome = outcome(&format!("{CODE}{TEST}").replace("stop reading", "stop writing"));
        assert_eq!(outcome.problems.len(), 3, "{:?}", outcome.problems);
    }

    #[test]
    fn a_citation_of_nothing_or_of_the_wrong_kind_is_a_problem() {
        let both = format!("{CODE}{TEST}");
        for (from, to, words) in [
            ("#one-rule\n//#", "#no-rule\n//#", "there is no"),
            ("//# An end MUST\n//# stop reading.\n", "", "without quoting"),
            ("    //= type=test\n", "", "from test code"),
        ] {
            let problems = outcome(&both.replacen(from, to, 1)).problems;
            assert!(problems[0].contains(words), "{problems:?}");
        }
    }
}
