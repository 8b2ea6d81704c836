//! The text of a platform file, and positions in it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Mistake, PlatformError, Position};

/// The longest platform file that is read, in octets: some 20,000 nodes with their memberships. It bounds what a
/// wrong path can cost.
pub const FILE_LEN_MAX: usize = 4 << 20;

/// Reads the file at `path` as UTF-8.
pub fn load(path: &Path) -> Result<String, PlatformError> {
    let read_error = |source| PlatformError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let mut octets = Vec::new();
    file.take(FILE_LEN_MAX as u64 + 1).read_to_end(&mut octets).map_err(read_error)?;
    if octets.len() > FILE_LEN_MAX {
        return Err(PlatformError::TooLong { path: path.to_owned(), limit: FILE_LEN_MAX });
    }
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let prefix = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let mistake = Mistake {
            position: Lines::new(&prefix).position(valid),
            what: "this octet is not UTF-8 text".into(),
            hint: "save the file in UTF-8".into(),
        };
        PlatformError::Mistakes { path: path.to_owned(), mistakes: vec![mistake] }
    })
}

/// Finds line and column of offsets in a text.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Indexes the lines of `text`.
    pub fn new(text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(offset, _)| offset + 1)).collect();
        Self { text, starts }
    }

    /// The position of the character at `offset`, which may lie anywhere, also beyond the end.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let column = self.text[start..offset].chars().count() + 1;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position { line: narrow(line), column: narrow(column) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_at_newlines() {
        let lines = Lines::new("ab\r\n\u{e4}\u{f6} x\n");
        let at = |offset| lines.position(offset).to_string();
        assert_eq!(
            [at(0), at(2), at(4), at(6), at(8)],
            ["1:1", "1:3", "2:1", "2:2", "2:3"].map(String::from)
        );
        assert_eq!(at(5), "2:1", "inside a character: that character");
        assert_eq!(at(11), "3:1");
        assert_eq!(at(9999), "3:1");
    }

    #[test]
    fn a_file_that_is_not_utf_8_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        std::fs::write(&path, b"[platform]\nname = \"\xff\"\n").unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.mistakes()[0].position, Position { line: 2, column: 9 });
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_a_hint() {
        let error = load(Path::new("no/such/file.toml")).unwrap_err();
        assert!(error.report().starts_with("error: no/such/file.toml: "), "{}", error.report());
        assert!(error.report().contains("\nhint: "));
    }
}
