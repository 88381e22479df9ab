//! What a person takes from open hours: the request read, and the answers.

use std::sync::Arc;

use tonic::Status;
use uuid::Uuid;

use super::request_fields::{MAX_PAGE, MAX_ROWS_READ, decider, reason};
use crate::{
    api::agent_handle::AgentHandle,
    base::proto::{
        AdjustRequest, AdjustResponse, AdjustedHour, Adjustment, AdjustmentNote, ListAdjustmentsRequest,
        ListAdjustmentsResponse, Origin, TaggedAmount,
    },
    domain::{
        billing::{
            adjustment::{self as domain, Taken, Wanted},
            record::Record,
        },
        product::Catalog,
        time::{Hour, Timestamp},
        usage::{event::Names, locate::locate, tags::TagSet},
    },
    engine::billing::{AdjustRequest as Wish, Adjusted, record_reader::RecordReader},
    store::StoreError,
};

const MAX_ID: usize = 128;

/// Reads a request, or says what is wrong with it.
pub(super) fn parse(
    request: &AdjustRequest,
    client: Arc<str>,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Wish, Status> {
    let AdjustRequest { product, customer, dimension, minus, adjustment_id, .. } = request;
    let located = locate(catalog, Names { product, customer, dimension }, None)
        .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
    if *minus == 0 {
        return Err(Status::invalid_argument(
            "minus must be 1 or more base units: an adjustment only lowers",
        ));
    }
    if adjustment_id.len() > MAX_ID {
        return Err(Status::invalid_argument(format!("adjustment_id must be at most {MAX_ID} bytes")));
    }
    let tags = request.tags.iter().map(|(key, value)| (&**key, &**value));
    let tags = TagSet::new(tags).map_err(Status::invalid_argument)?;
    let id: Arc<str> = if adjustment_id.is_empty() {
        format!("agent-{}", Uuid::new_v4()).into()
    } else {
        adjustment_id.as_str().into()
    };
    Ok(Wish {
        product: located.product,
        customer: customer.as_str().into(),
        dimension: located.index,
        wanted: Wanted { minus: (*minus).into(), hour: hour(request.hour_unix_seconds)?, tags },
        id,
        reason: reason(&request.reason)?,
        by: decider(&request.decided_by)?,
        client,
        at: now,
    })
}

/// An hour by its start.
fn hour(unix_seconds: i64) -> Result<Option<Hour>, Status> {
    if unix_seconds == 0 {
        return Ok(None);
    }
    let hour = Hour::containing(Timestamp::from_seconds(unix_seconds));
    if hour.start().seconds() == unix_seconds {
        Ok(Some(hour))
    } else {
        Err(Status::invalid_argument("hour_unix_seconds must be the start of an hour"))
    }
}

pub(super) fn answer(adjusted: &Adjusted) -> AdjustResponse {
    AdjustResponse {
        adjustment: Some(message(&adjusted.adjustment)),
        left_open: adjusted.left_open.to_string(),
        repeated: adjusted.is_repeat,
    }
}

fn message(adjustment: &domain::Adjustment) -> Adjustment {
    Adjustment {
        number: adjustment.number,
        adjustment_id: adjustment.id.to_string(),
        product: adjustment.product.clone(),
        customer: adjustment.customer.clone(),
        dimension: adjustment.dimension.clone(),
        amount: adjustment.total().to_string(),
        reason: adjustment.reason.to_string(),
        decided_by: adjustment.by.to_string(),
        decided_unix_seconds: adjustment.at.seconds(),
        hours: adjustment.taken.iter().map(adjusted_hour).collect(),
        client: adjustment.client.to_string(),
    }
}

fn adjusted_hour(Taken { hour, lowered }: &Taken) -> AdjustedHour {
    let origin = |(hour, amount): (Hour, u128)| Origin {
        hour_unix_seconds: hour.start().seconds(),
        amount: amount.to_string(),
    };
    let part = |(tags, amount): (&TagSet, u128)| TaggedAmount {
        tags: tags.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        amount: amount.to_string(),
    };
    AdjustedHour {
        hour_unix_seconds: hour.start().seconds(),
        usage: lowered.usage.to_string(),
        carried: lowered.carried.origins().map(origin).collect(),
        tagged: lowered.tagged.iter().map(part).collect(),
    }
}

/// What persons took from the hour of a record.
pub(super) fn notes(records: RecordReader<'_>, record: &Record) -> Result<Vec<AdjustmentNote>, StoreError> {
    let note = |adjustment: domain::Adjustment| {
        let of_hour = adjustment.taken.iter().filter(|taken| taken.hour == record.hour);
        let amount = of_hour.fold(0_u128, |sum, taken| sum.saturating_add(taken.lowered.total()));
        AdjustmentNote {
            number: adjustment.number,
            amount: amount.to_string(),
            reason: adjustment.reason.to_string(),
            decided_by: adjustment.by.to_string(),
            decided_unix_seconds: adjustment.at.seconds(),
            client: adjustment.client.to_string(),
        }
    };
    Ok(records.adjustments_of(record)?.into_iter().map(note).collect())
}

/// A page of adjustments, in the order of their numbers.
pub(super) fn list(
    agent: &AgentHandle,
    filter: &ListAdjustmentsRequest,
    mut from: u64,
    limit: usize,
) -> Result<ListAdjustmentsResponse, StoreError> {
    let (mut adjustments, mut rows_read) = (Vec::new(), 0);
    while rows_read < MAX_ROWS_READ {
        let page = agent.records().adjustments(from, MAX_PAGE)?;
        if page.is_empty() {
            return Ok(ListAdjustmentsResponse { adjustments, next_page_token: String::new() });
        }
        rows_read += page.len();
        for adjustment in page {
            from = adjustment.number + 1;
            if matches(filter, &adjustment) {
                adjustments.push(message(&adjustment));
            }
            if adjustments.len() == limit {
                return Ok(ListAdjustmentsResponse { adjustments, next_page_token: from.to_string() });
            }
        }
    }
    Ok(ListAdjustmentsResponse { adjustments, next_page_token: from.to_string() })
}

fn matches(filter: &ListAdjustmentsRequest, adjustment: &domain::Adjustment) -> bool {
    let text = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
    let is_within = |taken: &Taken| {
        let start = taken.hour.start().seconds();
        start >= filter.from_unix_seconds && (filter.to_unix_seconds == 0 || start < filter.to_unix_seconds)
    };
    text(&filter.product, &adjustment.product)
        && text(&filter.customer, &adjustment.customer)
        && text(&filter.dimension, &adjustment.dimension)
        && adjustment.taken.iter().any(is_within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{billing::adjustment::tests::sample, sample::product};
    use tonic::Code;

    fn request() -> AdjustRequest {
        AdjustRequest {
            customer: "acme".to_owned(),
            dimension: "gb".to_owned(),
            minus: 5,
            reason: "a slip".to_owned(),
            decided_by: "ann".to_owned(),
            ..AdjustRequest::default()
        }
    }

    #[test]
    fn an_adjustment_has_an_amount_a_reason_and_a_name_and_what_it_is_for_exists() {
        let catalog = Catalog::new(vec![product("prod", true)]);
        let parse = |request: &AdjustRequest| parse(request, "ops".into(), &catalog, Timestamp::MIN);
        let wish = parse(&request()).unwrap();
        assert_eq!((wish.wanted.minus, wish.wanted.hour, wish.wanted.tags), (5, None, None));
        assert_eq!((&*wish.by, &*wish.client), ("ann", "ops"));
        assert_ne!(wish.id, parse(&request()).unwrap().id, "each one without an id is a new one");
        let hour = AdjustRequest { hour_unix_seconds: 7200, adjustment_id: "x".repeat(128), ..request() };
        assert_eq!(parse(&hour).unwrap().wanted.hour, Some(Hour::from_index(2)));
        let wrong = [
            AdjustRequest { minus: 0, ..request() },
            AdjustRequest { reason: String::new(), ..request() },
            AdjustRequest { reason: "x".repeat(1001), ..request() },
            AdjustRequest { decided_by: " ".to_owned(), ..request() },
            AdjustRequest { decided_by: "\u{202e}nna".to_owned(), ..request() },
            AdjustRequest { dimension: "other".to_owned(), ..request() },
            AdjustRequest { product: "other".to_owned(), ..request() },
            AdjustRequest { customer: String::new(), ..request() },
            AdjustRequest { adjustment_id: "x".repeat(129), ..request() },
            AdjustRequest { hour_unix_seconds: 7201, ..request() },
            AdjustRequest { tags: [("te,am".to_owned(), "red".to_owned())].into(), ..request() },
        ];
        for wrong in wrong {
            assert_eq!(parse(&wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn each_part_of_a_filter_leaves_out_what_it_does_not_name() {
        let adjustment = sample(1);
        let start = adjustment.taken[0].hour.start().seconds();
        let all = ListAdjustmentsRequest {
            product: "prod".to_owned(),
            customer: "acme".to_owned(),
            dimension: "requests".to_owned(),
            from_unix_seconds: start,
            to_unix_seconds: start + 1,
            ..ListAdjustmentsRequest::default()
        };
        assert!(matches(&all, &adjustment) && matches(&ListAdjustmentsRequest::default(), &adjustment));
        for other in [
            ListAdjustmentsRequest { product: "other".to_owned(), ..all.clone() },
            ListAdjustmentsRequest { customer: "other".to_owned(), ..all.clone() },
            ListAdjustmentsRequest { dimension: "other".to_owned(), ..all.clone() },
            ListAdjustmentsRequest { from_unix_seconds: start + 1, ..all.clone() },
            ListAdjustmentsRequest { to_unix_seconds: start, ..all },
        ] {
            assert!(!matches(&other, &adjustment), "{other:?}");
        }
    }
}
