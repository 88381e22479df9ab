//! What a data folder holds, at a glance and without a configuration.

use std::fmt;

use crate::{
    domain::time::Hour,
    store::{
        ReadTable, Rows, StoreError,
        tables::{records::Records, sealing::Sealing},
    },
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FolderGlance {
    /// The last hour that is sealed. `None` before the first start.
    pub sealed_through: Option<Hour>,
    pub unsent: u64,
}

impl FolderGlance {
    pub(crate) fn of(rows: &dyn Rows) -> Result<Self, StoreError> {
        let sealed_through = rows.find(Sealing, ())?.map(|state| state.watermark);
        let unsent =
            Records::by_product(rows)?.values().fold(0_u64, |sum, records| sum.saturating_add(*records));
        Ok(Self { sealed_through, unsent })
    }
}

impl fmt::Display for FolderGlance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sealed_through {
            Some(hour) => write!(f, "sealed up to {}, ", hour.end())?,
            None => f.write_str("nothing sealed yet, ")?,
        }
        match self.unsent {
            0 => f.write_str("nothing unsent"),
            1 => f.write_str("1 record unsent"),
            records => write!(f, "{records} records unsent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::billing::record::MissedPolicy,
        store::MemoryStore,
        testing::{harness::Harness, sample},
    };

    #[test]
    fn a_folder_says_how_far_it_is_and_what_waits() {
        let nothing = FolderGlance::of(&MemoryStore::default()).unwrap();
        assert_eq!(nothing.to_string(), "nothing sealed yet, nothing unsent");
        let mut harness = Harness::new(MissedPolicy::Hold);
        harness.count(sample::entry("000000000001", 0, Hour::containing(harness.now), 7));
        harness.pass(Duration::from_mins(40));
        harness.seal_all();
        let glance = FolderGlance::of(&harness.store).unwrap();
        assert_eq!(glance.to_string(), "sealed up to 2026-11-29T22:00:00Z, 4 records unsent");
    }
}
