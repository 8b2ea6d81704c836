//! A table with named columns, as CSV and as Markdown.

/// Rows of text under named columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has more or fewer cells than there are columns.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }

    /// Lines of values with commas between; none of them contains one.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",");
        for row in &self.rows {
            text.push('\n');
            text.push_str(&row.iter().map(|cell| cell.replace(',', ";")).collect::<Vec<_>>().join(","));
        }
        text.push('\n');
        text
    }

    /// A Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let names: Vec<_> = self.columns.iter().map(|name| (*name).to_string()).collect();
        let rule = vec!["---".to_string(); names.len()];
        let head = line(&names) + &line(&rule);
        self.rows.iter().fold(head, |text, row| text + &line(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_every_cell() {
        let mut table = Table::new(&["a", "b"]);
        table.push(vec!["1".into(), "x, y".into()]);
        assert_eq!(table.csv(), "a,b\n1,x; y\n");
        assert_eq!(table.markdown(), "| a | b |\n| --- | --- |\n| 1 | x, y |\n");
    }
}
