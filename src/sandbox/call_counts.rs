//! How many calls and records came in, by how they were answered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::exception::Kind;

#[derive(Debug, Default)]
pub(super) struct CallCounts {
    /// Calls by the exception's name, or `Answered`.
    by_result: BTreeMap<&'static str, u64>,
    /// Records of answered calls by their status.
    records: BTreeMap<String, u64>,
    /// Calls whose answer, whatever it was, did not go out.
    lost: u64,
    /// Calls with a record whose `CustomerIdentifier` is empty.
    empty_customer_identifier: u64,
}

impl CallCounts {
    pub(super) fn count_call(&mut self, result: &'static str, reply_lost: bool) {
        add_one(self.by_result.entry(result).or_default());
        if reply_lost {
            add_one(&mut self.lost);
        }
    }

    pub(super) fn count_record(&mut self, status: &str) {
        add_one(self.records.entry(status.to_owned()).or_default());
    }

    pub(super) fn count_empty_identifier(&mut self) {
        add_one(&mut self.empty_customer_identifier);
    }

    pub(super) fn to_json(&self) -> Value {
        let of = |kind: Kind| self.by_result.get(kind.name()).copied().unwrap_or_default();
        json!({
            "calls": self.by_result.values().sum::<u64>(),
            "throttled": of(Kind::Throttling),
            "errors": of(Kind::InternalServiceError).saturating_add(of(Kind::ServiceUnavailable)),
            "lost": self.lost,
            "empty_customer_identifier": self.empty_customer_identifier,
            "by_result": self.by_result,
            "records": self.records,
        })
    }
}

fn add_one(count: &mut u64) {
    *count = count.saturating_add(1);
}
