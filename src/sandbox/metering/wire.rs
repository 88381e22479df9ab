//! The request as JSON has it: types are right, values may be anything.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::Value;

use crate::sandbox::exception::{Exception, Kind};

/// Unknown members are ignored, as AWS does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    usage_records: Option<Vec<Value>>,
    product_code: Option<String>,
}

#[derive(Debug)]
pub(super) struct WireCall {
    pub(super) product_code: Option<String>,
    pub(super) records: Option<Vec<WireRecord>>,
}

#[derive(Debug)]
pub(super) struct WireRecord {
    pub(super) fields: WireFields,
    /// The record as it was sent, for the answer to echo.
    pub(super) echo: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireFields {
    /// Seconds since the epoch.
    pub(super) timestamp: Option<f64>,
    pub(super) customer_identifier: Option<String>,
    #[serde(rename = "CustomerAWSAccountId")]
    pub(super) account_id: Option<String>,
    pub(super) license_arn: Option<String>,
    pub(super) dimension: Option<String>,
    pub(super) quantity: Option<i64>,
    pub(super) quantity_as_decimal: Option<String>,
    pub(super) usage_allocations: Option<Vec<WireAllocation>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireAllocation {
    #[serde(rename = "AllocatedUsageQuantity")]
    pub(super) quantity: Option<i64>,
    #[serde(rename = "AllocatedUsageQuantityAsDecimal")]
    pub(super) quantity_as_decimal: Option<String>,
    #[serde(rename = "Tags")]
    pub(super) tags: Option<Vec<WireTag>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireTag {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

impl WireCall {
    pub(super) fn read(body: &[u8]) -> Result<Self, Exception> {
        // All of the body must be text, also the members that are ignored.
        let body = std::str::from_utf8(body).map_err(|error| malformed(&error))?;
        let body: Body = serde_json::from_str(body).map_err(|error| malformed(&error))?;
        let read = |echo: Value| WireFields::deserialize(&echo).map(|fields| WireRecord { fields, echo });
        let records = body.usage_records.map(|records| records.into_iter().map(read).collect()).transpose();
        Ok(Self { product_code: body.product_code, records: records.map_err(|error| malformed(&error))? })
    }

    /// The Rust SDK up to 1.124 sends an empty `CustomerIdentifier` whether or not the caller set one.
    pub(super) fn has_empty_identifier(&self) -> bool {
        let is_empty = |record: &WireRecord| record.fields.customer_identifier.as_deref() == Some("");
        self.records.iter().flatten().any(is_empty)
    }
}

fn malformed(error: &dyn Display) -> Exception {
    Kind::Serialization.because(format!("the body is not JSON of the expected form: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_a_serialization_fault() {
        for body in [
            "",
            "[]",
            r#"{"UsageRecords": {}}"#,
            r#"{"UsageRecords": [7]}"#,
            r#"{"UsageRecords": [{"Quantity": "7"}]}"#,
            r#"{"UsageRecords": [{"Quantity": 7.5}]}"#,
            r#"{"UsageRecords": [{"QuantityAsDecimal": 7}]}"#,
            r#"{"UsageRecords": [{"Timestamp": "2026-11-22T10:00:00Z"}]}"#,
        ] {
            assert_eq!(WireCall::read(body.as_bytes()).unwrap_err().kind, Kind::Serialization, "{body}");
        }
    }

    #[test]
    fn a_body_is_text_also_where_it_is_ignored() {
        let call = WireCall::read(b"{\"UsageRecords\": [], \"New\": \"\xff\"}");
        assert_eq!(call.unwrap_err().kind, Kind::Serialization);
    }

    #[test]
    fn null_is_absent_and_unknown_members_are_ignored() {
        let call =
            WireCall::read(br#"{"UsageRecords": [{"Quantity": null, "New": 1}], "Newer": {}}"#).unwrap();
        assert_eq!(call.records.unwrap()[0].fields.quantity, None);
    }

    #[test]
    fn an_empty_customer_identifier_is_noticed() {
        let has_empty = |body: &[u8]| WireCall::read(body).unwrap().has_empty_identifier();
        assert!(has_empty(br#"{"UsageRecords": [{}, {"CustomerIdentifier": ""}]}"#));
        assert!(!has_empty(br#"{"UsageRecords": [{}, {"CustomerIdentifier": "x"}]}"#));
    }
}
