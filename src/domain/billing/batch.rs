//! Which records may go out in one request (I6).

use std::collections::HashSet;

use super::record::{Record, Slot};
use crate::domain::usage::tags::TagSet;

/// AWS's limit (`BatchMeterUsage` model: `UsageRecords` 0 to 25).
pub(crate) const MAX_RECORDS: usize = 25;
/// AWS's limit is 1 MB for the request; the rest is room for headers and the frame around the records.
pub(crate) const MAX_BYTES: usize = 1_000_000 - 16_384;

/// Records that may share a request: one product, one identity mode, no slot twice, within AWS's limits.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    slots: HashSet<Slot>,
    bytes: usize,
    frame: Option<Frame>,
}

type Frame = (std::sync::Arc<str>, crate::domain::customer::identity::IdentityMode);

impl Batch {
    /// Adds the record if it may join those already here; says whether it did.
    pub(crate) fn admit(&mut self, record: &Record) -> bool {
        let frame = (record.product.clone(), record.identity.mode());
        let bytes = self.bytes.saturating_add(wire_size(record));
        let fits = self.slots.len() < MAX_RECORDS && (bytes <= MAX_BYTES || self.slots.is_empty());
        if !fits
            || self.frame.as_ref().is_some_and(|mine| *mine != frame)
            || !self.slots.insert(record.slot())
        {
            return false;
        }
        self.bytes = bytes;
        self.frame = Some(frame);
        true
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= MAX_RECORDS
    }
}

/// An upper bound of the record's size in the request's JSON, attribute names counted, every byte of text escaped.
pub(crate) fn wire_size(record: &Record) -> usize {
    const NAMES_AND_NUMBERS: usize = 256;
    const LONGEST_ESCAPE: usize = 6;
    let fields = record.identity.fields();
    let texts =
        [fields.account_id, fields.license_arn, fields.customer_identifier, &record.dimension].map(str::len);
    let untagged = TagSet::UNTAGGED_WIRE_SIZE;
    let parts = record.allocations.iter().map(|part| part.tags.as_ref().map_or(untagged, TagSet::wire_size));
    let texts = texts.iter().map(|text| text.saturating_mul(LONGEST_ESCAPE));
    texts.chain(parts).fold(NAMES_AND_NUMBERS, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{billing::record::tests::sample, customer::identity::Identity, time::Hour};
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (0..3_u8, 0..40_u32, 0..2_u8, 0..3_u8).prop_map(|(product, hour, mode, customer)| {
            let mut record = sample(0);
            record.product = format!("prod{product}").into();
            record.hour = Hour::from_index(hour);
            record.identity = match mode {
                0 => Identity::Account { account_id: format!("{customer:012}").into() },
                _ => Identity::CustomerIdentifier { customer_identifier: format!("c{customer}").into() },
            };
            record
        });
        proptest::collection::vec(record, 0..120)
    }

    proptest! {
        #[test]
        fn a_batch_never_breaks_the_one_slot_rule(records in records()) {
            let mut batch = Batch::default();
            let sent: Vec<&Record> = records.iter().filter(|record| batch.admit(record)).collect();
            prop_assert!(sent.len() <= MAX_RECORDS);
            let slots: HashSet<Slot> = sent.iter().map(|record| record.slot()).collect();
            prop_assert_eq!(slots.len(), sent.len());
            let frames: HashSet<_> = sent.iter().map(|record| (record.product.clone(), record.identity.mode())).collect();
            prop_assert!(frames.len() <= 1);
            prop_assert!(sent.iter().map(|record| wire_size(record)).sum::<usize>() <= MAX_BYTES);
        }
    }

    #[test]
    fn a_batch_stays_under_the_size_limit() {
        let mut batch = Batch::default();
        let mut large = sample(0);
        large.dimension = "x".repeat(60_000).into();
        let admitted =
            (0..25).filter(|hour| batch.admit(&Record { hour: Hour::from_index(*hour), ..large.clone() }));
        assert_eq!(admitted.count(), 2);
    }

    #[test]
    fn there_is_room_for_headers_under_a_megabyte() {
        let half = |hour| {
            let dimension = "x".repeat(82_500).into();
            Record { dimension, hour: Hour::from_index(hour), ..sample(0) }
        };
        assert!((985_000..1_000_000).contains(&(wire_size(&half(1)) + wire_size(&half(2)))));
        let mut batch = Batch::default();
        assert_eq!([half(1), half(2)].map(|record| batch.admit(&record)), [true, false]);
    }

    #[test]
    fn a_batch_of_25_is_full() {
        let mut batch = Batch::default();
        for hour in 1..=25 {
            assert!(!batch.is_full());
            assert!(batch.admit(&Record { hour: Hour::from_index(hour), ..sample(0) }));
        }
        assert!(batch.is_full());
    }
}
