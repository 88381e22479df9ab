//! The limit of open files (`ulimit -n`), and how the agent divides what it allows.
//!
//! RocksDB takes a file that it cannot open for a fault of the disk, after which it writes nothing more. So it has its
//! share, and connections never get that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most files of tables that the store keeps open. A hundred million dedup keys are in about 130 files, and RocksDB
/// closes one as soon as one of 64 groups is full.
pub(crate) const MAX_TABLE_FILES: u64 = 768;
/// The fewest with which RocksDB works.
const MIN_TABLE_FILES: u64 = 32;
/// Of the store, beside its tables: logs, manifest, locks, and files that are being written.
const STORE_FILES: u64 = 64;
/// Of calls to AWS, credentials, traces, and the process itself.
const OTHER_FILES: u64 = 64;
/// With fewer connections an agent is of no use.
const MIN_CONNECTIONS: u64 = 8;

/// Raises the limit as far as the system lets this process, and returns it.
pub(crate) fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, the limit stays as it was, and is what counts.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What each part of the agent may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileShares {
    /// Tables of the store.
    pub tables: u64,
    /// Connections to the gRPC port.
    pub connections: usize,
    /// The limit with which every part could have what it may ask for.
    pub needed: u64,
}

impl FileShares {
    /// Divides a limit. `http` is the number of connections to all other ports.
    pub(crate) fn divide(limit: u64, max_connections: usize, http: usize) -> Self {
        let (max_connections, http) = (max_connections as u64, http as u64);
        let fixed = STORE_FILES + OTHER_FILES + http;
        let spare = limit.saturating_sub(fixed);
        let tables =
            (spare / 3).max(spare.saturating_sub(max_connections)).clamp(MIN_TABLE_FILES, MAX_TABLE_FILES);
        let connections = spare.saturating_sub(tables).max(MIN_CONNECTIONS).min(max_connections);
        Self {
            tables,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            needed: fixed + MAX_TABLE_FILES + max_connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(limit: u64, max_connections: usize) -> (u64, usize, u64) {
        let FileShares { tables, connections, needed } = FileShares::divide(limit, max_connections, 64);
        (tables, connections, needed)
    }

    #[test]
    fn with_enough_files_every_part_has_what_it_asks_for() {
        assert_eq!(shares(1460, 500), (768, 500, 1460));
        assert_eq!(shares(u64::MAX, 100_000), (768, 100_000, 100_960));
    }

    #[test]
    fn the_usual_limit_of_a_container_is_enough_for_500_connections() {
        assert_eq!(shares(1024, 500), (332, 500, 1460));
    }

    #[test]
    fn fewer_files_leave_the_store_a_third_and_connections_the_rest() {
        assert_eq!(shares(512, 500), (106, 214, 1460));
        assert_eq!(shares(60, 500), (32, 8, 1460));
        assert_eq!(shares(60, 3), (32, 3, 963));
    }

    proptest::proptest! {
        #[test]
        fn no_more_is_given_than_there_is(limit in 240_u64..100_000, max in 1_usize..100_000) {
            let FileShares { tables, connections, .. } = FileShares::divide(limit, max, 64);
            proptest::prop_assert!(tables + connections as u64 + 64 + 128 <= limit);
        }
    }
}
