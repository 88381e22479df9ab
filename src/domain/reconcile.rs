//! The ledger held against what AWS says that it accepted: what either side lacks.

use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    quantity::Quantity,
    record::RecordId,
    time::{Hour, Timestamp},
};

/// So late may an acceptance show in CloudTrail.
pub const CLOUDTRAIL_DELAY: Duration = Duration::from_mins(15);

/// A record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLine {
    pub id: RecordId,
    pub product: Arc<str>,
    pub customer: Arc<str>,
    pub buyer: Buyer,
    pub dimension: Arc<str>,
    pub hour: Hour,
    pub quantity: Quantity,
    pub standing: Standing,
}

/// Whom AWS bills, as far as it makes two records one slot or two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Buyer {
    /// A license is of one account and one product.
    License(Arc<str>),
    Account {
        product: Arc<str>,
        account_id: Arc<str>,
    },
    CustomerIdentifier {
        product: Arc<str>,
        customer_identifier: Arc<str>,
    },
}

/// What became of a record, as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The receipt is empty when the acceptance was inferred.
    Accepted {
        receipt: Arc<str>,
        at: Timestamp,
    },
    Pending,
    Held,
    RolledForward,
    Carried,
    WrittenOff,
    Expired,
}

/// A record that AWS answered with Success. What CloudTrail does not tell is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrailLine {
    pub hour: Hour,
    pub product: Arc<str>,
    pub account_id: Arc<str>,
    pub license_arn: Arc<str>,
    pub customer_identifier: Arc<str>,
    pub dimension: Arc<str>,
    pub region: Arc<str>,
    pub receipt: Arc<str>,
    pub quantity: Quantity,
    /// When AWS answered.
    pub at: Timestamp,
}

impl TrailLine {
    /// The buyers that this may be: a line may name the same one in two ways, and none when it is hidden.
    fn buyers(&self) -> Vec<Buyer> {
        if !self.license_arn.is_empty() {
            return vec![Buyer::License(self.license_arn.clone())];
        }
        let product = || self.product.clone();
        let account = Buyer::Account { product: product(), account_id: self.account_id.clone() };
        let customer_identifier = self.customer_identifier.clone();
        let identifier = Buyer::CustomerIdentifier { product: product(), customer_identifier };
        [(&self.account_id, account), (&self.customer_identifier, identifier)]
            .into_iter()
            .filter(|(field, _)| !field.is_empty())
            .map(|(_, buyer)| buyer)
            .collect()
    }

    /// Whether both say the same, at whatever time: AWS answers a repeated record with the same receipt.
    fn repeats(&self, other: &Self) -> bool {
        (Self { at: other.at, ..self.clone() }) == *other
    }

    fn is_slot_of(&self, record: &LedgerLine) -> bool {
        let buyers = self.buyers();
        (&self.dimension, self.hour) == (&record.dimension, record.hour)
            && (buyers.is_empty() || buyers.contains(&record.buyer))
    }
}

/// The dangerous ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// AWS accepted one slot under a second receipt.
    AcceptedTwice,
    /// AWS accepted a record that is not accepted in the ledger.
    NotAcceptedHere,
    /// AWS accepted a record that the ledger does not have.
    NotInLedger,
    DifferentQuantity,
    /// The receipt is that of another buyer, dimension or hour.
    DifferentSlot,
    DifferentReceipt,
    /// Accepted in the ledger, and CloudTrail has had the time to show it.
    NotInCloudTrail,
    /// Accepted in the ledger so shortly ago that CloudTrail may not show it yet.
    NotInCloudTrailYet,
}

impl Finding {
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptedTwice => "accepted_twice",
            Self::NotAcceptedHere => "not_accepted_here",
            Self::NotInLedger => "not_in_ledger",
            Self::DifferentQuantity => "different_quantity",
            Self::DifferentSlot => "different_slot",
            Self::DifferentReceipt => "different_receipt",
            Self::NotInCloudTrail => "not_in_cloudtrail",
            Self::NotInCloudTrailYet => "not_in_cloudtrail_yet",
        }
    }

    /// Whether time alone may mend it.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::NotInCloudTrailYet)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    pub finding: Finding,
    pub ours: Option<&'a LedgerLine>,
    pub theirs: Option<&'a TrailLine>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report<'a> {
    pub matched: u64,
    /// By finding, then by hour.
    pub differences: Vec<Difference<'a>>,
}

