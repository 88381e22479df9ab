//! Looks through what a folder holds of dedup keys: the log, the manifest, and each block of each run. A start reads no
//! blocks, and a look-up only those that it needs.

use super::run::{Input, Run};
use crate::store::{
    ReadTable, Rows, StoreError, Table,
    tables::dedup::{DedupKeys, FirstGeneration, FirstRows, RunBlocks, RunManifests, hashes_in},
};

/// Fails with what is missing, in no order, of another run, or not found by its own run's filter. Returns how many dedup
/// keys there are, those that have expired included.
pub(crate) fn verify(store: &dyn Rows) -> Result<u64, StoreError> {
    store.find(FirstGeneration, ())?;
    store.each(FirstRows, |_, _| Ok(()))?;
    let mut keys = 0;
    store.visit(DedupKeys::ID, &[], &mut |key, row| {
        DedupKeys::decode_key(key)?;
        keys += hashes_in(row).map_err(unreadable)?.len() as u64;
        Ok(())
    })?;
    for (number, manifest) in store.all(RunManifests)? {
        keys += verify_run(store, &Run::load(store, number, manifest)?)?;
    }
    Ok(keys)
}

fn verify_run(store: &dyn Rows, run: &Run) -> Result<u64, StoreError> {
    let mut found = 0;
    let mut blocks = Input::new(run);
    while let Some(hashes) = blocks.next_blocks(store)? {
        if let Some(hash) = hashes.iter().find(|hash| !run.may_contain(**hash)) {
            return Err(unreadable(format!("the filter of run {} does not know {hash:032x}", run.number)));
        }
        found += hashes.len() as u64;
    }
    if found != run.manifest.hashes {
        let Run { number, manifest, .. } = run;
        return Err(unreadable(format!(
            "run {number} has {found} hashes, and was to have {}",
            manifest.hashes
        )));
    }
    Ok(found)
}

fn unreadable(why: String) -> StoreError {
    StoreError::Unreadable { what: RunBlocks::WHAT, why }
}
