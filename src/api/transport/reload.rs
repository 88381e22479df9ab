//! Files that are read again while the agent runs, and the value that they are parsed into.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::base::files;

/// Largest file that is read. Certificates and tokens are far smaller; a larger file is one named by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files that are parsed together, such as a certificate and its key.
pub(super) struct Reloadable<T> {
    files: Vec<PathBuf>,
    parse: fn(&[Vec<u8>]) -> Result<T, String>,
    /// Hash of the contents that were parsed last. The contents are secrets, and are not kept.
    parsed_hash: [u8; 32],
    /// Hash of different contents that the last read has found.
    candidate_hash: Option<[u8; 32]>,
    /// Whether the contents cannot be used, so that an earlier value is in force.
    pub(super) is_stale: bool,
}

type Contents = Result<Vec<Vec<u8>>, String>;

impl<T> Reloadable<T> {
    pub(super) fn load(
        files: Vec<PathBuf>,
        parse: fn(&[Vec<u8>]) -> Result<T, String>,
    ) -> Result<(Self, T), String> {
        let contents = read(&files);
        let parsed_hash = hash(&contents);
        let reloadable = Self { files, parse, parsed_hash, candidate_hash: None, is_stale: false };
        let value = reloadable.parse(contents)?;
        Ok((reloadable, value))
    }

    /// Reads the files. Returns the new value, or why there is none, if the contents have changed since they were
    /// parsed.
    ///
    /// Files may change one after the other, and a file may be written in pieces. So a change is parsed only when two
    /// reads in a row have found the same contents.
    pub(super) fn reload(&mut self) -> Option<Result<T, String>> {
        let contents = read(&self.files);
        let found = hash(&contents);
        if found == self.parsed_hash {
            self.candidate_hash = None;
            return None;
        }
        if self.candidate_hash.replace(found) != Some(found) {
            return None;
        }
        self.parsed_hash = found;
        let parsed = self.parse(contents);
        self.is_stale = parsed.is_err();
        Some(parsed)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        names.join(", ")
    }

    fn parse(&self, contents: Contents) -> Result<T, String> {
        (self.parse)(&contents?).map_err(|fault| format!("{}: {fault}", self.names()))
    }
}

fn read(files: &[PathBuf]) -> Contents {
    let read = |file: &PathBuf| {
        files::read_regular(file, MAX_FILE_BYTES).map_err(|fault| format!("{}: {fault}", file.display()))
    };
    files.iter().map(read).collect()
}

fn hash(contents: &Contents) -> [u8; 32] {
    let mut hasher = Sha256::new();
    match contents {
        Ok(files) => files.iter().for_each(|content| hasher.update(Sha256::digest(content))),
        Err(fault) => hasher.update(fault),
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(files: &[Vec<u8>]) -> Result<u32, String> {
        let text = String::from_utf8(files.concat()).map_err(|fault| fault.to_string())?;
        text.parse().map_err(|_| "no number".to_owned())
    }

    #[test]
    fn a_change_is_parsed_once_two_reads_have_found_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![folder.path().join("a"), folder.path().join("b")];
        let write = |a: &str, b: &str| {
            fs::write(&files[0], a).unwrap();
            fs::write(&files[1], b).unwrap();
        };
        write("1", "2");
        let (mut reloadable, value) = Reloadable::load(files.clone(), number).unwrap();
        assert_eq!((value, reloadable.reload(), reloadable.reload()), (12, None, None));
        write("3", "2");
        assert_eq!(reloadable.reload(), None, "the files may be in the middle of a change");
        write("3", "4");
        assert_eq!(
            (reloadable.reload(), reloadable.reload(), reloadable.reload()),
            (None, Some(Ok(34)), None)
        );
        write("12", "");
        assert_eq!(
            (reloadable.reload(), reloadable.reload()),
            (None, Some(Ok(12))),
            "the same bytes, cut elsewhere"
        );
    }

    #[test]
    fn a_fault_is_returned_once_and_then_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        fs::write(&file, "1").unwrap();
        let (mut reloadable, _) = Reloadable::load(vec![file.clone()], number).unwrap();
        fs::write(&file, "one").unwrap();
        let fault = (reloadable.reload(), reloadable.reload().unwrap().unwrap_err(), reloadable.reload());
        assert_eq!(fault, (None, format!("{}: no number", file.display()), None));
        assert!(reloadable.is_stale);
        fs::remove_file(&file).unwrap();
        assert!(
            reloadable.reload().is_none() && reloadable.reload().unwrap().is_err(),
            "a file that is gone"
        );
        fs::write(&file, "1").unwrap();
        assert_eq!((reloadable.reload(), reloadable.reload()), (None, Some(Ok(1))), "as it was at first");
        assert!(!reloadable.is_stale);
        fs::write(&file, vec![b'1'; 1 << 21]).unwrap();
        assert!(reloadable.reload().is_none() && reloadable.reload().unwrap().unwrap_err().contains("bytes"));
    }
}
