//! What several requests say: who decides and why, and how much is asked for.

use std::sync::Arc;

use tonic::Status;

use crate::domain::text::has_unseen;

pub(super) const MAX_PAGE: usize = 1000;
/// Rows that one call looks at before it answers with what it has, and a token to go on.
pub(super) const MAX_ROWS_READ: usize = 50_000;
const MAX_REASON: usize = 1000;
const MAX_DECIDER: usize = 200;

/// A person's reason.
pub(super) fn reason(given: &str) -> Result<Arc<str>, Status> {
    text("reason", given, MAX_REASON)
}

/// The name of who decides.
pub(super) fn decider(given: &str) -> Result<Arc<str>, Status> {
    let by = text("decided_by", given, MAX_DECIDER)?;
    if has_unseen(&by) {
        return Err(Status::invalid_argument("decided_by must be a name whose characters are all seen"));
    }
    Ok(by)
}

pub(super) fn text(field: &str, text: &str, longest: usize) -> Result<Arc<str>, Status> {
    if (1..=longest).contains(&text.len()) && !text.trim().is_empty() {
        Ok(text.into())
    } else {
        Err(Status::invalid_argument(format!("{field} must be 1 to {longest} bytes")))
    }
}

pub(super) fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => MAX_PAGE,
        size => size.min(MAX_PAGE),
    }
}
