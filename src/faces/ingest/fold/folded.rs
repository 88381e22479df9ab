//! What has become of a request: what it asks to count, and what is refused of it and why.

use std::collections::{BTreeMap, HashMap};

use crate::{
    base::proto::{Rejection, rejection::Reason},
    domain::{product::ProductIndex, usage::Refusal},
    work::delta::{Delta, Mark, Recorded, Refused},
};

/// Every rejection has its reason; only so many of a request have a message, or a client might be unable to read the
/// answer, think the good events lost, and send them again.
const MAX_MESSAGES: usize = 100;

/// A request on its way: what it asks to count, and what is wrong with the rest.
#[derive(Debug, Default)]
pub(in crate::faces::ingest) struct Folded {
    pub(super) delta: Delta,
    /// By event: the entry that holds it, if it has no id and is not refused.
    pub(super) entry_of: Vec<Option<u32>>,
    /// By event, with the product where that is known.
    pub(super) refusals: BTreeMap<u32, Stranger>,
}

/// Names that mean nothing here, and the product where that is known.
pub(super) type Stranger = (Option<ProductIndex>, Refusal);

impl Folded {
    /// What the committer is to count. To hand over, once.
    pub(in crate::faces::ingest) fn take_delta(&mut self, mark: Option<Mark>) -> Delta {
        Delta { mark, ..std::mem::take(&mut self.delta) }
    }

    /// Takes in what the committer refused.
    pub(in crate::faces::ingest) fn refuse(&mut self, recorded: Recorded) {
        let refused = |Refused { place, product, why }| (place, (Some(product), why));
        self.refusals.extend(recorded.refused.into_iter().map(refused));
        let by_entry: HashMap<u32, _> = recorded.refused_entries.into_iter().map(refused).collect();
        if by_entry.is_empty() {
            return;
        }
        for (index, entry) in (0..).zip(&self.entry_of) {
            if let Some(refused) = entry.and_then(|entry| by_entry.get(&entry)) {
                self.refusals.insert(index, refused.clone());
            }
        }
    }

    pub(in crate::faces::ingest) fn rejections(&self) -> Vec<Rejection> {
        let rejection = |(place, (index, (_, refusal))): (usize, (&u32, &(_, Refusal)))| Rejection {
            index: *index,
            reason: reason(refusal).into(),
            message: if place < MAX_MESSAGES { refusal.to_string() } else { String::new() },
        };
        self.refusals.iter().enumerate().map(rejection).collect()
    }

    /// How many events are rejected, as far as that is known.
    pub(in crate::faces::ingest) fn rejected(&self) -> usize {
        self.refusals.len()
    }

    /// The product of each rejected event; `None` where it names none of ours.
    pub(in crate::faces::ingest) fn products_of_rejected(
        &self,
    ) -> impl Iterator<Item = Option<ProductIndex>> + '_ {
        self.refusals.values().map(|(product, _)| *product)
    }
}

fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::UnknownProduct { .. } => Reason::UnknownProduct,
        Refusal::UnknownDimension { .. } => Reason::UnknownDimension,
        Refusal::InvalidCustomer => Reason::InvalidCustomer,
        Refusal::UnknownCustomer { .. } => Reason::UnknownCustomer,
        Refusal::InvalidEventId { .. } => Reason::InvalidEventId,
        Refusal::QuantityOverflow => Reason::QuantityOverflow,
        Refusal::TimeTooOld { .. } => Reason::TimeTooOld,
        Refusal::TimeInFuture { .. } => Reason::TimeInFuture,
        Refusal::MissingSubject { .. } => Reason::MissingSubject,
        Refusal::InvalidSubject { .. } => Reason::InvalidSubject,
        Refusal::InvalidTags { .. } => Reason::InvalidTags,
        Refusal::LimitReached { .. } => Reason::LimitReached,
        Refusal::NotAllowed { .. } => Reason::NotAllowed,
    }
}
