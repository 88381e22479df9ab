//! Answers that are chosen for some records: a customer whose subscription begins or ends, a record that AWS cannot
//! stand, a status that AWS may add one day.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    exception::{Exception, Kind},
    period::Period,
    request::UsageRecord,
};
use crate::domain::time::Timestamp;

const UNPROCESSED: &str = "Unprocessed";
const SUCCESS: &str = "Success";
/// How the names of exceptions end, so that one that is misspelt is not taken for a status.
const EXCEPTION: &str = "Exception";

/// How records are answered that are of this customer, dimension and time; what is left out does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// An account id, a license ARN or a customer identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<String>,
    /// When the call comes in, by the sandbox's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<Period>,
    pub answer: ChosenAnswer,
}

/// An exception's name, for the whole call; `Unprocessed`; or else a status, known to AWS or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChosenAnswer {
    Refused(Kind),
    Unprocessed,
    Status(String),
}

impl Rule {
    fn is_for(&self, record: &UsageRecord, now: Timestamp) -> bool {
        let fields = record.slot.identity.fields();
        let names = [fields.account_id, fields.license_arn, fields.customer_identifier];
        let is_customer = |customer: &String| names.contains(&customer.as_str());
        self.customer.as_ref().is_none_or(is_customer)
            && self.dimension.as_ref().is_none_or(|dimension| **dimension == *record.slot.dimension)
            && self.during.is_none_or(|during| during.covers(now))
    }
}

/// The answer that the first rule for a record chooses.
pub(super) fn choice<'a>(
    rules: &'a [Rule],
    record: &UsageRecord,
    now: Timestamp,
) -> Option<&'a ChosenAnswer> {
    rules.iter().find(|rule| rule.is_for(record, now)).map(|rule| &rule.answer)
}

/// One record with an exception is enough to refuse the call.
pub(super) fn check(rules: &[Rule], records: &[UsageRecord], now: Timestamp) -> Result<(), Exception> {
    for record in records {
        if let Some(ChosenAnswer::Refused(kind)) = choice(rules, record, now) {
            let dimension = &record.slot.dimension;
            return Err(kind.because(format!("a rule of the sandbox refuses a record of `{dimension}`")));
        }
    }
    Ok(())
}

impl FromStr for ChosenAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("an answer is needed".to_owned()),
            SUCCESS => Err("no rule is needed for Success".to_owned()),
            UNPROCESSED => Ok(Self::Unprocessed),
            name if name.ends_with(EXCEPTION) => name.parse().map(Self::Refused),
            status => Ok(Self::Status(status.to_owned())),
        }
    }
}

impl TryFrom<String> for ChosenAnswer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ChosenAnswer> for String {
    fn from(answer: ChosenAnswer) -> Self {
        match answer {
            ChosenAnswer::Refused(kind) => kind.name().to_owned(),
            ChosenAnswer::Unprocessed => UNPROCESSED.to_owned(),
            ChosenAnswer::Status(status) => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::faces::sandbox::{
        request::Call,
        tests::{ARN, record},
        wire::WireCall,
    };

    const NOW: &str = "2026-11-22T10:00:00Z";

    fn is_for(rule: &Value, fields: Value) -> bool {
        let body = json!({"UsageRecords": [record(fields)], "ProductCode": "prod"}).to_string();
        let body = if body.contains("LicenseArn") { body.replace("prod", "") } else { body };
        let call = Call::parse(WireCall::read(body.as_bytes()).unwrap()).unwrap();
        let mut rule = rule.clone();
        rule["answer"] = json!("CustomerNotSubscribed");
        let rules: Vec<Rule> = serde_json::from_value(json!([rule])).unwrap();
        choice(&rules, &call.records[0], NOW.parse().unwrap()).is_some()
    }

    #[test]
    fn a_rule_is_for_all_that_it_does_not_rule_out() {
        assert!(is_for(&json!({}), json!({})));
        assert!(is_for(&json!({"customer": "123456789012", "dimension": "requests"}), json!({})));
        assert!(!is_for(&json!({"customer": "123456789012", "dimension": "other"}), json!({})));
        assert!(!is_for(&json!({"customer": "210987654321", "dimension": "requests"}), json!({})));
    }

    #[test]
    fn a_customer_is_known_by_each_of_its_names() {
        assert!(is_for(&json!({"customer": ARN}), json!({"LicenseArn": ARN})));
        assert!(is_for(&json!({"customer": "123456789012"}), json!({"LicenseArn": ARN})));
        let legacy = json!({"CustomerAWSAccountId": null, "CustomerIdentifier": "abc"});
        assert!(is_for(&json!({"customer": "abc"}), legacy));
    }

    #[test]
    fn a_rule_holds_in_its_time() {
        assert!(is_for(&json!({"during": format!("{NOW}/")}), json!({})));
        assert!(!is_for(&json!({"during": format!("/{NOW}")}), json!({})));
    }

    #[test]
    fn answers_are_read_and_written_alike_and_misspelt_ones_refused() {
        for text in ["Unprocessed", "InvalidLicenseException", "CustomerNotSubscribed", "NewStatus"] {
            assert_eq!(String::from(text.parse::<ChosenAnswer>().unwrap()), text);
        }
        for text in ["", "Success", "InvalidLicenceException"] {
            assert!(text.parse::<ChosenAnswer>().is_err(), "{text}");
        }
    }
}
