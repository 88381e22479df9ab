//! What the tables of one reading share: where faults gather, and what the reference is told.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{self, Path, PathBuf},
};

use super::{
    overrides::variable,
    reference_entries::{KeyEntry, TableEntry, Tables},
};

#[derive(Debug, Default)]
pub(super) struct Reading {
    file: String,
    base: PathBase,
    /// Keys that the environment overrides, as paths like `hour.grace`.
    overridden: BTreeSet<String>,
    /// Each names its source (a file or an environment variable) and key.
    faults: RefCell<Vec<String>>,
    /// In the same form.
    warnings: RefCell<Vec<String>>,
    /// The tables that the reference shows; `None` in any other reading.
    tables: Option<RefCell<Tables>>,
}

/// What relative paths are relative to. It is never the current folder: a start from another one would find other files,
/// and an empty data folder.
#[derive(Debug, Default)]
pub(super) enum PathBase {
    /// Text without a file, as in tests: paths stay as they are.
    #[default]
    Unknown,
    /// The configuration file's folder, with its whole path.
    Folder(PathBuf),
    /// There is no file, so all paths must be whole.
    None,
}

impl PathBase {
    /// The base of a configuration file, or of the environment alone.
    pub(super) fn of(file: Option<&Path>) -> Self {
        let folder = file.map(|file| path::absolute(file).ok()?.parent().map(Path::to_path_buf));
        folder.map_or(Self::None, |folder| folder.map_or(Self::None, Self::Folder))
    }
}

impl Reading {
    /// Reads a configuration. `file` names its text in faults.
    pub(super) fn of(file: &str, base: PathBase, overridden: BTreeSet<String>) -> Self {
        Self { file: file.to_owned(), base, overridden, ..Self::default() }
    }

    /// The whole path that a text means; `None` if there is nothing that it could be relative to.
    pub(super) fn whole_path(&self, text: &str) -> Option<PathBuf> {
        match &self.base {
            PathBase::Folder(folder) => path::absolute(folder.join(text)).ok(),
            PathBase::None => Some(PathBuf::from(text)).filter(|path| path.is_absolute()),
            PathBase::Unknown => Some(PathBuf::from(text)),
        }
    }

    /// Reads nothing, to learn of every table and key. Faults have no meaning then.
    pub(super) fn for_reference() -> Self {
        Self { tables: Some(RefCell::default()), ..Self::default() }
    }

    pub(super) fn is_for_reference(&self) -> bool {
        self.tables.is_some()
    }

    pub(super) fn is_overridden(&self, path: &str) -> bool {
        self.overridden.contains(path)
    }

    pub(super) fn fault(&self, path: &str, what: &str) {
        self.faults.borrow_mut().push(self.message(path, what));
    }

    pub(super) fn warn(&self, path: &str, what: &str) {
        self.warnings.borrow_mut().push(self.message(path, what));
    }

    fn message(&self, path: &str, what: &str) -> String {
        let source = if self.is_overridden(path) { &variable(path) } else { &self.file };
        format!("{source}: {path}: {what}")
    }

    /// Tells the reference of a table in the table `above`.
    pub(super) fn describe_table(&self, above: &str, table: impl FnOnce() -> TableEntry) {
        if let Some(tables) = &self.tables {
            tables.borrow_mut().add(above, table());
        }
    }

    /// Tells the reference of a key in the table at `path`.
    pub(super) fn describe_key(&self, path: &str, key: impl FnOnce() -> KeyEntry) {
        if let Some(tables) = &self.tables {
            tables.borrow_mut().add_key(path, key());
        }
    }

    /// Takes the warnings out.
    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    pub(super) fn into_faults(self) -> Vec<String> {
        self.faults.into_inner()
    }

    pub(super) fn into_tables(self) -> Tables {
        self.tables.map(RefCell::into_inner).unwrap_or_default()
    }
}
