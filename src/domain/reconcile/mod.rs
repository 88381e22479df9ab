//! The ledger held against what AWS says that it accepted: what either side lacks.

#[cfg(test)]
mod tests;

use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    billing::record::RecordId,
    time::{Hour, Timestamp},
    usage::quantity::Quantity,
};

/// How late an acceptance may show in CloudTrail.
pub(crate) const CLOUDTRAIL_DELAY: Duration = Duration::from_mins(15);

/// A record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerLine {
    pub id: RecordId,
    pub product: Arc<str>,
    pub customer: Arc<str>,
    pub buyer: Buyer,
    pub dimension: Arc<str>,
    pub hour: Hour,
    pub quantity: Quantity,
    pub state: LineState,
}

/// Whom AWS bills, as far as it makes two records one slot or two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Buyer {
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
pub(crate) enum LineState {
    /// The receipt is empty when the acceptance was inferred.
    Accepted {
        receipt: Arc<str>,
        at: Timestamp,
    },
    Pending,
    /// In conflict when AWS has called it a duplicate of what this agent did not send.
    Held {
        in_conflict: bool,
    },
    RolledForward,
    Carried,
    WrittenOff,
    Expired,
}

impl LineState {
    pub(crate) fn receipt(&self) -> Option<&Arc<str>> {
        match self {
            Self::Accepted { receipt, .. } => Some(receipt),
            Self::Pending
            | Self::Held { .. }
            | Self::RolledForward
            | Self::Carried
            | Self::WrittenOff
            | Self::Expired => None,
        }
    }
}

/// A record that AWS answered with Success. What CloudTrail does not tell is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrailLine {
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
    pub sender: Sender,
}

/// Who made the call, in CloudTrail's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sender {
    /// The role or user, with the name of the session.
    pub arn: Arc<str>,
    pub address: Arc<str>,
    /// The program's own word.
    pub user_agent: Arc<str>,
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

    /// Whether both say the same, at whatever time and to whomever: AWS answers a repeated record with the same receipt.
    fn repeats(&self, other: &Self) -> bool {
        (Self { at: other.at, sender: other.sender.clone(), ..self.clone() }) == *other
    }

    fn is_slot_of(&self, record: &LedgerLine) -> bool {
        let buyers = self.buyers();
        (&self.dimension, self.hour) == (&record.dimension, record.hour)
            && (buyers.is_empty() || buyers.contains(&record.buyer))
    }
}

/// The dangerous ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// AWS accepted one slot under a second receipt.
    AcceptedTwice,
    /// AWS accepted a record that is not accepted in the ledger.
    NotAcceptedHere,
    /// AWS keeps what another reporter sent for the slot of a record that is not accepted in the ledger.
    Conflict,
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
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AcceptedTwice => "accepted_twice",
            Self::NotAcceptedHere => "not_accepted_here",
            Self::Conflict => "conflict",
            Self::NotInLedger => "not_in_ledger",
            Self::DifferentQuantity => "different_quantity",
            Self::DifferentSlot => "different_slot",
            Self::DifferentReceipt => "different_receipt",
            Self::NotInCloudTrail => "not_in_cloudtrail",
            Self::NotInCloudTrailYet => "not_in_cloudtrail_yet",
        }
    }

    /// Whether time alone may mend it.
    pub(crate) const fn may_pass(self) -> bool {
        matches!(self, Self::NotInCloudTrailYet)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference<'a> {
    pub finding: Finding,
    pub ours: Option<&'a LedgerLine>,
    pub theirs: Option<&'a TrailLine>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report<'a> {
    pub matched: u64,
    /// Who sent the records that match, and how many.
    pub senders: BTreeMap<&'a Sender, u64>,
    /// The differences, ordered by finding and then by hour.
    pub differences: Vec<Difference<'a>>,
}

/// Pairs what has the same receipt first, then what has the same slot; what is left has no counterpart.
pub(crate) fn reconcile<'a>(ledger: &'a [LedgerLine], trail: &'a [TrailLine], now: Timestamp) -> Report<'a> {
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
    // What the ledger itself may have sent comes first, so that an acceptance beside it is the second one.
    unpaired.sort_by_cached_key(|line| !index.has_amount(line));
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

struct Index<'e, 'a> {
    by_receipt: BTreeMap<&'e str, &'e Entry<'a>>,
    by_slot: BTreeMap<SlotKey<'e>, Vec<&'e Entry<'a>>>,
}

type SlotKey<'e> = (&'e Buyer, &'e str, Hour);

impl<'e, 'a> Index<'e, 'a> {
    fn new(entries: &'e [Entry<'a>]) -> Self {
        let mut index = Self { by_receipt: BTreeMap::new(), by_slot: BTreeMap::new() };
        for entry in entries {
            if let Some(receipt) = entry.line.state.receipt().filter(|receipt| !receipt.is_empty()) {
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

    /// Whether a record of the line's slot has the line's quantity.
    fn has_amount(&self, line: &TrailLine) -> bool {
        self.in_slot(line).iter().any(|entry| entry.line.quantity == line.quantity)
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
            let records = self.senders.entry(&theirs.sender).or_default();
            *records = records.saturating_add(1);
        }
    }

    /// Finds a place for a line whose receipt the ledger does not have. A slot has one record.
    fn place(&mut self, slot: &[&Entry<'a>], theirs: &'a TrailLine) {
        let accepted = || slot.iter().filter_map(|entry| Some((*entry, entry.line.state.receipt()?)));
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
            self.find_unaccepted(entry, theirs);
        } else {
            self.differ(Finding::NotInLedger, None, Some(theirs));
        }
    }

    /// Tells an acceptance that the ledger does not know of from one of another reporter. AWS keeps the first quantity of
    /// a slot, so that another one is never the record's own; and what was called a duplicate is not its own either.
    fn find_unaccepted(&mut self, entry: &Entry<'a>, theirs: &'a TrailLine) {
        let ours = entry.line;
        let is_of_other =
            ours.quantity != theirs.quantity || ours.state == LineState::Held { in_conflict: true };
        let finding = match (entry.is_paired.replace(true), is_of_other) {
            (true, _) => Finding::AcceptedTwice,
            (false, true) => Finding::Conflict,
            (false, false) => Finding::NotAcceptedHere,
        };
        self.differ(finding, Some(ours), Some(theirs));
    }

    /// Notes what CloudTrail lacks.
    fn miss(&mut self, ours: &'a LedgerLine, now: Timestamp) {
        let LineState::Accepted { at, .. } = ours.state else { return };
        let is_recent = now.since(at) < CLOUDTRAIL_DELAY;
        let finding = if is_recent { Finding::NotInCloudTrailYet } else { Finding::NotInCloudTrail };
        self.differ(finding, Some(ours), None);
    }

    fn differ(&mut self, finding: Finding, ours: Option<&'a LedgerLine>, theirs: Option<&'a TrailLine>) {
        self.differences.push(Difference { finding, ours, theirs });
    }
}

impl Difference<'_> {
    pub(crate) fn hour(&self) -> Option<Hour> {
        self.ours.map(|line| line.hour).or_else(|| Some(self.theirs?.hour))
    }
}
