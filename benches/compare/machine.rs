//! Where it was measured.

use std::{fs, path::Path, thread};

pub(crate) fn describe(folder: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores of {model}, Linux {}, files in {}",
        kernel.trim(),
        file_system(&read("/proc/mounts"), folder)
    )
}

/// The type of the innermost mount that holds the folder.
fn file_system(mounts: &str, folder: &Path) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holders = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    let innermost = holders.max_by_key(|fields| fields[1].len());
    let kind = innermost.map_or("unknown", |fields| fields[2]);
    let warning = if kind == "tmpfs" { ", WHICH IS MEMORY AND SYNCS NOTHING" } else { "" };
    format!("{} ({kind}{warning})", folder.display())
}
