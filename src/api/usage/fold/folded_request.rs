//! A folded request: the usage to be counted, and the refused events with their reasons.

use std::collections::{BTreeMap, HashMap};

use crate::{
    base::proto::{Rejection, rejection::Reason},
    domain::{product::ProductIndex, usage::event::RejectReason},
    engine::counting::request::{CountRequest, Counted, Refused, StreamPosition},
};

/// Every rejection has its reason; only so many of a request have a message, or a client might be unable to read the
/// answer, think the good events lost, and send them again.
const MAX_MESSAGES: usize = 100;

/// A request on its way: what it asks to count, and what is wrong with the rest.
#[derive(Debug, Default)]
pub(in crate::api::usage) struct FoldedRequest {
    pub(super) count_request: CountRequest,
    /// By event: the entry that holds it, if it has no id and is not refused.
    pub(super) entry_of: Vec<Option<u32>>,
    /// The rejected events by their index, with the product where that is known.
    pub(super) refusals: BTreeMap<u32, RejectedEvent>,
    /// Stands for the events of a stream's message; 0 for a request.
    pub(in crate::api::usage) digest: u64,
}

/// Names that mean nothing here, and the product where that is known.
pub(super) type RejectedEvent = (Option<ProductIndex>, RejectReason);

impl FoldedRequest {
    /// What the committer is to count. To hand over, once.
    pub(in crate::api::usage) fn take_count_request(
        &mut self,
        position: Option<StreamPosition>,
    ) -> CountRequest {
        CountRequest { position, ..std::mem::take(&mut self.count_request) }
    }

    /// Takes in what the committer refused.
    pub(in crate::api::usage) fn refuse(&mut self, counted: Counted) {
        let refused = |Refused { index, product, why }| (index, (Some(product), why));
        self.refusals.extend(counted.refused.into_iter().map(refused));
        let by_entry: HashMap<u32, _> = counted.refused_entries.into_iter().map(refused).collect();
        if by_entry.is_empty() {
            return;
        }
        for (index, entry) in (0..).zip(&self.entry_of) {
            if let Some(refused) = entry.and_then(|entry| by_entry.get(&entry)) {
                self.refusals.insert(index, refused.clone());
            }
        }
    }

    pub(in crate::api::usage) fn rejections(&self) -> Vec<Rejection> {
        let rejection = |(slot, (index, (_, refusal))): (usize, (&u32, &(_, RejectReason)))| Rejection {
            index: *index,
            reason: reason(refusal).into(),
            message: if slot < MAX_MESSAGES { refusal.to_string() } else { String::new() },
        };
        self.refusals.iter().enumerate().map(rejection).collect()
    }

    /// How many events are rejected, as far as that is known.
    pub(in crate::api::usage) fn rejected(&self) -> usize {
        self.refusals.len()
    }

    /// The product of each rejected event; `None` where it names none of ours.
    pub(in crate::api::usage) fn products_of_rejected(
        &self,
    ) -> impl Iterator<Item = Option<ProductIndex>> + '_ {
        self.refusals.values().map(|(product, _)| *product)
    }
}

fn reason(refusal: &RejectReason) -> Reason {
    match refusal {
        RejectReason::UnknownProduct { .. } => Reason::UnknownProduct,
        RejectReason::UnknownDimension { .. } => Reason::UnknownDimension,
        RejectReason::InvalidCustomer => Reason::InvalidCustomer,
        RejectReason::UnknownCustomer { .. } => Reason::UnknownCustomer,
        RejectReason::QuantityTooLarge { .. } => Reason::QuantityTooLarge,
        RejectReason::InvalidEventId { .. } => Reason::InvalidEventId,
        RejectReason::QuantityOverflow => Reason::QuantityOverflow,
        RejectReason::TimeTooOld { .. } | RejectReason::OlderThanIds { .. } => Reason::TimeTooOld,
        RejectReason::TimeInFuture { .. } => Reason::TimeInFuture,
        RejectReason::MissingSubject { .. } => Reason::MissingSubject,
        RejectReason::InvalidSubject { .. } => Reason::InvalidSubject,
        RejectReason::InvalidTags { .. } => Reason::InvalidTags,
        RejectReason::LimitReached { .. } => Reason::LimitReached,
        RejectReason::NotAllowed { .. } => Reason::NotAllowed,
        RejectReason::BeforeSince { .. } => Reason::BeforeSince,
    }
}
