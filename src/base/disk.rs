//! How much room a disk has.

use std::{io, path::Path};

use rustix::fs::statvfs;

/// A disk's room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub bytes: u64,
    /// What this process may still write; some file systems keep a part for root.
    pub available: u64,
}

impl Room {
    /// The room of the disk that `folder` is on. Blocks for as long as the disk does.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let told = statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Ok(Self { bytes: bytes(told.f_blocks), available: bytes(told.f_bavail) })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn it_is_what_df_says() {
        let folder = tempfile::tempdir().unwrap();
        let df = Command::new("df").args(["-P", "-B1"]).arg(folder.path()).output().unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let columns: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let room = Room::of(folder.path()).unwrap();
        assert_eq!(columns[1].parse(), Ok(room.bytes));
        let available: u64 = columns[3].parse().unwrap();
        // Others write, too.
        assert!(room.available.abs_diff(available) < room.bytes / 10, "{room:?}, df: {available}");
        assert!(room.available <= room.bytes);
    }

    #[test]
    fn a_folder_that_is_gone_has_none() {
        assert_eq!(Room::of(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
