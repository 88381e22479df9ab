//! One table of the configuration while it is read: its keys, the tables below it, and what of it took effect.

use toml::{Table, Value};

use super::{
    reading::Reading,
    reference_entries::{About, TableEntry},
};

#[derive(Debug)]
pub(super) struct Section<'a> {
    /// With the items of lists counted, as in `product.0.dimension.1`.
    path: String,
    /// What has not been read yet.
    table: Table,
    effective: Table,
    reading: &'a Reading,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: Table, reading: &'a Reading) -> Self {
        Self { path: String::new(), table, effective: Table::new(), reading }
    }

    /// A table below this one; an absent one reads as empty.
    pub(super) fn section(&mut self, name: &str, about: &'static About) -> Self {
        let table = match self.take(name) {
            Some(Value::Table(table)) => table,
            None => Table::new(),
            Some(_) => {
                self.fault(name, "must be a table");
                Table::new()
            }
        };
        let path = self.path_of(name);
        self.reading.describe_table(&self.path, || TableEntry::single(&path, about));
        self.below(path, table)
    }

    /// A table below this one that may be left out.
    pub(super) fn optional_section(&mut self, name: &str, about: &'static About) -> Option<Self> {
        let is_read = self.has(name) || self.reading.is_for_reference();
        is_read.then(|| self.section(name, about))
    }

    /// An array of tables. The reference has one item of each.
    pub(super) fn sections(&mut self, name: &str, about: &'static About) -> Vec<Self> {
        let items = match self.take(name) {
            Some(Value::Array(items)) => items,
            None if self.reading.is_for_reference() => vec![Value::Table(Table::new())],
            None => Vec::new(),
            Some(_) => {
                self.fault(name, "must be an array of tables, as in [[...]]");
                Vec::new()
            }
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}.{index}", self.path_of(name));
            self.reading.describe_table(&self.path, || TableEntry::item(&path, about));
            match item {
                Value::Table(table) => sections.push(self.below(path, table)),
                _ => self.reading.fault(&path, "must be a table"),
            }
        }
        sections
    }

    fn below(&self, path: String, table: Table) -> Self {
        Self { path, table, effective: Table::new(), reading: self.reading }
    }

    /// Puts what took effect of a table that has been read below this one.
    pub(super) fn put(&mut self, name: &str, section: Self) {
        let effective = section.finish();
        self.set_effective(name, effective);
    }

    /// The same for an array of tables.
    pub(super) fn put_all(&mut self, name: &str, sections: Vec<Self>) {
        if sections.is_empty() {
            return;
        }
        let effective: Vec<_> = sections.into_iter().map(|section| Value::Table(section.finish())).collect();
        self.set_effective(name, effective);
    }

    /// Names every key that nothing has read, and returns what took effect.
    pub(super) fn finish(self) -> Table {
        for name in self.table.keys() {
            self.fault(name, "unknown key");
        }
        self.effective
    }

    pub(super) fn fault(&self, name: &str, what: &str) {
        self.reading.fault(&self.path_of(name), what);
    }

    /// Tells of a value that may be taken, and is likely to be a mistake.
    pub(super) fn warn(&self, name: &str, what: &str) {
        self.reading.warn(&self.path_of(name), what);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.table.remove(name)
    }

    pub(super) fn set_effective(&mut self, name: &str, value: impl Into<Value>) {
        self.effective.insert(name.to_owned(), value.into());
    }

    /// Whether the value comes from the environment, where everything is text.
    pub(super) fn is_overridden(&self, name: &str) -> bool {
        self.reading.is_overridden(&self.path_of(name))
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn reading(&self) -> &'a Reading {
        self.reading
    }
}
