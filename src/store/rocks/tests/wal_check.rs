//! Logs that were cut or altered, at every offset that matters.

use super::{
    super::wal_check::{Log, examine},
    *,
};

/// A store that has been closed, with all its batches in one log.
struct Written {
    folder: TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    /// After each batch: the log's length, and what the store held.
    steps: Vec<(usize, Contents)>,
}

fn write(batches: u32, seed: u64) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let log = files(folder.path(), is_log).pop().unwrap();
    let mut rng = Rng::with_seed(seed);
    let (mut steps, mut expected) = (Vec::new(), Contents::new());
    for number in 0..batches {
        let batch = some_batch(number, &mut rng);
        apply(&mut expected, &batch);
        store.commit(batch).unwrap();
        let length = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
        steps.push((length, expected.clone()));
    }
    drop(store);
    let bytes = fs::read(&log).unwrap();
    Written { folder, log, bytes, steps }
}

impl Written {
    /// What the store held when its log was `length` bytes long.
    fn at(&self, length: usize) -> Contents {
        let step = self.steps.iter().rev().find(|(end, _)| *end <= length);
        step.map_or_else(Contents::new, |(_, contents)| contents.clone())
    }

    fn last_batches(&self, count: usize) -> Range<usize> {
        self.steps[self.steps.len() - 1 - count].0..self.bytes.len()
    }
}

#[test]
fn a_log_cut_anywhere_keeps_every_batch_before_the_cut_and_no_part_of_another() {
    let written = write(40, 1);
    assert!(written.bytes.len() > 3 * 32_768, "{} bytes", written.bytes.len());
    let mut rng = Rng::with_seed(2);
    let tail = written.last_batches(1);
    let before = some_offsets(&mut rng, 0..tail.start, 100);
    // At the borders of blocks, headers are cut and parts of batches are joined.
    let borders = [32_768, 65_536, 98_304].into_iter().flat_map(|border| border - 8..border + 9);
    let cuts: Vec<_> = tail.chain(before).chain(borders).collect();
    for cut in cuts {
        let copy = copy_with(written.folder.path(), &written.log, &written.bytes[..cut]);
        let store = RocksStore::open(copy.path()).unwrap_or_else(|fault| panic!("cut at {cut}: {fault}"));
        assert!(contents(&store).unwrap() == written.at(cut), "cut at {cut}");
    }
}

#[test]
fn every_cut_of_a_log_is_told_from_damage() {
    let written = write(14, 3);
    let whole = written.steps.iter().map(|(end, _)| *end);
    for cut in (0..written.bytes.len()).step_by(101).chain(whole).chain(written.last_batches(5)) {
        let found = examine(&written.bytes[..cut]).unwrap();
        assert!(!matches!(found, Log::Damaged(_)), "cut at {cut}: {found:?}");
        if written.steps.iter().any(|(end, _)| *end == cut) {
            assert_eq!(found, Log::Whole, "cut at {cut}");
        }
    }
    // Room that the file system gave to a write that never came.
    let mut zeros = written.bytes.clone();
    zeros.resize(zeros.len() + 100_000, 0);
    assert_eq!(examine(&zeros[..]).unwrap(), Log::Cut(written.bytes.len()));
}

#[test]
fn every_flipped_bit_of_a_log_is_told_from_a_cut() {
    let written = write(12, 4);
    assert!(written.bytes.len() > 32_768, "{} bytes", written.bytes.len());
    let first = written.steps[0].0;
    let sparse = (first..written.bytes.len()).step_by(61);
    for offset in (0..first).chain(sparse).chain(32_760..32_780).chain(written.last_batches(3)) {
        for bit in 0..8 {
            let found = examine(&flipped(&written.bytes, offset, bit)[..]).unwrap();
            let Log::Damaged(at) = found else { panic!("bit {bit} of byte {offset}: {found:?}") };
            assert!(at <= offset, "bit {bit} of byte {offset}: {found:?}");
        }
    }
}

