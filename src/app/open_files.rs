//! Sees to it that connections never take the files of the store.

use tracing::warn;

use crate::{
    admin,
    base::{
        config::ConnectionLimits,
        open_files::{FileShares, raise_limit},
    },
};

/// Raises the limit of open files and divides it. Where it is too low, fewer connections are let in, and the log says so.
pub(super) fn divide(limits: &mut ConnectionLimits) -> FileShares {
    let limit = raise_limit();
    let shares = FileShares::divide(limit, limits.max_connections, admin::LIMITS.connections);
    if limit < shares.needed {
        let FileShares { tables, connections, needed } = shares;
        warn!(
            limit,
            needed,
            tables,
            connections,
            "the limit of open files (ulimit -n) is lower than limits.max_connections, the admin port and the store \
             need together: so many tables are kept open, and so many connections are let in"
        );
    }
    limits.max_connections = shares.connections;
    shares
}
