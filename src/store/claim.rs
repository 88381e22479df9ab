//! Marks a data folder with its format and with AWS or the sandbox, and refuses one that does not fit.

use super::{
    Batch, ReadTable, Rows, Store, StoreError,
    table::unreadable,
    tables::meta::{Format, HashKey, IsSandbox},
};

/// The layout of keys and tables. Values have versions of their own.
const FORMAT: u32 = 1;

/// Whether no agent has run on the store.
pub(crate) fn is_new(store: &dyn Rows) -> Result<bool, StoreError> {
    Ok(!store.has(Format, ())?)
}

/// Marks a new store with this version's format and a hash key; refuses an old one of another format.
pub fn claim_format(store: &dyn Store, new_hash_key: u128) -> Result<(), StoreError> {
    match store.find(Format, ())? {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::UnknownFormat { found, known: FORMAT }),
        None => {
            let mut batch = Batch::default();
            batch.put(Format, (), &FORMAT);
            batch.put(HashKey, (), &new_hash_key);
            store.commit(batch)
        }
    }
}

/// Marks a new store as AWS's or the sandbox's, and refuses the other one from then on: usage that was tried out must
/// never be billed, and usage that is to be billed must never end in a sandbox.
pub(crate) fn claim_marketplace(store: &dyn Store, is_sandbox: bool) -> Result<(), StoreError> {
    const NAMES: [&str; 2] = ["the real marketplace", "the sandbox"];
    match (store.find(IsSandbox, ())?, is_sandbox) {
        (None, is_sandbox) => {
            let mut batch = Batch::default();
            batch.put(IsSandbox, (), &is_sandbox);
            store.commit(batch)
        }
        (Some(true), false) => Err(StoreError::OtherMarketplace { owner: NAMES[1], other: NAMES[0] }),
        (Some(false), true) => Err(StoreError::OtherMarketplace { owner: NAMES[0], other: NAMES[1] }),
        (Some(_), _) => Ok(()),
    }
}

/// The key that the hashes of event ids and subjects are made with.
pub(crate) fn hash_key(store: &dyn Rows) -> Result<u128, StoreError> {
    store.find(HashKey, ())?.ok_or_else(|| unreadable::<HashKey>("it is missing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn an_unknown_format_is_refused() {
        let store = MemoryStore::default();
        assert!(is_new(&store).unwrap());
        claim_format(&store, 7).unwrap();
        assert!(!is_new(&store).unwrap());
        claim_format(&store, 8).unwrap();
        assert_eq!(hash_key(&store).unwrap(), 7, "the hash key is chosen once");
        let mut batch = Batch::default();
        batch.put(Format, (), &2);
        store.commit(batch).unwrap();
        assert!(matches!(
            claim_format(&store, 9),
            Err(StoreError::UnknownFormat { found: 2, known: FORMAT })
        ));
    }

    #[test]
    fn a_folder_of_the_sandbox_is_never_billed_to_aws_nor_the_other_way_round() {
        for is_sandbox in [true, false] {
            let store = MemoryStore::default();
            claim_marketplace(&store, is_sandbox).unwrap();
            claim_marketplace(&store, is_sandbox).unwrap();
            assert!(matches!(
                claim_marketplace(&store, !is_sandbox),
                Err(StoreError::OtherMarketplace { .. })
            ));
        }
    }
}