#[test]
fn zeros_in_the_middle_of_a_log_are_damage() {
    let written = write(30, 5);
    for (end, _) in &written.steps[..29] {
        for length in [7, 512, 4096] {
            let mut bytes = written.bytes.clone();
            let zeroed = *end..(end + length).min(bytes.len() - 1);
            bytes[zeroed.clone()].fill(0);
            assert_eq!(examine(&bytes[..]).unwrap(), Log::Damaged(*end), "{zeroed:?}");
        }
    }
}

/// The reason for all this: without it, RocksDB drops batches that were synced.
#[test]
fn a_flipped_length_that_rocksdb_takes_for_a_torn_end_is_refused_with_the_files_name() {
    let written = write(5, 6);
    // The high byte of the fourth batch's length.
    let offset = written.steps[2].0 + 5;
    let copy = copy_with(written.folder.path(), &written.log, &flipped(&written.bytes, offset, 6));
    let fault = RocksStore::open(copy.path()).err().expect("a damaged log was opened");
    let name = written.log.file_name().unwrap().to_str().unwrap();
    assert!(matches!(fault, StoreError::Damaged { .. }), "{fault}");
    assert!(fault.to_string().contains(name) && fault.to_string().contains("restore a backup"), "{fault}");

    let lock = Lock::take(copy.path().join("tallyman.lock")).unwrap();
    let unchecked = RocksStore::over(open(&copy.path().join("db"), 100).unwrap(), lock).unwrap();
    assert!(
        contents(&unchecked).unwrap() == written.steps[2].1,
        "RocksDB has learned to refuse this: {offset}"
    );
}

#[test]
fn every_flipped_byte_of_the_manifest_is_refused() {
    let written = write(10, 7);
    let manifest = files(written.folder.path(), |name| name.starts_with("MANIFEST")).pop().unwrap();
    let bytes = fs::read(&manifest).unwrap();
    let copy = copy_with(written.folder.path(), &manifest, &bytes);
    let copied = copy.path().join("db").join(manifest.file_name().unwrap());
    for offset in 0..bytes.len() {
        fs::write(&copied, flipped(&bytes, offset, fastrand::u32(0..8))).unwrap();
        let fault = RocksStore::open(copy.path()).err().unwrap_or_else(|| panic!("{offset} was opened"));
        assert!(matches!(fault, StoreError::Damaged { .. }), "{offset}: {fault}");
    }
    fs::write(&copied, &bytes).unwrap();
    assert!(contents(&RocksStore::open(copy.path()).unwrap()).unwrap() == written.steps[9].1);
}

#[test]
fn an_older_log_that_is_missing_or_cut_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let mut rng = Rng::with_seed(8);
    (0..10).for_each(|number| store.commit(some_batch(number, &mut rng)).unwrap());
    // One table goes to its file, and the others keep the log that they are in.
    store.db.flush_cf(family(&store.db, TableId::Meta)).unwrap();
    (10..20).for_each(|number| store.commit(some_batch(number, &mut rng)).unwrap());
    drop(store);
    let logs = files(folder.path(), is_log);
    assert_eq!(logs.len(), 2);
    let bytes = fs::read(&logs[0]).unwrap();
    for cut in [0, bytes.len() / 2, bytes.len() - 1] {
        let copy = copy_with(folder.path(), &logs[0], &bytes[..cut]);
        let fault = RocksStore::open(copy.path()).err().unwrap_or_else(|| panic!("{cut} was opened"));
        assert!(matches!(fault, StoreError::Damaged { .. }), "{cut}: {fault}");
    }
    let copy = copy_with(folder.path(), &logs[0], &bytes);
    fs::remove_file(copy.path().join("db").join(logs[0].file_name().unwrap())).unwrap();
    assert!(RocksStore::open(copy.path()).is_err());
}
