//! Aligned columns of text.

use std::fmt::Write;

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of titles.
#[derive(Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; a title that begins with `>` makes a column of numbers.
    pub fn new(titles: &[&str]) -> Self {
        let side = |title: &&str| if title.starts_with('>') { Side::Right } else { Side::Left };
        let titles_row = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
        Self { sides: titles.iter().map(side).collect(), rows: vec![titles_row] }
    }

    /// Adds a row; columns that it has no cells for stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let blanks = std::iter::repeat_with(String::new);
        self.rows.push(cells.into_iter().chain(blanks).take(self.sides.len()).collect());
    }

    /// The text: columns two spaces apart, no spaces at the end of a line.
    pub fn text(&self) -> String {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.sides.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), side) in row.iter().zip(&widths).zip(&self.sides) {
                let _ = match side {
                    Side::Left => write!(line, "{cell:<width$}  "),
                    Side::Right => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&["NAME", ">FRAMES", "STATE"]);
        table.row(["a", "1", "up"].map(String::from));
        table.row(["longer", "12345678"].map(String::from));
        let expected = "NAME      FRAMES  STATE\na              1  up\nlonger  12345678\n";
        assert_eq!(table.text(), expected);
    }
}
