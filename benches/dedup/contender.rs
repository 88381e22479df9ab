//! A way to know which ids were counted, and what is measured of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) trait Contender {
    /// Commits those of the ids that are new, with their count, and syncs. Says how many are new.
    fn commit(&mut self, ids: &[u128], now: u32, lap: &mut Lap) -> u64;

    /// How many of the ids are known.
    fn known(&mut self, ids: &[u128]) -> usize;

    /// What lies on disk, in a word or two.
    fn shape(&self) -> String;
}

/// What was measured in a turn.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Lap {
    pub(crate) ids: u64,
    pub(crate) new: u64,
    /// Looked up, and inserted in memory.
    pub(crate) look: Duration,
    /// Made a batch, with the steps of flushing and compaction that are due.
    pub(crate) make: Duration,
    /// Written and synced.
    pub(crate) write: Duration,
    /// Processor time of all threads, and of the one that commits.
    pub(crate) cpu: Duration,
    pub(crate) own_cpu: Duration,
    /// Each commit with its look-ups, in microseconds.
    pub(crate) commits: Vec<u64>,
    /// Resident memory in KiB.
    pub(crate) resident: u64,
    pub(crate) peak_resident: u64,
    pub(crate) peak_anonymous: u64,
    pub(crate) disk: u64,
    pub(crate) written: u64,
}

/// What a process finds that opens what another one left.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Reopened {
    pub(crate) start: Duration,
    /// In KiB.
    pub(crate) resident: u64,
    /// Time to find a duplicate among the oldest ids.
    pub(crate) oldest: Duration,
    pub(crate) latest: Duration,
    pub(crate) shape: String,
}

impl Lap {
    pub(crate) fn busy(&self) -> Duration {
        self.look + self.make + self.write
    }
}
