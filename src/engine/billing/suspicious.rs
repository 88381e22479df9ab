//! The moments until which a person must have decided about suspicious records.
//!
//! AWS takes such a record until its deadline, as any other, and no one sends it by itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::domain::{
    billing::{
        deadline::Window,
        record::{HoldReason, Outcome, RecordId, Settled},
    },
    time::{Hour, Timestamp},
};

/// By product code: how many records there are for each deadline.
pub(crate) type DecisionDeadlines = BTreeMap<Arc<str>, BTreeMap<Timestamp, u64>>;

#[derive(Debug, Default)]
pub(super) struct SuspiciousRecords {
    waiting: HashMap<RecordId, Waiting>,
    /// Shared with those who look: it changes seldom.
    deadlines: Arc<DecisionDeadlines>,
}

#[derive(Debug)]
struct Waiting {
    product: Arc<str>,
    customer: Arc<str>,
    hour: Hour,
    deadline: Timestamp,
}

impl SuspiciousRecords {
    pub(super) fn deadlines(&self) -> Arc<DecisionDeadlines> {
        self.deadlines.clone()
    }

    /// A record is held, for whatever reason.
    pub(super) fn note_held(&mut self, settled: &Settled, deadline: Timestamp) {
        let Outcome::Held { reason: HoldReason::Suspicious, .. } = settled.outcome else { return };
        let record = &settled.record;
        let (product, customer) = (record.product.clone(), record.customer.clone());
        count(&mut self.deadlines, &product, deadline, 1);
        self.waiting.insert(record.id, Waiting { product, customer, hour: record.hour, deadline });
    }

    /// A record is held no more.
    pub(super) fn note_gone(&mut self, id: RecordId) {
        if let Some(Waiting { product, deadline, .. }) = self.waiting.remove(&id) {
            count(&mut self.deadlines, &product, deadline, -1);
        }
    }

    /// A customer's last hour ends at another moment than before, or has no end.
    pub(super) fn reschedule(
        &mut self,
        product: &str,
        customer: &str,
        by_closing: Option<Timestamp>,
        window: Window,
    ) {
        let of_customer =
            |waiting: &&mut Waiting| *waiting.product == *product && *waiting.customer == *customer;
        for waiting in self.waiting.values_mut().filter(of_customer) {
            let deadline = window.deadline(waiting.hour).min(by_closing.unwrap_or(Timestamp::MAX));
            count(&mut self.deadlines, &waiting.product, waiting.deadline, -1);
            count(&mut self.deadlines, &waiting.product, deadline, 1);
            waiting.deadline = deadline;
        }
    }
}

fn count(deadlines: &mut Arc<DecisionDeadlines>, product: &Arc<str>, deadline: Timestamp, change: i64) {
    let of_product = Arc::make_mut(deadlines).entry(product.clone()).or_default();
    let records = of_product.entry(deadline).or_default();
    *records = records.saturating_add_signed(change);
    if *records == 0 {
        of_product.remove(&deadline);
    }
}

/// The next moment by which someone must have decided about a record of a product. One that has passed is missed: it
/// does not count down any more.
pub(crate) fn next_decision(
    deadlines: &DecisionDeadlines,
    product: &str,
    now: Timestamp,
) -> Option<Timestamp> {
    let after = (std::ops::Bound::Excluded(now), std::ops::Bound::Unbounded);
    deadlines.get(product)?.range(after).next().map(|(deadline, _)| *deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{billing::record::tests::sample, usage::bucket::Carry};

    fn held(id: u64, customer: &str, reason: HoldReason) -> Settled {
        let mut record = sample(id);
        record.customer = customer.into();
        let outcome = Outcome::Held { reason, detail: "".into() };
        Settled { record, attempts: 0, outcome, at: Timestamp::MIN, withheld: Carry::default() }
    }

    #[test]
    fn the_next_deadline_is_that_of_a_record_that_still_can_be_sent() {
        let at = |seconds| Timestamp::from_seconds(seconds);
        let mut suspicious = SuspiciousRecords::default();
        for (id, deadline) in [(1, 100), (2, 100), (3, 200)] {
            suspicious.note_held(&held(id, "acme", HoldReason::Suspicious), at(deadline));
        }
        suspicious.note_held(&held(4, "acme", HoldReason::Refused), at(50));
        let next = |suspicious: &SuspiciousRecords, now| {
            next_decision(&suspicious.deadlines(), "prod", at(now)).map(Timestamp::seconds)
        };
        assert_eq!(
            [0, 99, 100, 200].map(|now| next(&suspicious, now)),
            [Some(100), Some(100), Some(200), None]
        );
        assert_eq!(next_decision(&suspicious.deadlines(), "other", at(0)), None);
        suspicious.note_gone(RecordId(1));
        assert_eq!(next(&suspicious, 0), Some(100), "one of two is left");
        suspicious.note_gone(RecordId(2));
        suspicious.note_gone(RecordId(2));
        assert_eq!(next(&suspicious, 0), Some(200));
    }

    #[test]
    fn a_customers_notice_brings_its_deadlines_forward_and_its_return_brings_them_back() {
        let mut suspicious = SuspiciousRecords::default();
        let deadline = Window::AWS.deadline(sample(1).hour);
        for (id, customer) in [(1, "acme"), (2, "globex")] {
            suspicious.note_held(&held(id, customer, HoldReason::Suspicious), deadline);
        }
        let all = |suspicious: &SuspiciousRecords| suspicious.deadlines()["prod"].clone();
        let soon = deadline.minus(std::time::Duration::from_hours(20));
        suspicious.reschedule("prod", "acme", Some(soon), Window::AWS);
        assert_eq!(all(&suspicious), [(soon, 1), (deadline, 1)].into());
        suspicious.reschedule("prod", "acme", None, Window::AWS);
        assert_eq!(all(&suspicious), [(deadline, 2)].into());
    }
}