/// Pairs what has the same receipt first, then what has the same slot; what is left has no counterpart.
pub fn reconcile<'a>(ledger: &'a [LedgerLine], trail: &'a [TrailLine], now: Timestamp) -> Report<'a> {
    let entries: Vec<Entry<'a>> =
        ledger.iter().map(|line| Entry { line, is_paired: Cell::new(false) }).collect();
    let index = Index::new(&entries);
    let mut report = Report::default();
    let mut unpaired = Vec::new();
    for line in without_repeats(trail) {
        match index.with_receipt(line) {
            Some(entry) => report.pair(entry, line),
            None => unpaired.push(line),
        }
    }
    for line in unpaired {
        report.place(&index.in_slot(line), line);
    }
    for entry in entries.iter().filter(|entry| !entry.is_paired.get()) {
        report.miss(entry.line, now);
    }
    report.differences.sort_by_key(|difference| (difference.finding, difference.hour()));
    report
}

fn without_repeats(trail: &[TrailLine]) -> Vec<&TrailLine> {
    let mut lines: Vec<&TrailLine> = trail.iter().collect();
    lines.sort_unstable();
    lines.dedup_by(|later, earlier| later.repeats(earlier));
    lines
}

/// A record of the ledger, and whether a line of CloudTrail has been found for it.
struct Entry<'a> {
    line: &'a LedgerLine,
    is_paired: Cell<bool>,
}

impl Entry<'_> {
    fn receipt(&self) -> Option<&Arc<str>> {
        match &self.line.standing {
            Standing::Accepted { receipt, .. } => Some(receipt),
            Standing::Pending
            | Standing::Held
            | Standing::RolledForward
            | Standing::Carried
            | Standing::WrittenOff
            | Standing::Expired => None,
        }
    }
}

struct Index<'e, 'a> {
    by_receipt: BTreeMap<&'e str, &'e Entry<'a>>,
    by_slot: BTreeMap<SlotKey<'e>, Vec<&'e Entry<'a>>>,
}

type SlotKey<'e> = (&'e Buyer, &'e str, Hour);

impl<'e, 'a> Index<'e, 'a> {
    fn new(entries: &'e [Entry<'a>]) -> Self {
        let mut index = Self { by_receipt: BTreeMap::new(), by_slot: BTreeMap::new() };
        for entry in entries {
            if let Some(receipt) = entry.receipt().filter(|receipt| !receipt.is_empty()) {
                index.by_receipt.entry(receipt).or_insert(entry);
            }
            let slot = (&entry.line.buyer, &*entry.line.dimension, entry.line.hour);
            index.by_slot.entry(slot).or_default().push(entry);
        }
        index
    }

    fn with_receipt(&self, line: &TrailLine) -> Option<&'e Entry<'a>> {
        self.by_receipt.get(&*line.receipt).copied().filter(|entry| !entry.is_paired.get())
    }

    fn in_slot(&self, line: &TrailLine) -> Vec<&'e Entry<'a>> {
        let entries = |buyer: &Buyer| self.by_slot.get(&(buyer, &*line.dimension, line.hour)).cloned();
        line.buyers().iter().filter_map(entries).flatten().collect()
    }
}

impl<'a> Report<'a> {
    /// Holds two lines with the same receipt, or without two receipts, against each other.
    fn pair(&mut self, entry: &Entry<'a>, theirs: &'a TrailLine) {
        entry.is_paired.set(true);
        let ours = entry.line;
        if !theirs.is_slot_of(ours) {
            self.differ(Finding::DifferentSlot, Some(ours), Some(theirs));
        } else if theirs.quantity != ours.quantity {
            self.differ(Finding::DifferentQuantity, Some(ours), Some(theirs));
        } else {
            self.matched = self.matched.saturating_add(1);
        }
    }

    /// Finds a place for a line whose receipt the ledger does not have.
    fn place(&mut self, slot: &[&Entry<'a>], theirs: &'a TrailLine) {
        let accepted = || slot.iter().filter_map(|entry| Some((*entry, entry.receipt()?)));
        if let Some((entry, receipt)) = accepted().find(|(entry, _)| !entry.is_paired.get()) {
            if receipt.is_empty() || theirs.receipt.is_empty() {
                self.pair(entry, theirs);
            } else {
                entry.is_paired.set(true);
                self.differ(Finding::DifferentReceipt, Some(entry.line), Some(theirs));
            }
        } else if let Some((entry, _)) = accepted().next() {
            self.differ(Finding::AcceptedTwice, Some(entry.line), Some(theirs));
        } else if let Some(entry) = slot.first() {
            self.differ(Finding::NotAcceptedHere, Some(entry.line), Some(theirs));
        } else {
            self.differ(Finding::NotInLedger, None, Some(theirs));
        }
    }

    /// Notes what CloudTrail lacks.
    fn miss(&mut self, ours: &'a LedgerLine, now: Timestamp) {
        let Standing::Accepted { at, .. } = ours.standing else { return };
        let is_recent = now.since(at) < CLOUDTRAIL_DELAY;
        let finding = if is_recent { Finding::NotInCloudTrailYet } else { Finding::NotInCloudTrail };
        self.differ(finding, Some(ours), None);
    }

    fn differ(&mut self, finding: Finding, ours: Option<&'a LedgerLine>, theirs: Option<&'a TrailLine>) {
        self.differences.push(Difference { finding, ours, theirs });
    }
}

impl Difference<'_> {
    pub fn hour(&self) -> Option<Hour> {
        self.ours.map(|line| line.hour).or_else(|| Some(self.theirs?.hour))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Hour::from_index(600_000).start()
    }

