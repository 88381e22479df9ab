//! Reads a table from its beginning to its end, a page at a time.

use std::vec;

use crate::store::{Pair, Rows, StoreError, TableId};

/// A record may take up to a megabyte, and several cursors read at a time, beside a running agent.
const PAGE: usize = 32;

pub(super) struct Cursor<'a> {
    rows: &'a dyn Rows,
    table: TableId,
    page: vec::IntoIter<Pair>,
    /// The key at which the next page begins; `None` after the last page.
    next_page: Option<Vec<u8>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rows: &'a dyn Rows, table: TableId) -> Self {
        Self { rows, table, page: Vec::new().into_iter(), next_page: Some(Vec::new()) }
    }

    /// Begins at a key rather than at the table's first one.
    pub(super) fn starting_at(self, key: &[u8]) -> Self {
        Self { next_page: Some(key.to_vec()), ..self }
    }

    /// The next row, which stays there.
    pub(super) fn peek(&mut self) -> Result<Option<&Pair>, StoreError> {
        self.fill()?;
        Ok(self.page.as_slice().first())
    }

    pub(super) fn next(&mut self) -> Result<Option<Pair>, StoreError> {
        self.fill()?;
        Ok(self.page.next())
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if self.page.len() > 0 {
            return Ok(());
        }
        let Some(from) = self.next_page.take() else { return Ok(()) };
        let page = self.rows.scan(self.table, &from, PAGE)?;
        self.next_page = page.last().filter(|_| page.len() == PAGE).map(|(last, _)| {
            let mut after = last.to_vec();
            after.push(0);
            after
        });
        self.page = page.into_iter();
        Ok(())
    }
}
