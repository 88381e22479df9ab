//! A data folder in a line, for who looks at it before an agent does.

use std::{fs, io, path::Path};

use crate::{
    engine::folder_glance::FolderGlance,
    store::{RocksFolder, StoreError},
};

/// Says whether there is a folder, and what it holds. It changes nothing.
pub(super) fn describe(data_dir: &Path) -> String {
    format!("data folder {}: {}", data_dir.display(), state_of(data_dir))
}

/// The same without the folder's name.
pub(super) fn state_of(data_dir: &Path) -> String {
    match fs::metadata(data_dir.join("db")) {
        Ok(_) => {}
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            return "new: nothing is there yet".to_owned();
        }
        Err(fault) => return format!("it cannot be looked into: {fault}"),
    }
    match RocksFolder::open(data_dir).and_then(|folder| FolderGlance::of(&folder)) {
        Ok(glance) => format!("found, {glance}"),
        Err(StoreError::InUse { pid: Some(pid), .. }) => format!("found, in use by an agent (pid {pid})"),
        Err(StoreError::InUse { pid: None, .. }) => "found, in use by an agent".to_owned(),
        Err(fault) => format!("it cannot be looked into: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        assert_eq!(describe(&none), format!("data folder {}: new: nothing is there yet", none.display()));
        assert!(!none.exists());
    }
}
