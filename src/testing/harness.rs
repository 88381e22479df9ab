//! The engine's state over a store in memory, for tests: changed as the committer does it, and sound after each write.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::sample;
use crate::{
    domain::{
        billing::record::{
            Decision, DecisionKind, HoldReason, MissedPolicy, Outcome, Record, RecordId, Settled,
        },
        product::ProductIndex,
        time::Timestamp,
        usage::event::RejectReason,
    },
    engine::{
        audit::{Known, audit},
        billing::{DecideError, Resumed, SealProgress, Settlement, record_reader::RecordReader},
        counting::request::{CountRequest, UsageEntry},
        rules::Rules,
        state::EngineState,
        write_txn::WriteTxn,
    },
    store::{Batch, MemoryStore, Rows, Store, TableId},
};

pub(crate) struct Harness {
    pub(crate) rules: Rules,
    pub(crate) store: MemoryStore,
    pub(crate) state: EngineState,
    pub(crate) now: Timestamp,
    pub(crate) is_clock_doubted: bool,
}

impl Harness {
    /// At half past nine in the evening, of the products in [`sample`].
    pub(crate) fn new(missed: MissedPolicy) -> Self {
        let (rules, store) = (sample::rules(missed), MemoryStore::default());
        let now = "2026-11-29T21:30:00Z".parse().unwrap();
        let state = EngineState::open(&store, rules.clone(), Arc::default(), now).unwrap();
        Self { rules, store, state, now, is_clock_doubted: false }
    }

    /// Runs work and writes what it changed.
    pub(crate) fn write<T>(&mut self, work: impl FnOnce(&mut EngineState, &mut WriteTxn<'_>) -> T) -> T {
        let mut batch = Batch::default();
        let is_clock_doubted = self.is_clock_doubted;
        let mut txn = WriteTxn { store: &self.store, now: self.now, is_clock_doubted, batch: &mut batch };
        let answer = work(&mut self.state, &mut txn);
        self.state.flush(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.state.written();
        assert_eq!(self.faults(), Vec::<String>::new());
        answer
    }

    /// The next process opens the state.
    pub(crate) fn crash(&mut self) {
        self.store = self.store.crash();
        self.state = EngineState::open(&self.store, self.rules.clone(), Arc::default(), self.now).unwrap();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub(crate) fn count(&mut self, entry: UsageEntry) {
        assert_eq!(self.count_for(None, entry), None);
    }

    /// Counts what a client sends; tells why not.
    pub(crate) fn count_for(&mut self, client: Option<&str>, entry: UsageEntry) -> Option<RejectReason> {
        let vacated = self.state.billing.customers().read().vacated();
        let client = client.map(Arc::from);
        let request =
            CountRequest { entries: vec![entry], events: 1, client, vacated, ..CountRequest::default() };
        let counted = self.write(|state, txn| state.count(&request, txn).unwrap());
        counted.refused_entries.into_iter().next().map(|refused| refused.why)
    }

    /// What comes after a seal.
    pub(crate) fn drop_expired(&mut self) {
        while self.write(|state, txn| state.drop_expired(txn.now, txn)) {}
    }

    /// The keys of the known customers.
    pub(crate) fn customers(&self) -> Vec<String> {
        let customers = self.state.billing.customers().read();
        customers.page(ProductIndex(0), "", usize::MAX).iter().map(|known| known.key.to_string()).collect()
    }

    pub(crate) fn seal_step(&mut self) -> SealProgress {
        self.write(|state, txn| state.billing.seal_step(txn.now, &mut state.counting, txn).unwrap())
    }

    pub(crate) fn seal_all(&mut self) {
        while self.seal_step().more {}
    }

    /// `None` if it is not pending.
    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Option<Settled> {
        self.write(|state, txn| state.billing.settle(settlement, &mut state.counting, txn).unwrap())
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
        self.write(|state, txn| state.billing.decide(&ids, &decision, &mut state.counting, txn))
    }

    pub(crate) fn decision(&self, kind: DecisionKind) -> Decision {
        Decision { kind, reason: "asked AWS".into(), by: "ann".into(), client: "ops".into(), at: self.now }
    }

    pub(crate) fn pending(&self) -> Vec<Record> {
        let pending = self.records().pending_after(RecordId(0), 1000).unwrap();
        pending.into_iter().map(|(record, _)| record).collect()
    }

    pub(crate) fn held(&self) -> Vec<Settled> {
        self.records().held(RecordId(0), 1000).unwrap()
    }

    pub(crate) fn settled(&self) -> Vec<Settled> {
        self.records().settled(RecordId(0), 1000).unwrap()
    }

    pub(crate) fn records(&self) -> RecordReader<'_> {
        RecordReader::new(&self.store)
    }

    /// All records of a dimension that bill something, whatever became of them.
    pub(crate) fn billing(&self, dimension: &str) -> Vec<Record> {
        let mut records = self.pending();
        records.extend(self.settled().into_iter().chain(self.held()).map(|settled| settled.record));
        records.retain(|record| *record.dimension == *dimension && record.bills_something());
        records.sort_by_key(|record| record.id);
        records
    }

    pub(crate) fn quantities(&self, dimension: &str) -> Vec<String> {
        self.billing(dimension).iter().map(|record| record.quantity.to_string()).collect()
    }

    pub(crate) fn open_units(&self) -> u128 {
        self.state.counting.open_units().values().sum()
    }

    pub(crate) fn rows(&self, table: TableId) -> usize {
        self.store.scan(table, &[], usize::MAX).unwrap().len()
    }

    /// What an audit finds.
    pub(crate) fn faults(&self) -> Vec<String> {
        let report = audit(&self.store, Known::default(), &mut |_| true).unwrap();
        assert_eq!(report.faults_found, report.faults.len() as u64);
        report.faults.iter().map(ToString::to_string).collect()
    }
}
