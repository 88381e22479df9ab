//! What `BatchMeterUsage` asks of a request, whatever has been metered before and whoever subscribes.
//!
//! Ranges and patterns are those of the service's model (botocore 1.44.5). Where AWS's behaviour is not
//! documented, the stricter reading rules, so that a program that passes here is not surprised there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    allocations::{self, Allocations},
    amount::Amount,
    wire::{WireCall, WireFields, WireRecord},
};
use crate::{
    domain::{
        billing::record::Slot,
        customer::identity::Identity,
        time::{Hour, Timestamp},
        usage::quantity::Quantity,
    },
    sandbox::exception::{Exception, Kind, violation},
};

/// The model says "less than 1 MB", and not whether of 10^6 or 2^20 bytes: the smaller one is the stricter reading.
pub(super) const MAX_BYTES: usize = 1_000_000;
const MAX_RECORDS: usize = 25;
const MAX_LENGTH: usize = 255;

/// A request in which every value is in its range and every record has its fields.
#[derive(Debug)]
pub(super) struct Call {
    /// The product code; empty if the records name licenses instead.
    pub(super) product: Arc<str>,
    pub(super) records: Vec<UsageRecord>,
}

#[derive(Debug)]
pub(super) struct UsageRecord {
    pub(super) slot: Slot,
    pub(super) timestamp: Timestamp,
    pub(super) quantity: Quantity,
    pub(super) allocations: Allocations,
    /// The record as it was sent.
    pub(super) echo: Value,
}

impl Call {
    pub(super) fn parse(wire: WireCall) -> Result<Self, Exception> {
        let product = product_code(wire.product_code)?;
        let records = wire.records.ok_or_else(|| violation("usageRecords", "null", "not be null"))?;
        if records.len() > MAX_RECORDS {
            let must = format!("have length less than or equal to {MAX_RECORDS}");
            return Err(violation("usageRecords", &format!("{} records", records.len()), &must));
        }
        let records: Vec<_> = (1..)
            .zip(records)
            .map(|(number, record)| UsageRecord::parse(number, record))
            .collect::<Result<_, _>>()?;
        let call = Self { product, records };
        call.check_mode()?;
        call.check_slots()?;
        Ok(call)
    }

    /// A license says which product and agreement is meant; for all others a product code does. Both for one
    /// customer and hour would be billed twice, so AWS's documents forbid to mix them.
    fn check_mode(&self) -> Result<(), Exception> {
        let some_licensed = self.records.iter().any(UsageRecord::is_licensed);
        let all_licensed = self.records.iter().all(UsageRecord::is_licensed);
        let refuse = |why: &str| Err(Kind::Validation.because(why));
        if some_licensed && !all_licensed {
            return refuse("records with a LicenseArn and records without one must be sent apart");
        }
        if some_licensed && !self.product.is_empty() {
            return refuse("ProductCode and LicenseArn exclude each other: leave ProductCode out");
        }
        if !all_licensed && self.product.is_empty() {
            // Not InvalidProductCodeException, which speaks of a code that was passed and does not match.
            return refuse("records without a LicenseArn need a ProductCode");
        }
        Ok(())
    }

    /// What AWS makes of one slot twice in a request is not documented. Never do it.
    fn check_slots(&self) -> Result<(), Exception> {
        let mut slots = BTreeSet::new();
        match self.records.iter().find(|record| !slots.insert(&record.slot)) {
            None => Ok(()),
            Some(UsageRecord { slot, .. }) => Err(Kind::Validation.because(format!(
                "two records of the request are for the same customer, dimension `{}` and hour {}",
                slot.dimension, slot.hour
            ))),
        }
    }
}

impl UsageRecord {
    /// `number` counts from 1, as in AWS's messages.
    fn parse(number: usize, WireRecord { fields, echo }: WireRecord) -> Result<Self, Exception> {
        let path = format!("usageRecords.{number}.member");
        let timestamp = timestamp(&path, fields.timestamp)?;
        let identity = identity(&path, &fields)?;
        let dimension = dimension(&path, fields.dimension)?;
        let amount = Amount::parse(&path, fields.quantity, fields.quantity_as_decimal.as_deref())?;
        let amount = amount.unwrap_or(Amount::ZERO);
        let allocations = match fields.usage_allocations {
            None => Allocations::new(),
            Some(wire) => allocations::parse(&format!("{path}.usageAllocations"), wire, amount)?,
        };
        let slot = Slot { identity, dimension, hour: Hour::containing(timestamp) };
        Ok(Self { slot, timestamp, quantity: amount.quantity, allocations, echo })
    }

