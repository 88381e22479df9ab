//! A batch as AWS JSON 1.1, and AWS's results matched to its records.
//!
//! The body is ours rather than the SDK's: version 1.124 of the crate knows no `QuantityAsDecimal` and always sends
//! an empty `CustomerIdentifier`.

use std::collections::{HashMap, hash_map::Entry};

use serde_json::{Map, Value, json};

use super::Records;
use crate::domain::{
    answer::{Answers, Line},
    identity::Identity,
    quantity::Quantity,
    record::{Allocation, Record, Slot},
    time::{Hour, Timestamp},
};

/// The request's body.
pub(super) fn body(records: &Records) -> String {
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

/// A quantity of the kind that the whole record is told in: AWS takes no mixture.
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

/// One line of AWS's answer: its echo of a record, and what it says of it.
#[derive(Clone, Debug)]
pub(super) struct Echo<'a> {
    pub(super) account_id: &'a str,
    pub(super) license_arn: &'a str,
    pub(super) customer_identifier: &'a str,
    pub(super) dimension: &'a str,
    pub(super) timestamp: Timestamp,
}

impl Echo<'_> {
    /// Whether this may be the echo of `record`. An identity field that AWS leaves out does not speak against it.
    fn matches(&self, record: &Record) -> bool {
        let fields = record.identity.fields();
        let agrees = |echoed: &str, sent: &str| echoed.is_empty() || sent.is_empty() || echoed == sent;
        self.dimension == &*record.dimension
            && Hour::containing(self.timestamp) == record.hour
            && agrees(self.account_id, fields.account_id)
            && agrees(self.license_arn, fields.license_arn)
            && agrees(self.customer_identifier, fields.customer_identifier)
    }
}

/// Gives each line to the one record that it can mean. A line that could mean several, or none, is nobody's, and lines
/// that contradict each other say nothing: the records without an answer are tried again.
pub(super) fn match_lines<'a>(records: &Records, lines: impl Iterator<Item = (Echo<'a>, Line)>) -> Answers {
    let mut said: HashMap<Slot, Option<Line>> = HashMap::new();
    for (echo, line) in lines {
        let mut candidates = records.iter().filter(|record| echo.matches(record));
        let (Some(only), None) = (candidates.next(), candidates.next()) else { continue };
        match said.entry(only.slot()) {
            Entry::Vacant(first) => drop(first.insert(Some(line))),
            Entry::Occupied(mut known) if *known.get() != Some(line) => drop(known.insert(None)),
            Entry::Occupied(_) => {}
        }
    }
    said.into_iter().filter_map(|(slot, line)| Some((slot, line?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::tests::sample;
    use std::sync::Arc;

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

    #[test]
    fn a_line_is_given_only_to_the_one_record_that_it_means() {
        let second = Record { hour: Hour::from_index(498_001), ..sample(2) };
        let records = vec![Arc::new(sample(1)), Arc::new(second)];
        let echo = |account_id, hour: u32| Echo {
            account_id,
            license_arn: "",
            customer_identifier: "",
            dimension: "requests",
            timestamp: Hour::from_index(hour).start(),
        };
        let answers = |echo| match_lines(&records, std::iter::once((echo, Line::Duplicate)));
        let expected: Answers = std::iter::once((records[1].slot(), Line::Duplicate)).collect();
        assert_eq!(answers(echo("123456789012", 498_001)), expected);
        assert_eq!(answers(echo("", 498_001)), expected);
        assert_eq!(answers(echo("999999999999", 498_001)), Answers::default());
    }

    #[test]
    fn lines_that_contradict_each_other_say_nothing() {
        let records = vec![Arc::new(sample(1))];
        let echo = || Echo {
            account_id: "123456789012",
            license_arn: "",
            customer_identifier: "",
            dimension: "requests",
            timestamp: records[0].timestamp,
        };
        let success = || Line::Success { receipt: "r-1".into() };
        let answers = |lines: Vec<Line>| match_lines(&records, lines.into_iter().map(|line| (echo(), line)));
        let expected: Answers = std::iter::once((records[0].slot(), success())).collect();
        assert_eq!(answers(vec![success(), success()]), expected);
        for other in [Line::Unprocessed, Line::Duplicate, Line::Success { receipt: "r-2".into() }] {
            assert_eq!(answers(vec![success(), other.clone()]), Answers::default());
            assert_eq!(answers(vec![other.clone(), success(), other]), Answers::default());
        }
    }
}
