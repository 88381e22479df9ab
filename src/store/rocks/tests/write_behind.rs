//! Rows that go to their table late are where they belong for whoever reads, whenever the process dies.

use proptest::prelude::*;

use super::*;
use crate::store::MemoryStore;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..12_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => (0..12_u8).prop_map(Step::Delete),
        1 => (0..12_u8, 0..12_u8).prop_map(|(a, b)| Step::DeleteRange(a.min(b), a.max(b))),
        6 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn change(batch: &mut Batch, step: &Step) {
    match *step {
        Step::Put(key, value) => {
            batch.put_bytes(TableId::Buckets, [key], vec![value; 1 + usize::from(value % 40)]);
        }
        Step::Delete(key) => batch.delete_bytes(TableId::Buckets, [key]),
        Step::DeleteRange(from, to) => batch.delete_range_bytes(TableId::Buckets, [from], [to]),
        Step::Commit | Step::Reopen => {}
    }
}

fn agree(rows: &dyn Rows, model: &dyn Rows) {
    for key in 0..12 {
        assert_eq!(rows.get(TableId::Buckets, &[key]).unwrap(), model.get(TableId::Buckets, &[key]).unwrap());
        for limit in [1, 3, 100] {
            let scan = |rows: &dyn Rows| rows.scan(TableId::Buckets, &[key], limit).unwrap();
            assert_eq!(scan(rows), scan(model));
        }
    }
    let visited = |rows: &dyn Rows| {
        let mut pairs = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        rows.visit(TableId::Buckets, &[2], &mut each).unwrap();
        pairs
    };
    assert_eq!(visited(rows), visited(model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_row_is_read_as_it_was_committed(steps in proptest::collection::vec(step(), 1..150)) {
        let (folder, model) = (unsynced_folder(), MemoryStore::default());
        let mut store = RocksStore::open(folder.path()).unwrap();
        let mut batch = Batch::default();
        for step in &steps {
            change(&mut batch, step);
            match step {
                Step::Commit => {
                    let before = model.crash();
                    let snapshot = store.snapshot();
                    store.commit(batch.clone()).unwrap();
                    agree(&*snapshot, &before);
                    drop(snapshot);
                    model.commit(mem::take(&mut batch)).unwrap();
                    agree(&store, &model);
                }
                Step::Reopen => {
                    drop(store);
                    agree(&RocksFolder::open(folder.path()).unwrap(), &model);
                    store = RocksStore::open(folder.path()).unwrap();
                    agree(&store, &model);
                }
                Step::Put(..) | Step::Delete(_) | Step::DeleteRange(..) => {}
            }
        }
    }
}

/// The log is as long as it may be, however often the same rows change, and each commit takes few rows to the table.
#[test]
fn the_log_stays_short() {
    let folder = unsynced_folder();
    let store = RocksStore::open(folder.path()).unwrap();
    for number in 0..400_u32 {
        let mut batch = Batch::default();
        for key in 0..5_u8 {
            batch.put_bytes(TableId::Buckets, [key, u8::try_from(number % 50).unwrap()], vec![0; 20]);
        }
        store.commit(batch).unwrap();
        let rows = store.db.iterator_cf(log_of(&store.db), IteratorMode::Start).count();
        assert!(rows <= 8, "{rows} rows after commit {number}");
    }
    assert_eq!(store.scan(TableId::Buckets, &[], 1000).unwrap().len(), 250);
}

/// A row may have gone to its table while others of its commit have not: the log still has it, and must forget it, too.
#[test]
fn a_row_of_a_half_emptied_log_stays_deleted() {
    let (folder, model) = (unsynced_folder(), MemoryStore::default());
    let store = RocksStore::open(folder.path()).unwrap();
    let commit = |steps: &[Step]| {
        let mut batch = Batch::default();
        for step in steps {
            change(&mut batch, step);
        }
        store.commit(batch.clone()).unwrap();
        model.commit(batch).unwrap();
    };
    commit(&(0..8).map(|key| Step::Put(key, 20)).collect::<Vec<_>>());
    commit(&[Step::Put(8, 20)]);
    let stay: Vec<u8> = (0..8).filter(|key| store.write_behind().get(&[*key]).is_some()).collect();
    assert_eq!(stay, [0, 1, 2, 3, 4, 5], "the last two have left");
    commit(&[Step::DeleteRange(6, 8)]);
    drop(store);
    agree(&RocksFolder::open(folder.path()).unwrap(), &model);
    agree(&RocksStore::open(folder.path()).unwrap(), &model);
}
