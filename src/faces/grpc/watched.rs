//! Files that are read again and again, and what they make.

use std::{fs::File, io::Read, path::PathBuf};

use sha2::{Digest, Sha256};

/// Certificates and tokens are far smaller; a path that names a large file by mistake is told.
const LARGEST_FILE: u64 = 1 << 20;

/// Files that make one thing together, such as a certificate and its key.
pub(super) struct Watched<T> {
    files: Vec<PathBuf>,
    make: fn(&[Vec<u8>]) -> Result<T, String>,
    /// A hash of what was judged last: secrets are not kept.
    judged: [u8; 32],
    /// What the last look found instead.
    changing_to: Option<[u8; 32]>,
    /// What they hold now makes nothing, so that what they made before is in force.
    pub(super) is_stale: bool,
}

type Contents = Result<Vec<Vec<u8>>, String>;

impl<T> Watched<T> {
    pub(super) fn load(
        files: Vec<PathBuf>,
        make: fn(&[Vec<u8>]) -> Result<T, String>,
    ) -> Result<(Self, T), String> {
        let contents = read(&files);
        let judged = hash(&contents);
        let watched = Self { files, make, judged, changing_to: None, is_stale: false };
        let made = watched.make(contents)?;
        Ok((watched, made))
    }

    /// What the files make now, if that is news. They may be changed one after the other, and a file may be written in
    /// pieces: what is new counts once two looks have found the same.
    pub(super) fn look(&mut self) -> Option<Result<T, String>> {
        let contents = read(&self.files);
        let found = hash(&contents);
        if found == self.judged {
            self.changing_to = None;
            return None;
        }
        if self.changing_to.replace(found) != Some(found) {
            return None;
        }
        self.judged = found;
        let made = self.make(contents);
        self.is_stale = made.is_err();
        Some(made)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        names.join(", ")
    }

    fn make(&self, contents: Contents) -> Result<T, String> {
        (self.make)(&contents?).map_err(|fault| format!("{}: {fault}", self.names()))
    }
}

fn read(files: &[PathBuf]) -> Contents {
    files.iter().map(|file| read_file(file).map_err(|fault| format!("{}: {fault}", file.display()))).collect()
}

fn read_file(file: &PathBuf) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut content));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(length) if length as u64 > LARGEST_FILE => Err(format!("has more than {LARGEST_FILE} bytes")),
        Ok(_) => Ok(content),
    }
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
    fn what_is_new_counts_once_two_looks_have_found_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![folder.path().join("a"), folder.path().join("b")];
        let write = |a: &str, b: &str| {
            fs::write(&files[0], a).unwrap();
            fs::write(&files[1], b).unwrap();
        };
        write("1", "2");
        let (mut watched, made) = Watched::load(files.clone(), number).unwrap();
        assert_eq!((made, watched.look(), watched.look()), (12, None, None));
        write("3", "2");
        assert_eq!(watched.look(), None, "it may be half a change");
        write("3", "4");
        assert_eq!((watched.look(), watched.look(), watched.look()), (None, Some(Ok(34)), None));
        write("12", "");
        assert_eq!((watched.look(), watched.look()), (None, Some(Ok(12))), "the same bytes, cut elsewhere");
    }

    #[test]
    fn a_fault_is_told_once_and_then_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        fs::write(&file, "1").unwrap();
        let (mut watched, _) = Watched::load(vec![file.clone()], number).unwrap();
        fs::write(&file, "one").unwrap();
        let fault = (watched.look(), watched.look().unwrap().unwrap_err(), watched.look());
        assert_eq!(fault, (None, format!("{}: no number", file.display()), None));
        assert!(watched.is_stale);
        fs::remove_file(&file).unwrap();
        assert!(watched.look().is_none() && watched.look().unwrap().is_err(), "a file that is gone");
        fs::write(&file, "1").unwrap();
        assert_eq!((watched.look(), watched.look()), (None, Some(Ok(1))), "as it was at first");
        assert!(!watched.is_stale);
        fs::write(&file, vec![b'1'; 1 << 21]).unwrap();
        assert!(watched.look().is_none() && watched.look().unwrap().unwrap_err().contains("bytes"));
    }
}
