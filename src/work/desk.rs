//! Books on a desk, for tests: over a store in memory, worked on as the committer does it, and sound after each write.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    audit::{Known, audit},
    books::{Books, DecideError, Resumed, Rules, Settlement},
    delta::{Delta, Entry},
    sample,
};
use crate::{
    domain::{
        record::{Decision, DecisionKind, HoldReason, MissedPolicy, Outcome, Record, RecordId, Settled},
        time::Timestamp,
    },
    worlds::store::{Batch, MemoryStore, Rows, Store, Table, load},
};

pub(crate) struct Desk {
    pub(crate) rules: Rules,
    pub(crate) store: MemoryStore,
    pub(crate) books: Books,
    pub(crate) now: Timestamp,
}

impl Desk {
    /// At half past nine in the evening, of the products in [`sample`].
    pub(crate) fn new(missed: MissedPolicy) -> Self {
        let (rules, store) = (sample::rules(missed), MemoryStore::default());
        let now = "2026-11-29T21:30:00Z".parse().unwrap();
        let books = Books::open(&store, rules.clone(), Arc::default(), now).unwrap();
        Self { rules, store, books, now }
    }

    /// Runs work and writes what it changed.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Books, &MemoryStore, Timestamp, &mut Batch) -> T,
    ) -> T {
        let mut batch = Batch::default();
        let answer = work(&mut self.books, &self.store, self.now, &mut batch);
        self.books.flush(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.books.written();
        assert_eq!(self.faults(), Vec::<String>::new());
        answer
    }

    /// The next process opens the books.
    pub(crate) fn crash(&mut self) {
        self.store = self.store.crash();
        self.books = Books::open(&self.store, self.rules.clone(), Arc::default(), self.now).unwrap();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub(crate) fn count(&mut self, entry: Entry) {
        let delta = Delta { entries: vec![entry], events: 1, ..Delta::default() };
        let recorded =
            self.write(|books, store, now, batch| books.record(&delta, store, now, batch).unwrap());
        assert!(recorded.refused_entries.is_empty(), "{recorded:?}");
    }

    pub(crate) fn seal_all(&mut self) {
        while self.write(|books, _, now, batch| books.seal_step(now, batch)).more {}
    }

    /// `None` if it is not pending.
    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Option<Settled> {
        self.write(|books, store, now, batch| books.settle(settlement, store, now, batch).unwrap())
    }

    pub(crate) fn accept(&mut self, record: &Record) {
        let outcome = Outcome::Accepted { receipt: "r".into(), presumed: false };
        self.settle(&Settlement::Done(Arc::new(record.clone()), 1, outcome)).unwrap();
    }

    pub(crate) fn hold(&mut self, record: &Record, reason: HoldReason) {
        let outcome = Outcome::Held { reason, detail: "".into() };
        self.settle(&Settlement::Done(Arc::new(record.clone()), 1, outcome)).unwrap();
    }

    pub(crate) fn decide(
        &mut self,
        record: &Record,
        kind: DecisionKind,
    ) -> Result<Vec<Resumed>, DecideError> {
        let decision = self.decision(kind);
        let ids = BTreeSet::from([record.id]);
        self.write(|books, store, _, batch| books.decide(&ids, &decision, store, batch))
    }

    pub(crate) fn decision(&self, kind: DecisionKind) -> Decision {
        Decision { kind, reason: "asked AWS".into(), by: "ann".into(), at: self.now }
    }

    pub(crate) fn pending(&self) -> Vec<Record> {
        let pending = load::pending_after(&self.store, RecordId(0), 1000).unwrap();
        pending.into_iter().map(|(record, _)| record).collect()
    }

    pub(crate) fn settled(&self, table: Table) -> Vec<Settled> {
        load::settled(&self.store, table, RecordId(0), 1000).unwrap()
    }

    /// All records of a dimension that bill something, whatever became of them.
    pub(crate) fn billing(&self, dimension: &str) -> Vec<Record> {
        let settled = [Table::Receipts, Table::Held].into_iter().flat_map(|table| self.settled(table));
        let mut records = self.pending();
        records.extend(settled.map(|settled| settled.record));
        records.retain(|record| *record.dimension == *dimension && record.bills_something());
        records.sort_by_key(|record| record.id);
        records
    }

    pub(crate) fn quantities(&self, dimension: &str) -> Vec<String> {
        self.billing(dimension).iter().map(|record| record.quantity.to_string()).collect()
    }

    pub(crate) fn open_units(&self) -> u128 {
        self.books.tally().open_units.values().sum()
    }

    pub(crate) fn rows(&self, table: Table) -> usize {
        self.store.scan(table, &[], usize::MAX).unwrap().len()
    }

    /// What an audit finds.
    pub(crate) fn faults(&self) -> Vec<String> {
        let report = audit(&self.store, Known::default(), &mut |_| true).unwrap();
        assert_eq!(report.faults_found, report.faults.len() as u64);
        report.faults.iter().map(ToString::to_string).collect()
    }
}
