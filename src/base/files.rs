//! Small files that a person names: read whole, up to a bound, and without waiting for anyone.

use std::{
    fs::{File, FileType},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustix::fs::{Mode, OFlags};

/// Reads a file of at most so many bytes. One that is no regular file is refused: a pipe would be waited for, and a
/// device may never end.
pub(crate) fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    // Without `NONBLOCK`, a pipe that nobody writes to would not even be opened.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|fault| io::Error::from(fault).to_string())?);
    if !file_type(&file)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    read(file, max)
}

/// The same for a file that may also be a pipe, as the shell's `<(...)` is one.
pub(crate) fn read_regular_or_pipe(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|fault| fault.to_string())?;
    let kind = file_type(&file)?;
    if !kind.is_file() && !kind.is_fifo() {
        return Err("is neither a regular file nor a pipe".to_owned());
    }
    read(file, max)
}

fn file_type(file: &File) -> Result<FileType, String> {
    file.metadata().map(|metadata| metadata.file_type()).map_err(|fault| fault.to_string())
}

fn read(file: File, max: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let length = file.take(max + 1).read_to_end(&mut content).map_err(|fault| fault.to_string())?;
    if length as u64 > max { Err(format!("has more than {max} bytes")) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "1234").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            for read in [read_regular, read_regular_or_pipe] {
                assert_eq!(read(path, 4), Ok(b"1234".to_vec()));
                assert_eq!(read(path, 3), Err("has more than 3 bytes".to_owned()));
                assert!(read(&folder.path().join("none"), 3).unwrap_err().contains("No such file"));
            }
        }
    }

    #[test]
    fn what_may_never_end_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for path in [pipe(folder.path()), "/dev/zero".into(), folder.path().to_owned()] {
            assert_eq!(read_regular(&path, 10), Err("is no regular file".to_owned()), "{}", path.display());
        }
        for path in [Path::new("/dev/zero"), folder.path()] {
            assert!(read_regular_or_pipe(path, 10).unwrap_err().contains("nor a pipe"), "{}", path.display());
        }
    }

    #[test]
    fn a_pipe_that_is_written_to_is_read_where_it_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let writer = path.clone();
        let writing = std::thread::spawn(move || fs::write(writer, "text"));
        assert_eq!(read_regular_or_pipe(&path, 10), Ok(b"text".to_vec()));
        writing.join().unwrap().unwrap();
    }
}
