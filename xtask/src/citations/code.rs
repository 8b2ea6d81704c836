//! Citations in the code.

use crate::source::Source;

/// A quotation of the specification in a comment.
#[derive(Debug)]
pub struct Citation {
    /// The specification file.
    pub file: String,
    /// The heading's anchor.
    pub anchor: String,
    /// The quoted text, its lines joined.
    pub quote: String,
    /// Marked as a test.
    pub is_test: bool,
    /// Stands in test code.
    pub in_test_code: bool,
    source: String,
    line: usize,
}

impl Citation {
    /// Where it stands: `path:line`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.source, self.line + 1)
    }
}

/// Every citation of a source file.
pub fn collect(source: &Source) -> Vec<Citation> {
    let mut citations: Vec<Citation> = Vec::new();
    let mut open = false;
    for (line, text) in source.text.lines().enumerate() {
        let text = text.trim();
        if source.in_literal.get(line) == Some(&true) {
            continue;
        }
        if let Some(target) = text.strip_prefix("//=").map(str::trim) {
            match (target.strip_prefix("type="), citations.last_mut()) {
                (Some(kind), Some(last)) if open => last.is_test = kind == "test",
                _ => {
                    citations.push(start(source, line, target));
                    open = true;
                }
            }
        } else if let (Some(quote), Some(last), true) = (text.strip_prefix("//#"), citations.last_mut(), open)
        {
            last.quote.push_str(quote);
            last.quote.push(' ');
        } else {
            open = false;
        }
    }
    citations
}

fn start(source: &Source, line: usize, target: &str) -> Citation {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    Citation {
        file: file.into(),
        anchor: anchor.into(),
        quote: String::new(),
        is_test: false,
        in_test_code: source.is_test(line),
        source: source.path.display().to_string(),
        line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_quote_over_several_lines_is_joined_and_literals_are_skipped() {
        let text = "    //= spec/a.md#b\n    //# One\n    //# two.\n    let x = \"\n//= spec/c.md#d\n\";\n//# stray\n";
        let citations = collect(&Source::new(Path::new("rvi/src/a.rs"), text.into()));
        assert_eq!(citations.len(), 1);
        assert_eq!(citations[0].quote.split_whitespace().collect::<Vec<_>>().join(" "), "One two.");
        assert_eq!((&*citations[0].file, &*citations[0].anchor), ("spec/a.md", "b"));
    }
}
