//! What the operating system knows of a process.

use std::{fs, path::Path, time::Duration};

/// Processor time of all threads of this process, in user and kernel mode.
pub(crate) fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time of this thread. What it waits for a processor, a disk or another thread is not in it.
pub(crate) fn own_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Processor time of whatever runs on the machine.
pub(crate) fn cpu_time_of_all() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
    // Not the fourth and fifth, which are idle and waiting for a disk.
    let busy = ticks[..3].iter().chain(&ticks[5..8]).sum::<u64>();
    Duration::from_millis(busy * 10)
}

pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    load.split_whitespace().next().unwrap().to_owned()
}

/// In KiB.
pub(crate) fn resident() -> u64 {
    field("/proc/self/status", "VmRSS:")
}

/// The most that was ever resident, in KiB.
pub(crate) fn peak_resident() -> u64 {
    field("/proc/self/status", "VmHWM:")
}

/// What is resident and no file's, in KiB.
pub(crate) fn anonymous() -> u64 {
    field("/proc/self/status", "RssAnon:")
}

pub(crate) fn bytes_written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The size of all files in a folder.
pub(crate) fn disk(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk(&entry.path()),
        Ok(data) => data.len(),
        // RocksDB has just deleted it.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
