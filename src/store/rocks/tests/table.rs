//! Flipped bytes in table files.

use super::*;

/// A closed store whose batches are all in table files; each file has rows of one table.
fn write(batches: u32) -> (TempDir, Contents) {
    let folder = tempfile::tempdir().unwrap();
    let (mut rng, mut expected) = (Rng::with_seed(9), Contents::new());
    let store = RocksStore::open(folder.path()).unwrap();
    for number in 0..batches {
        let batch = some_batch(number, &mut rng);
        apply(&mut expected, &batch);
        store.commit(batch).unwrap();
    }
    drop(store);
    // What is read from the log at a start goes to table files.
    drop(RocksStore::open(folder.path()).unwrap());
    assert!(files(folder.path(), is_table).len() >= 4);
    (folder, expected)
}

#[test]
fn a_flipped_byte_in_a_table_file_is_refused_with_its_name_or_changes_nothing() {
    let (folder, expected) = write(30);
    let mut rng = Rng::with_seed(10);
    let mut refused = 0;
    let tables = files(folder.path(), is_table);
    let offsets = 400 / tables.len();
    for table in &tables {
        let bytes = fs::read(table).unwrap();
        // The end of the file has what leads to all of its blocks.
        let end = bytes.len().saturating_sub(200);
        let offsets = some_offsets(&mut rng, 0..bytes.len(), offsets / 2).into_iter().chain(some_offsets(
            &mut rng,
            end..bytes.len(),
            offsets / 2,
        ));
        for offset in offsets {
            let copy = copy_with(folder.path(), table, &flipped(&bytes, offset, rng.u32(0..8)));
            match RocksStore::open(copy.path()).and_then(|store| contents(&store)) {
                Ok(found) => assert!(found == expected, "byte {offset} of {}", table.display()),
                Err(fault) => {
                    refused += 1;
                    let (name, text) = (table.file_name().unwrap().to_str().unwrap(), fault.to_string());
                    // Of a file's properties RocksDB says only in which folder they are.
                    let is_named = text.contains(name) || text.contains("properties");
                    assert!(is_named, "byte {offset} of {name}: {text}");
                    assert!(text.contains("restore a backup"), "byte {offset} of {name}: {text}");
                }
            }
        }
    }
    assert!(refused > 150, "only {refused} were found");
}

#[test]
fn a_table_file_that_is_missing_or_cut_is_refused() {
    let (folder, _) = write(10);
    for table in files(folder.path(), is_table) {
        let bytes = fs::read(&table).unwrap();
        let cut = copy_with(folder.path(), &table, &bytes[..bytes.len() - 1]);
        assert!(RocksStore::open(cut.path()).is_err(), "{}", table.display());
        let missing = copy_with(folder.path(), &table, &bytes);
        fs::remove_file(missing.path().join("db").join(table.file_name().unwrap())).unwrap();
        assert!(RocksStore::open(missing.path()).is_err(), "{}", table.display());
    }
}

/// Blocks that no one has read since the start are read by compactions.
#[test]
fn no_write_succeeds_after_a_compaction_that_met_a_damaged_block() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let mut rng = Rng::with_seed(11);
    // The same keys again and again, or RocksDB would move the files as they are.
    let mut commit = |number: u32| store.commit(some_batch(number % 10, &mut rng));
    (0..10).for_each(|number| commit(number).unwrap());
    store.db.flush_cf(family(&store.db, TableId::Subjects)).unwrap();
    let file = files(folder.path(), is_table).pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, flipped(&bytes, 20, 0)).unwrap();
    // A few more files of the table, and RocksDB merges them.
    let fault = (10..5000).find_map(|number| {
        let fault = commit(number).err();
        drop(store.db.flush_cf(family(&store.db, TableId::Subjects)));
        fault
    });
    let fault = fault.expect("the damage was never met");
    assert!(matches!(fault, StoreError::Damaged { .. }), "{fault}");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(fault.to_string().contains(name), "{fault}");
    commit(9999).unwrap_err();
}
