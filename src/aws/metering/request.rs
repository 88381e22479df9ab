//! The body of a `BatchMeterUsage` request, in AWS JSON 1.1.
//!
//! tallyman writes it rather than the SDK: version 1.124 of the crate knows no `QuantityAsDecimal` and always sends
//! an empty `CustomerIdentifier`.

use serde_json::{Map, Value, json};

use super::RecordBatch;
use crate::domain::{
    billing::record::{Allocation, Record},
    customer::identity::Identity,
    usage::quantity::Quantity,
};

pub(super) fn body(records: &RecordBatch) -> String {
    let mut request = Map::new();
    // ProductCode and LicenseArn for one customer-hour would bill it twice (AWS: Concurrent Agreements).
    if let Some(first) = records.first().filter(|record| !matches!(record.identity, Identity::License { .. }))
    {
        request.insert("ProductCode".to_owned(), json!(*first.product));
    }
    let lines = records.iter().map(|record| line(record)).collect();
    request.insert("UsageRecords".to_owned(), Value::Array(lines));
    Value::Object(request).to_string()
}

fn line(record: &Record) -> Value {
    let mut line = Map::new();
    line.insert("Timestamp".to_owned(), json!(record.timestamp.seconds()));
    line.insert("Dimension".to_owned(), json!(*record.dimension));
    let fields = record.identity.fields();
    let identity = [
        ("CustomerAWSAccountId", fields.account_id),
        ("LicenseArn", fields.license_arn),
        ("CustomerIdentifier", fields.customer_identifier),
    ];
    for (name, value) in identity {
        if !value.is_empty() {
            line.insert(name.to_owned(), json!(value));
        }
    }
    let (name, quantity) = quantity("Quantity", record.quantity, record);
    line.insert(name, quantity);
    if !record.allocations.is_empty() {
        let parts = record.allocations.iter().map(|part| allocation(part, record)).collect();
        line.insert("UsageAllocations".to_owned(), Value::Array(parts));
    }
    Value::Object(line)
}

/// The name and value of a quantity, in the form that the whole record is told in: AWS takes no mixture.
fn quantity(name: &str, quantity: Quantity, record: &Record) -> (String, Value) {
    match quantity.whole().filter(|_| !record.decimal) {
        Some(whole) => (name.to_owned(), json!(whole)),
        None => (format!("{name}AsDecimal"), json!(quantity.to_string())),
    }
}

fn allocation(part: &Allocation, record: &Record) -> Value {
    let (name, quantity) = quantity("AllocatedUsageQuantity", part.quantity, record);
    let mut line = Map::new();
    line.insert(name, quantity);
    // One allocation may have no tags: it leaves the field out.
    if let Some(tags) = &part.tags {
        let tags = tags.tags().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        line.insert("Tags".to_owned(), Value::Array(tags));
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::billing::record::tests::sample;

    fn with_identity(identity: Identity) -> Arc<Record> {
        Arc::new(Record { identity, ..sample(1) })
    }

    fn license() -> Identity {
        Identity::License {
            account_id: "123456789012".into(),
            license_arn: "arn:aws:license-manager::123456789012:license:l-1".into(),
        }
    }

    #[test]
    fn a_license_goes_out_without_a_product_code() {
        let body = body(&vec![with_identity(license())]);
        let expected = json!({"UsageRecords": [{
            "Timestamp": 498_000 * 3600, "Dimension": "requests", "CustomerAWSAccountId": "123456789012",
            "LicenseArn": "arn:aws:license-manager::123456789012:license:l-1", "Quantity": 5,
        }]});
        assert_eq!(body.parse::<Value>().unwrap(), expected);
    }

    #[test]
    fn other_identities_go_out_with_a_product_code_and_only_their_own_field() {
        let account = body(&vec![with_identity(Identity::Account { account_id: "123456789012".into() })]);
        assert!(account.contains("\"ProductCode\":\"prod\"") && !account.contains("CustomerIdentifier"));
        let legacy =
            body(&vec![with_identity(Identity::CustomerIdentifier { customer_identifier: "abc".into() })]);
        assert!(
            legacy.contains("\"CustomerIdentifier\":\"abc\"") && !legacy.contains("CustomerAWSAccountId")
        );
    }

    #[test]
    fn decimals_go_out_as_text_and_never_beside_the_integer() {
        let record = Record { quantity: "1.5".parse().unwrap(), decimal: true, ..sample(1) };
        let text = body(&vec![Arc::new(record)]);
        assert!(text.contains("\"QuantityAsDecimal\":\"1.5\"") && !text.contains("\"Quantity\":"), "{text}");
    }
}