    fn identity(number: u32) -> (Buyer, [Arc<str>; 4]) {
        let none: Arc<str> = "".into();
        let product: Arc<str> = "prod".into();
        let name: Arc<str> = format!("{:012}", number / 3).into();
        match number % 3 {
            0 => (Buyer::License(name.clone()), [none.clone(), "1".into(), name, none]),
            1 => (
                Buyer::Account { product: product.clone(), account_id: name.clone() },
                [product, name, none.clone(), none],
            ),
            _ => (
                Buyer::CustomerIdentifier { product: product.clone(), customer_identifier: name.clone() },
                [product, none.clone(), none, name],
            ),
        }
    }

    /// Records of distinct slots; `kind` 0 is accepted with a receipt, 1 presumed without one.
    fn ledger_line(slot: u32, quantity: u64, kind: u8) -> LedgerLine {
        let at = Timestamp::from_seconds(1_000_000);
        let standing = match kind {
            0 => Standing::Accepted { receipt: format!("receipt-{slot}").into(), at },
            1 => Standing::Accepted { receipt: "".into(), at },
            2 => Standing::Pending,
            3 => Standing::Held,
            4 => Standing::RolledForward,
            5 => Standing::Carried,
            6 => Standing::WrittenOff,
            _ => Standing::Expired,
        };
        LedgerLine {
            id: RecordId(slot.into()),
            product: "prod".into(),
            customer: "acme".into(),
            buyer: identity(slot % 12).0,
            dimension: if slot.is_multiple_of(2) { "a" } else { "b" }.into(),
            hour: Hour::from_index(498_000 + slot / 12),
            quantity: Quantity::from_micros(quantity).unwrap(),
            standing,
        }
    }

    /// AWS's side of it.
    fn trail_line(record: &LedgerLine) -> TrailLine {
        let slot = u32::try_from(record.id.0).unwrap();
        let [product, account_id, license_arn, customer_identifier] = identity(slot % 12).1;
        TrailLine {
            hour: record.hour,
            product,
            account_id,
            license_arn,
            customer_identifier,
            dimension: record.dimension.clone(),
            region: "us-east-1".into(),
            receipt: format!("receipt-{slot}").into(),
            quantity: record.quantity,
            at: Timestamp::from_seconds(999_999),
        }
    }

    fn is_accepted(record: &LedgerLine) -> bool {
        matches!(record.standing, Standing::Accepted { .. })
    }

    fn findings(report: &Report<'_>) -> Vec<(Finding, Option<RecordId>)> {
        let found = |it: &Difference<'_>| (it.finding, it.ours.map(|line| line.id));
        report.differences.iter().map(found).collect()
    }

    prop_compose! {
        fn ledgers()(lines in prop::collection::btree_map(0..60_u32, (0..5_000_000_u64, 0..8_u8), 1..40))
            -> Vec<LedgerLine>
        {
            lines.into_iter().map(|(slot, (quantity, kind))| ledger_line(slot, quantity, kind)).collect()
        }
    }

    prop_compose! {
        /// A ledger, AWS's side of it, and which of the accepted records something happens to.
        fn pairs()(ledger in ledgers(), chosen: prop::sample::Index, again in 0..4_i64)
            -> (Vec<LedgerLine>, Vec<TrailLine>, usize)
        {
            let mut ledger = ledger;
            ledger.push(ledger_line(77, 3, 0));
            let mut trail: Vec<TrailLine> = ledger.iter().filter(|line| is_accepted(line)).map(trail_line).collect();
            let chosen = chosen.index(trail.len());
            // Calls that are repeated, in files that are not in order.
            for second in 0..again {
                let line = trail[0].clone();
                trail.insert(0, TrailLine { at: Timestamp::from_seconds(second), ..line });
            }
            trail.reverse();
            (ledger, trail, chosen)
        }
    }

    /// The accepted record that something happens to, and where it is.
    fn chosen_record(ledger: &[LedgerLine], chosen: usize) -> usize {
        ledger.iter().enumerate().filter(|(_, line)| is_accepted(line)).nth(chosen).unwrap().0
    }

    fn has_receipt(record: &LedgerLine) -> bool {
        matches!(&record.standing, Standing::Accepted { receipt, .. } if !receipt.is_empty())
    }