    pub(super) const fn is_licensed(&self) -> bool {
        matches!(self.slot.identity, Identity::License { .. })
    }
}

/// An empty code counts as absent: the model allows it, and no product has it.
fn product_code(code: Option<String>) -> Result<Arc<str>, Exception> {
    let code = code.unwrap_or_default();
    let path = "productCode";
    check_length(path, &code, 0)?;
    if !code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/=:_.@".contains(&byte)) {
        return Err(violation(path, &code, "satisfy regular expression pattern: ^[-a-zA-Z0-9/=:_.@]*$"));
    }
    Ok(code.into())
}

fn timestamp(path: &str, seconds: Option<f64>) -> Result<Timestamp, Exception> {
    const FAR_FUTURE: f64 = 1e12;
    // JSON's number has lost the last digits of the fraction: without this, 0.123 s would become 122 ms.
    const LOST_DIGITS: Duration = Duration::from_nanos(500);
    let seconds = seconds.ok_or_else(|| violation(&format!("{path}.timestamp"), "null", "not be null"))?;
    // What is clamped is out of AWS's window in any case.
    let since_epoch = Duration::try_from_secs_f64(seconds.clamp(0.0, FAR_FUTURE)).unwrap_or_default();
    Ok(Timestamp::default().plus(since_epoch.saturating_add(LOST_DIGITS)))
}

fn dimension(path: &str, dimension: Option<String>) -> Result<Arc<str>, Exception> {
    let path = format!("{path}.dimension");
    let dimension = dimension.ok_or_else(|| violation(&path, "null", "not be null"))?;
    check_length(&path, &dimension, 1)?;
    Ok(dimension.into())
}

/// Exactly one of `CustomerIdentifier` and `CustomerAWSAccountId`; `LicenseArn` beside the latter only.
///
/// An empty `CustomerIdentifier` counts as absent: the Rust SDK always sends it. That AWS sees it so is
/// likely, since the model allows it, but unproven.
fn identity(path: &str, fields: &WireFields) -> Result<Identity, Exception> {
    let identifier = fields.customer_identifier.as_deref().filter(|text| !text.is_empty());
    let account = fields.account_id.as_deref();
    let license = fields.license_arn.as_deref();
    let refuse = |what: &str| Err(Kind::Validation.because(format!("{path}: {what}")));
    match (identifier, account, license) {
        (Some(_), Some(_), _) => refuse("CustomerIdentifier and CustomerAWSAccountId exclude each other"),
        (None, None, _) => refuse("one of CustomerAWSAccountId and CustomerIdentifier is needed"),
        (Some(_), None, Some(_)) => refuse("LicenseArn needs CustomerAWSAccountId beside it"),
        (Some(identifier), None, None) => {
            check_length(&format!("{path}.customerIdentifier"), identifier, 1)?;
            Ok(Identity::CustomerIdentifier { customer_identifier: identifier.into() })
        }
        (None, Some(account), None) => Ok(Identity::Account { account_id: account_id(path, account)? }),
        (None, Some(account), Some(license)) => Ok(Identity::License {
            account_id: account_id(path, account)?,
            license_arn: license_arn(path, license)?,
        }),
    }
}

fn account_id(path: &str, id: &str) -> Result<Arc<str>, Exception> {
    let path = format!("{path}.customerAWSAccountId");
    check_length(&path, id, 1)?;
    if !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(violation(&path, id, "satisfy regular expression pattern: ^[0-9]+$"));
    }
    Ok(id.into())
}

fn license_arn(path: &str, arn: &str) -> Result<Arc<str>, Exception> {
    if is_license_arn(arn) {
        return Ok(arn.into());
    }
    let must = "be an ARN like arn:aws:license-manager::123456789012:license:l-0123456789abcdef";
    Err(violation(&format!("{path}.licenseArn"), arn, must))
}

