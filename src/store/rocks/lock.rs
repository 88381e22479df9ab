//! The lock file that keeps a second agent out of a data folder.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{StoreError, io_error};

/// Keeps a second agent out of the data folder.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, and leaves this process's pid in it for whoever is refused.
    pub(super) fn take(path: PathBuf) -> Result<Self, StoreError> {
        let in_lock = |source| io_error("lock", &path, source);
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(in_lock)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| file.rewind()).map_err(in_lock)?;
                write!(file, "{}", std::process::id()).map_err(in_lock)?;
                Ok(Self { file, path })
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Err(StoreError::InUse { path: folder_of(&path), pid })
            }
            Err(TryLockError::Error(source)) => Err(in_lock(source)),
        }
    }

    /// Keeps agents out without leave to write; `None` where there is no lock file.
    pub(super) fn share(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let Ok(file) = File::open(&path) else { return Ok(None) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { file, path })),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: folder_of(&path), pid: None }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path, source)),
        }
    }

    /// Fails once the folder has been deleted or moved: what is written goes where no other start will find it.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let is_here = |there: &fs::Metadata, held: &fs::Metadata| there.ino() == held.ino();
        let in_lock = |source| io_error("check", &self.path, source);
        match fs::metadata(&self.path) {
            Ok(there) if is_here(&there, &self.file.metadata().map_err(in_lock)?) => Ok(()),
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(in_lock(fault)),
            Ok(_) | Err(_) => Err(StoreError::Gone { path: folder_of(&self.path) }),
        }
    }
}

fn folder_of(file: &Path) -> String {
    file.parent().unwrap_or(file).display().to_string()
}
