//! When an hour is sealed, and what its buckets become.

use std::{sync::Arc, time::Duration};

use super::{
    bucket::{Bucket, Carried},
    deadline::Window,
    identity::Identity,
    product::Dimension,
    record::{Amounts, Record, RecordId},
    time::{Hour, Timestamp},
};

/// The first watermark of an agent that starts for the first time: the hour that is in grace stays open.
pub fn first_watermark(started: Timestamp, grace: Duration) -> Hour {
    Hour::containing(started.minus(grace)).previous()
}

/// Left between a seal and the deadline, for sending.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

/// When the hour after `watermark` is sealed: `grace` after its end, and not sooner than `grace` after the start of the
/// agent, so that applications can resend after a down-time; but in time for the hour's deadline.
pub fn seals_at(watermark: Hour, started: Timestamp, grace: Duration, window: &Window) -> Timestamp {
    let hour = watermark.next();
    let after_start = started.plus(grace).min(window.deadline(hour).minus(TIME_TO_SEND));
    hour.end().plus(grace).max(after_start)
}

/// The hour that takes an event for `hour`: its own while that is open, else the current one, counted as late.
pub fn open_hour(hour: Hour, watermark: Hour, now: Timestamp) -> Hour {
    if hour > watermark { hour } else { Hour::containing(now).max(watermark.next()) }
}

/// A customer as the seal needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    pub product: Arc<str>,
    pub customer: Arc<str>,
    pub identity: Identity,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
}

/// What a bucket becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub record: Option<Record>,
    /// Moves into the next hour's bucket.
    pub carry: Carried,
}

/// Seals one bucket. Without a claim to zero (`zero_record`), an hour that bills nothing makes no record, and all of
/// it is carried.
pub fn seal(
    id: RecordId,
    hour: Hour,
    billed: &Billed,
    dimension: &Dimension,
    bucket: &Bucket,
    zero_record: bool,
) -> Sealed {
    let bill = dimension.unit.bill(bucket.total());
    let mut by_origin = bucket.carried.clone();
    by_origin.add(hour, bucket.usage);
    let carry = by_origin.newest(bill.rest);
    if bill.quantity.is_zero() && !zero_record {
        return Sealed { record: None, carry };
    }
    let record = Record {
        id,
        product: billed.product.clone(),
        customer: billed.customer.clone(),
        dimension: dimension.name.clone(),
        identity: billed.identity.clone(),
        hour,
        timestamp: timestamp(hour, billed.since),
        quantity: bill.quantity,
        decimal: dimension.unit.is_decimal(),
        amounts: Amounts {
            usage: bucket.usage,
            events: bucket.events,
            carried_in: bucket.carried.clone(),
            billed: bill.billed,
            carried_out: bill.rest,
        },
    };
    Sealed { record: Some(record), carry }
}

/// AWS refuses usage from before a subscription began, and takes any moment inside the hour for the hour.
fn timestamp(hour: Hour, since: Option<Timestamp>) -> Timestamp {
    match since {
        Some(since) if since > hour.start() && since < hour.end() => since,
        _ => hour.start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{bucket::tests::buckets, product::Aggregate, quantity::Unit};
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    const GRACE: Duration = Duration::from_mins(5);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    fn acme(since: Option<&str>) -> Billed {
        Billed {
            product: "prod".into(),
            customer: "acme".into(),
            identity: Identity::Account { account_id: "123456789012".into() },
            since: since.map(at),
        }
    }

    fn dimension(unit: u64, decimals: u8) -> Dimension {
        let unit = Unit::new(NonZeroU64::new(unit).unwrap(), decimals).unwrap();
        Dimension { name: "gb_out".into(), aggregate: Aggregate::Sum, unit }
    }

    #[test]
    fn a_new_agent_leaves_the_hour_in_grace_open() {
        assert_eq!(first_watermark(at("2026-11-22T10:02:00Z"), GRACE).next(), hour("2026-11-22T09:00:00Z"));
        assert_eq!(first_watermark(at("2026-11-22T10:05:00Z"), GRACE).next(), hour("2026-11-22T10:00:00Z"));
    }

    #[test]
    fn an_hour_is_sealed_a_grace_after_its_end_or_after_the_start() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-11-22T10:30:00Z"), "2026-11-22T11:05:00Z");
        assert_eq!(sealed_at("2026-11-22T18:20:00Z"), "2026-11-22T18:25:00Z");
    }

    #[test]
    fn after_a_down_time_the_seal_still_comes_before_the_deadline() {
        let watermark = hour("2026-11-30T21:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-12-01T05:43:00Z"), "2026-12-01T05:45:00Z");
        assert!(sealed_at("2026-12-01T05:57:00Z").as_str() <= "2026-12-01T05:57:00Z", "at once");
    }

    #[test]
    fn late_events_go_to_the_current_hour_and_never_behind_the_watermark() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let now = at("2026-11-22T11:30:00Z");
        assert_eq!(open_hour(hour("2026-11-22T10:00:00Z"), watermark, now), hour("2026-11-22T10:00:00Z"));
        assert_eq!(open_hour(hour("2026-11-22T09:00:00Z"), watermark, now), hour("2026-11-22T11:00:00Z"));
        let stepped_back = at("2026-11-22T07:00:00Z");
        assert_eq!(open_hour(hour("2026-11-22T07:00:00Z"), watermark, stepped_back), watermark.next());
    }

    #[test]
    fn the_timestamp_is_the_subscriptions_start_only_inside_the_hour() {
        let stamp = |since| timestamp(hour("2026-11-22T10:00:00Z"), Some(at(since))).to_string();
        assert_eq!(stamp("2026-11-22T10:20:00Z"), "2026-11-22T10:20:00Z");
        assert_eq!(stamp("2026-11-22T09:59:59Z"), "2026-11-22T10:00:00Z");
        assert_eq!(stamp("2026-11-22T11:00:00Z"), "2026-11-22T10:00:00Z");
    }

    #[test]
    fn nothing_to_bill_makes_a_record_only_as_a_claim_to_zero() {
        let bucket = Bucket { usage: 999, events: 1, ..Bucket::default() };
        let sealed = |zero| {
            seal(RecordId(1), hour("2026-11-22T10:00:00Z"), &acme(None), &dimension(1000, 0), &bucket, zero)
        };
        assert_eq!(sealed(false).record, None);
        assert_eq!(sealed(true).record.unwrap().quantity.to_string(), "0");
        assert_eq!(sealed(false).carry.total(), 999);
    }

    proptest! {
        #[test]
        fn sealing_conserves(bucket in buckets(), unit in 1..10_000_000_u64, decimals in 0..=6_u8, zero: bool) {
            let hour = hour("2026-11-22T10:00:00Z");
            let sealed = seal(RecordId(1), hour, &acme(None), &dimension(unit, decimals), &bucket, zero);
            let billed = sealed.record.as_ref().map_or(0, |record| record.amounts.billed);
            prop_assert_eq!(billed + sealed.carry.total(), bucket.total());
            if let Some(record) = sealed.record {
                let Amounts { usage, carried_in, billed, carried_out, .. } = &record.amounts;
                prop_assert_eq!(usage + carried_in.total(), billed + carried_out);
                prop_assert_eq!(*carried_out, sealed.carry.total());
            }
        }
    }
}
