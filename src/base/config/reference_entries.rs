//! What a reading for the reference learns of each table and key.

use std::fmt::{self, Write};

/// A table's purpose, and an example of it.
#[derive(Debug)]
pub(super) struct About {
    pub(super) words: &'static str,
    /// All examples, one after the other, are a whole file that sets every key.
    pub(super) example: &'static str,
}

/// The tables of the reference, each before those below it.
#[derive(Debug, Default)]
pub(super) struct Tables(pub(super) Vec<TableEntry>);

#[derive(Debug)]
pub(super) struct TableEntry {
    /// With the first item of each list, as in `product.0.dimension.0`.
    pub(super) path: String,
    /// The table's header, as a file has it.
    pub(super) title: String,
    pub(super) about: &'static About,
    pub(super) keys: Vec<KeyEntry>,
}

#[derive(Debug)]
pub(super) struct KeyEntry {
    pub(super) name: &'static str,
    /// The environment variable that overrides it.
    pub(super) variable: String,
    /// The key's type and range.
    pub(super) takes: String,
    pub(super) default: String,
    pub(super) words: &'static str,
}

impl Tables {
    /// Adds a table after all others that are below the same one.
    pub(super) fn add(&mut self, above: &str, table: TableEntry) {
        let place = self.0.iter().rposition(|other| other.is_within(above)).map_or(0, |last| last + 1);
        self.0.insert(place, table);
    }

    pub(super) fn add_key(&mut self, path: &str, key: KeyEntry) {
        if let Some(table) = self.0.iter_mut().find(|table| table.path == path) {
            table.keys.push(key);
        }
    }
}

impl TableEntry {
    pub(super) fn single(path: &str, about: &'static About) -> Self {
        Self { path: path.to_owned(), title: format!("[{}]", name(path)), about, keys: Vec::new() }
    }

    pub(super) fn item(path: &str, about: &'static About) -> Self {
        Self { path: path.to_owned(), title: format!("[[{}]]", name(path)), about, keys: Vec::new() }
    }

    fn is_within(&self, path: &str) -> bool {
        let below = self.path.strip_prefix(path);
        path.is_empty() || below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
    }

    /// Writes the table as the reference shows it.
    pub(super) fn write(&self, page: &mut String) -> fmt::Result {
        let Self { title, about: About { words, example }, keys, .. } = self;
        write!(page, "\n## `{title}`\n\n{words}\n\n")?;
        write!(page, "| key | takes | default | meaning |\n|---|---|---|---|\n")?;
        for KeyEntry { name, variable, takes, default, words } in keys {
            writeln!(page, "| `{name}`<br>`{variable}` | {takes} | {default} | {words} |")?;
        }
        write!(page, "\n```toml\n{}```\n", example.trim_start())
    }
}

/// A path without the numbers of list items.
pub(super) fn name(path: &str) -> String {
    let names: Vec<_> = path.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
    names.join(".")
}