/// The model's pattern: `arn:aws[a-zA-Z-]*:service:region:account:resource`; region and account may be empty.
fn is_license_arn(arn: &str) -> bool {
    let is_part = |part: &str, most: usize, others: &[u8]| {
        part.len() <= most && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let starts_well = |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric());
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &["arn", partition, service, region, account, resource] = parts.as_slice() else {
        return false;
    };
    let is_partition = partition
        .strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'));
    is_partition
        && starts_well(service)
        && [service, region, account].iter().all(|part| is_part(part, 63, b"_/.-"))
        && starts_well(resource)
        && is_part(resource, 1024, b":_/+=,@.-")
}

fn check_length(path: &str, text: &str, least: usize) -> Result<(), Exception> {
    match text.chars().count() {
        length if length < least => {
            Err(violation(path, text, &format!("have length greater than or equal to {least}")))
        }
        length if length > MAX_LENGTH => {
            Err(violation(path, text, &format!("have length less than or equal to {MAX_LENGTH}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::tests::{ARN, record};

    fn licensed(fields: &Value) -> Value {
        let mut record = record(json!({"LicenseArn": ARN}));
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        record
    }

    fn call(body: &Value) -> Result<Call, Exception> {
        Call::parse(WireCall::read(body.to_string().as_bytes())?)
    }

    fn parsed(record: &Value) -> Result<UsageRecord, Kind> {
        let body = json!({"ProductCode": "prod", "UsageRecords": [record]});
        call(&body).map(|mut call| call.records.remove(0)).map_err(|refusal| refusal.kind)
    }

    fn refused(body: &Value) -> Kind {
        call(body).unwrap_err().kind
    }

    #[test]
    fn usage_records_are_required_and_at_most_25() {
        let hours =
            |count: u32| (0..count).map(|n| record(json!({"Dimension": n.to_string()}))).collect::<Vec<_>>();
        assert_eq!(refused(&json!({"ProductCode": "prod"})), Kind::Validation);
        assert!(call(&json!({"UsageRecords": []})).is_ok());
        assert_eq!(
            call(&json!({"ProductCode": "prod", "UsageRecords": hours(25)})).unwrap().records.len(),
            25
        );
        assert_eq!(refused(&json!({"ProductCode": "prod", "UsageRecords": hours(26)})), Kind::Validation);
    }

    #[test]
    fn messages_name_the_record_and_the_field_as_aws_does() {
        let records = [record(json!({})), record(json!({"Dimension": ""}))];
        let body = json!({"ProductCode": "prod", "UsageRecords": records});
        assert_eq!(
            call(&body).unwrap_err().message,
            "1 validation error detected: Value '' at 'usageRecords.2.member.dimension' failed to satisfy \
             constraint: Member must have length greater than or equal to 1"
        );
    }

    #[test]
    fn a_license_takes_the_place_of_the_product_code() {
        let records =
            |product: &str, records: Value| json!({"ProductCode": product, "UsageRecords": records});
        assert!(call(&json!({"UsageRecords": [licensed(&json!({}))]})).is_ok());
        assert!(call(&records("", json!([licensed(&json!({}))]))).is_ok(), "an empty code is none");
        assert_eq!(refused(&records("prod", json!([licensed(&json!({}))]))), Kind::Validation);
        assert_eq!(refused(&json!({"UsageRecords": [record(json!({}))]})), Kind::Validation);
        assert_eq!(refused(&records("", json!([record(json!({}))]))), Kind::Validation);
    }

    #[test]
    fn records_with_and_without_a_license_do_not_mix() {
        let mixed = json!([licensed(&json!({})), record(json!({}))]);
        assert_eq!(refused(&json!({"UsageRecords": mixed})), Kind::Validation);
        assert_eq!(refused(&json!({"UsageRecords": mixed, "ProductCode": "prod"})), Kind::Validation);
    }

    #[test]
    fn product_codes_have_up_to_255_characters_of_their_pattern() {
        let with = |code: &str| call(&json!({"ProductCode": code, "UsageRecords": []}));
        assert!(with("aZ9-/=:_.@").is_ok() && with(&"p".repeat(255)).is_ok());
        assert!(with("a b").is_err() && with("é").is_err() && with(&"p".repeat(256)).is_err());
    }

    #[test]
    fn exactly_one_of_identifier_and_account_names_the_customer() {
        let identifier = |account: Value| {
            parsed(&record(json!({"CustomerIdentifier": "abc", "CustomerAWSAccountId": account})))
        };
        assert!(matches!(
            identifier(Value::Null).unwrap().slot.identity,
            Identity::CustomerIdentifier { .. }
        ));
        assert_eq!(identifier(json!("123456789012")).unwrap_err(), Kind::Validation);
        assert_eq!(parsed(&record(json!({"CustomerAWSAccountId": null}))).unwrap_err(), Kind::Validation);
        let legacy = json!({"CustomerAWSAccountId": null, "CustomerIdentifier": "abc"});
        assert_eq!(parsed(&licensed(&legacy)).unwrap_err(), Kind::Validation);
    }

    #[test]
    fn an_empty_customer_identifier_is_none() {
        let both = parsed(&record(json!({"CustomerIdentifier": ""}))).unwrap();
        assert_eq!(both.slot.identity, Identity::Account { account_id: "123456789012".into() });
        let alone = record(json!({"CustomerIdentifier": "", "CustomerAWSAccountId": null}));
        assert_eq!(parsed(&alone).unwrap_err(), Kind::Validation);
    }

    #[test]
    fn fields_keep_to_their_range_and_pattern() {
        for (field, wrong) in [
            ("Timestamp", Value::Null),
            ("Dimension", Value::Null),
            ("Dimension", json!("d".repeat(256))),
            ("CustomerAWSAccountId", json!("")),
            ("CustomerAWSAccountId", json!("12345678901x")),
            ("CustomerAWSAccountId", json!("1".repeat(256))),
            ("Quantity", json!(-1)),
            ("Quantity", json!(2_147_483_648_i64)),
            ("QuantityAsDecimal", json!("5")),
            ("UsageAllocations", json!([])),
        ] {
            assert_eq!(
                parsed(&record(json!({field: wrong}))).unwrap_err(),
                Kind::Validation,
                "{field}: {wrong}"
            );
        }
        assert!(parsed(&record(json!({"Dimension": "é ".repeat(127)}))).is_ok(), "any characters");
    }

    #[test]
    fn a_record_without_a_quantity_reports_zero() {
        assert_eq!(parsed(&record(json!({"Quantity": null}))).unwrap().quantity, Quantity::ZERO);
    }

    #[test]
    fn license_arns_follow_the_pattern_of_the_model() {
        for right in [ARN, "arn:aws-cn:license-manager::1:license:l-1", "arn:aws:x:eu-west-1:1:r"] {
            assert!(is_license_arn(right), "{right}");
        }
        for wrong in [
            "",
            "arn:aws",
            "aws:license-manager::1:license:l-1",
            "arn:gcp:x::1:r",
            "arn:aws:::1:r",
            "arn:aws:x::1:",
        ] {
            assert!(!is_license_arn(wrong), "{wrong}");
        }
        assert!(!is_license_arn(&format!("arn:aws:x::1:{}", "r".repeat(1025))));
    }

    #[test]
    fn the_same_slot_twice_is_refused() {
        let later = record(json!({"Timestamp": 1_793_620_800 + 1800}));
        let body = json!({"ProductCode": "prod", "UsageRecords": [record(json!({})), later]});
        assert_eq!(refused(&body), Kind::Validation);
    }

    #[test]
    fn timestamps_keep_their_milliseconds_and_their_hour() {
        let at = |seconds: f64| parsed(&record(json!({"Timestamp": seconds}))).unwrap();
        assert_eq!(at(1_793_620_799.123).timestamp, Timestamp::from_millis(1_793_620_799_123));
        assert_eq!(at(1_793_620_799.999_999).slot.hour.next(), at(1_793_620_800.0).slot.hour);
        assert_eq!(at(-1.0).timestamp, Timestamp::default());
        assert!(at(1e300).timestamp > Timestamp::from_seconds(900_000_000_000));
    }
}
