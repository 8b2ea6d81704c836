//! The specification: headings and their sentences.

/// What stands under one heading, up to the next.
#[derive(Debug)]
pub struct Section {
    /// The file, as citations name it.
    pub file: String,
    /// The heading in lower case, its words joined by dashes.
    pub anchor: String,
    /// Line of the heading, from 0.
    pub line: usize,
    /// Its sentences, outside of code blocks.
    pub sentences: Vec<Sentence>,
    /// Requirement ids that stand in brackets in it.
    pub ids: Vec<String>,
}

/// A sentence with its white space made single.
#[derive(Debug)]
pub struct Sentence {
    /// The text.
    pub text: String,
    /// Line, from 0, where its paragraph begins.
    pub line: usize,
}

impl Sentence {
    /// True when it lays something down: it has the word MUST.
    pub fn is_rule(&self) -> bool {
        self.text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "MUST")
    }
}

/// Takes a specification file apart.
pub fn parse(file: &str, text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut paragraph: Option<(usize, String)> = None;
    let mut in_code = false;
    for (line, raw) in text.lines().chain([""]).enumerate() {
        let trimmed = raw.trim();
        let fence = trimmed.starts_with("```");
        let heading = (!in_code && raw.starts_with('#')).then(|| raw.trim_start_matches('#').trim());
        let starts_block =
            fence || heading.is_some() || trimmed.is_empty() || is_item(trimmed) || trimmed.starts_with('|');
        if starts_block && let Some((start, text)) = paragraph.take() {
            end_paragraph(sections.last_mut(), start, &text);
        }
        in_code ^= fence;
        if let Some(heading) = heading {
            let (file, anchor) = (file.to_owned(), anchor(heading));
            sections.push(Section { file, anchor, line, sentences: Vec::new(), ids: Vec::new() });
        } else if trimmed.starts_with('|') {
            trimmed.split('|').for_each(|cell| end_paragraph(sections.last_mut(), line, cell));
        } else if !in_code && !fence && !trimmed.is_empty() {
            let (_, text) = paragraph.get_or_insert((line, String::new()));
            text.push_str(without_marker(trimmed));
            text.push(' ');
        }
    }
    sections
}

fn end_paragraph(section: Option<&mut Section>, line: usize, text: &str) {
    let Some(section) = section else { return };
    section.sentences.extend(sentences(text).into_iter().map(|text| Sentence { text, line }));
    for id in ids(text) {
        if !section.ids.contains(&id) {
            section.ids.push(id);
        }
    }
}

fn is_item(line: &str) -> bool {
    without_marker(line).len() != line.len()
}

/// The line without the mark of a list item.
fn without_marker(line: &str) -> &str {
    if let Some(rest) = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
        return rest;
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 { line[digits..].strip_prefix(". ").unwrap_or(line) } else { line }
}

/// The anchor of a heading: lower case, words joined by dashes, nothing but letters, digits, dashes and
/// underscores.
pub fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Cuts a text into sentences, white space made single. A sentence ends at a full stop, question mark or
/// exclamation mark before a space or the end, but not behind "e.g." and "i.e.".
pub fn sentences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut sentence = String::new();
    for word in text.split_whitespace() {
        if !sentence.is_empty() {
            sentence.push(' ');
        }
        sentence.push_str(word);
        let ends = word.trim_end_matches([')', '"', '*', '`']).ends_with(['.', '?', '!']);
        if ends && !["e.g.", "i.e.", "etc."].contains(&word) {
            found.push(std::mem::take(&mut sentence));
        }
    }
    if !sentence.is_empty() {
        found.push(sentence);
    }
    found
}

/// Requirement ids in brackets: `(S7, D2, I-20, amendment 3)`; a range `S81-S83` stands for all of its ids.
fn ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for group in text.split('(').skip(1) {
        let Some((group, _)) = group.split_once(')') else { continue };
        let items: Vec<_> = group.split([',', ';']).map(str::trim).collect();
        for item in items {
            found.extend(id_range(item));
        }
    }
    found
}

fn id_range(item: &str) -> Vec<String> {
    if let Some((first, last)) = item.split_once("-S").or_else(|| item.split_once(" to S")) {
        let bounds = (first.strip_prefix('S').and_then(|f| f.parse::<u32>().ok()), last.parse::<u32>().ok());
        if let (Some(first), Some(last)) = bounds {
            return (first..=last).map(|n| format!("S{n}")).collect();
        }
    }
    if is_id(item) { vec![item.to_owned()] } else { Vec::new() }
}

fn is_id(item: &str) -> bool {
    let number = ["amendment ", "I-", "S", "D", "E"].iter().find_map(|prefix| item.strip_prefix(prefix));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_become_anchors() {
        assert_eq!(anchor("Virtual MAC addresses"), "virtual-mac-addresses");
        assert_eq!(anchor("`head` & settled (S9)"), "head--settled-s9");
    }

    #[test]
    fn sentences_end_at_their_stops_only() {
        let text = "One MUST\n stop, e.g. here (RFC 802.3). (S7) Two is \"done.\" Three";
        assert_eq!(
            sentences(text),
            ["One MUST stop, e.g. here (RFC 802.3).", "(S7) Two is \"done.\"", "Three"]
        );
    }

    #[test]
    fn lists_tables_and_code_blocks_are_kept_apart() {
        let text = "## A\nOne\n- two MUST go.\n  on\n1. three\n\n| four MUST | five |\n```\nsix MUST\n```\nseven\n## B\n";
        let sections = parse("spec/x.md", text);
        let all: Vec<_> = sections[0].sentences.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(all, ["One", "two MUST go.", "on", "three", "four MUST", "five", "seven"]);
        assert_eq!(sections[1].anchor, "b");
        let rules = sections[0].sentences.iter().filter(|s| s.is_rule()).count();
        assert_eq!(rules, 2);
    }

    #[test]
    fn ids_in_brackets_are_found() {
        assert_eq!(
            ids("x (S7, amendment 12) y (S81-S83; D2) (a word) I-3 (I-4)").join(" "),
            "S7 amendment 12 S81 S82 S83 D2 I-4"
        );
    }
}
