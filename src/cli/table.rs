//! Tables of text whose columns are as wide as their contents.

use crate::domain::text::printable;

/// Rows under headings. A column without any entry is left out.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    is_number: bool,
}

/// A column of text, which is aligned to the left.
pub(super) const fn text(heading: &'static str) -> Column {
    Column { heading, is_number: false }
}

/// A column of numbers, which is aligned to the right.
pub(super) const fn number(heading: &'static str) -> Column {
    Column { heading, is_number: true }
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for every column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let headings = self.columns.iter().map(|column| column.heading);
        let mut text = self.line(headings, &widths);
        for row in &self.rows {
            text.push_str(&self.line(row.iter().map(String::as_str), &widths));
        }
        text
    }

    /// The width of a column: zero if it has no entries.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        match cells.map(|cell| cell.chars().count()).max() {
            None | Some(0) => 0,
            Some(widest) => widest.max(self.columns[column].heading.len()),
        }
    }

    fn line<'t>(&self, cells: impl Iterator<Item = &'t str>, widths: &[usize]) -> String {
        let shown = cells.zip(&self.columns).zip(widths).filter(|(_, width)| **width > 0);
        let padded =
            shown.map(
                |((cell, column), &width)| {
                    if column.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            );
        let line = padded.collect::<Vec<_>>().join(GAP);
        format!("{}\n", line.trim_end())
    }
}

const GAP: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<const N: usize>(row: [&str; N]) -> [String; N] {
        row.map(str::to_owned)
    }

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let mut table = Table::new(&[text("CUSTOMER"), number("QUANTITY"), text("STATE")]);
        table.row(cells(["a", "1", "pending"]));
        table.row(cells(["012345678901", "1234567890.5", "held"]));
        let expected = "\
CUSTOMER          QUANTITY  STATE
a                        1  pending
012345678901  1234567890.5  held
";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_column_without_entries_is_left_out() {
        let mut table = Table::new(&[text("A"), text("EMPTY"), text("B")]);
        table.row(cells(["1", "", "2"]));
        assert_eq!(table.render(), "A  B\n1  2\n");
    }

    #[test]
    fn letters_beyond_ascii_are_one_place_wide_and_unseen_ones_do_nothing() {
        let mut table = Table::new(&[text("K"), text("V")]);
        table.row(cells(["é\u{1b}", "x"]));
        table.row(cells(["a\u{202e}", "y"]));
        assert_eq!(table.render(), "K   V\né\u{fffd}  x\na\u{fffd}  y\n");
    }
}