    proptest! {
        #[test]
        fn a_ledger_and_what_was_made_of_it_agree((ledger, trail, _) in pairs()) {
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), []);
            prop_assert_eq!(report.matched, ledger.iter().filter(|line| is_accepted(line)).count() as u64);
        }

        #[test]
        fn a_line_that_aws_lacks_is_found_alone((ledger, mut trail, chosen) in pairs()) {
            let record = &ledger[chosen_record(&ledger, chosen)];
            let receipt = trail_line(record).receipt;
            trail.retain(|line| line.receipt != receipt);
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::NotInCloudTrail, Some(record.id))]);
        }

        #[test]
        fn a_record_that_the_ledger_lacks_is_found_alone((mut ledger, trail, chosen) in pairs()) {
            let removed = ledger.remove(chosen_record(&ledger, chosen));
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::NotInLedger, None)]);
            let receipt = report.differences[0].theirs.map(|line| line.receipt.clone());
            prop_assert_eq!(receipt, Some(trail_line(&removed).receipt));
        }

        #[test]
        fn another_quantity_is_found_alone((mut ledger, trail, chosen) in pairs()) {
            let at = chosen_record(&ledger, chosen);
            ledger[at].quantity = Quantity::from_micros(ledger[at].quantity.micros() + 1).unwrap();
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::DifferentQuantity, Some(ledger[at].id))]);
        }

        #[test]
        fn another_receipt_is_found_alone((mut ledger, trail, chosen) in pairs()) {
            let at = chosen_record(&ledger, chosen);
            prop_assume!(has_receipt(&ledger[at]));
            ledger[at].standing = Standing::Accepted { receipt: "other".into(), at: Timestamp::default() };
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::DifferentReceipt, Some(ledger[at].id))]);
        }

        #[test]
        fn a_record_that_is_not_accepted_here_is_found_alone((mut ledger, trail, chosen) in pairs(), kind in 2..8_u8) {
            let at = chosen_record(&ledger, chosen);
            ledger[at].standing = ledger_line(0, 0, kind).standing;
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::NotAcceptedHere, Some(ledger[at].id))]);
        }

        #[test]
        fn another_slot_under_the_same_receipt_is_found_alone(
            (ledger, mut trail, chosen) in pairs(), hours in 1..6_u32, what in 0..3,
        ) {
            let record = &ledger[chosen_record(&ledger, chosen)];
            prop_assume!(has_receipt(record));
            let receipt = trail_line(record).receipt;
            for line in trail.iter_mut().filter(|line| line.receipt == receipt) {
                match what {
                    0 => line.hour = Hour::from_index(line.hour.index() + hours),
                    1 => line.dimension = if &*line.dimension == "a" { "b" } else { "a" }.into(),
                    _ => line.license_arn = "another".into(),
                }
            }
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::DifferentSlot, Some(record.id))]);
        }

        #[test]
        fn a_slot_that_aws_accepted_under_two_receipts_is_found_alone((ledger, mut trail, chosen) in pairs()) {
            let record = &ledger[chosen_record(&ledger, chosen)];
            let region = "eu-west-1".into();
            trail.push(TrailLine { receipt: "second".into(), region, ..trail_line(record) });
            let report = reconcile(&ledger, &trail, now());
            prop_assert_eq!(findings(&report), [(Finding::AcceptedTwice, Some(record.id))]);
        }
    }

    #[test]
    fn what_was_accepted_a_moment_ago_may_not_be_there_yet() {
        let ledger = [ledger_line(1, 1, 0)];
        let accepted = Timestamp::from_seconds(1_000_000);
        for (minutes, finding) in [(14, Finding::NotInCloudTrailYet), (15, Finding::NotInCloudTrail)] {
            let report = reconcile(&ledger, &[], accepted.plus(Duration::from_mins(minutes)));
            assert_eq!(findings(&report), [(finding, Some(RecordId(1)))]);
        }
    }

    #[test]
    fn a_hidden_customer_is_found_by_its_receipt() {
        let ledger = [ledger_line(1, 1, 0)];
        let hidden: Arc<str> = "".into();
        let line = TrailLine {
            product: hidden.clone(),
            account_id: hidden.clone(),
            license_arn: hidden.clone(),
            customer_identifier: hidden,
            ..trail_line(&ledger[0])
        };
        assert_eq!(reconcile(&ledger, &[line], now()).matched, 1);
    }

    #[test]
    fn a_line_with_two_names_of_the_buyer_fits_either() {
        let both = |record: &LedgerLine| TrailLine {
            account_id: "000000000000".into(),
            customer_identifier: "000000000000".into(),
            receipt: "".into(),
            ..trail_line(record)
        };
        for record in [ledger_line(1, 1, 0), ledger_line(2, 1, 0)] {
            let line = both(&record);
            assert_eq!(reconcile(&[record], &[line], now()).matched, 1);
        }
    }
}
