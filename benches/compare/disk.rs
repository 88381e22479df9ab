//! What the disk can do: 4 KiB appended and synced, again and again, by a program that does nothing else.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// The times of the syncs in milliseconds, sorted.
pub(crate) fn probe(folder: &Path, span: Duration) -> Vec<f64> {
    let path = folder.join("probe");
    let mut file = File::create(&path).unwrap();
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < span {
        let start = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path).unwrap();
    times.sort_by(f64::total_cmp);
    times
}
