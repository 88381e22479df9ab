//! Answers that are chosen for some records: for a customer whose subscription begins or ends, a record that AWS
//! refuses, a status that AWS may add one day.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::period::Period;
use crate::{
    domain::{billing::record::Slot, time::Timestamp},
    sandbox::exception::{Exception, Kind},
};

const UNPROCESSED: &str = "Unprocessed";
const SUCCESS: &str = "Success";
/// The end of every exception's name: a misspelt exception is not taken for a status.
const EXCEPTION: &str = "Exception";

/// The answer to every record of a customer, dimension and time. A condition that is left out holds for all records.
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
    fn is_for(&self, slot: &Slot, now: Timestamp) -> bool {
        let fields = slot.identity.fields();
        let names = [fields.account_id, fields.license_arn, fields.customer_identifier];
        let is_customer = |customer: &String| names.contains(&customer.as_str());
        self.customer.as_ref().is_none_or(is_customer)
            && self.dimension.as_ref().is_none_or(|dimension| **dimension == *slot.dimension)
            && self.during.is_none_or(|during| during.covers(now))
    }
}

/// The answer that the first rule for a record chooses.
pub(in crate::sandbox) fn choice<'a>(
    rules: &'a [Rule],
    slot: &Slot,
    now: Timestamp,
) -> Option<&'a ChosenAnswer> {
    rules.iter().find(|rule| rule.is_for(slot, now)).map(|rule| &rule.answer)
}

/// One record with an exception is enough to refuse the call.
pub(in crate::sandbox) fn check<'a>(
    rules: &[Rule],
    slots: impl Iterator<Item = &'a Slot>,
    now: Timestamp,
) -> Result<(), Exception> {
    for slot in slots {
        if let Some(ChosenAnswer::Refused(kind)) = choice(rules, slot, now) {
            let dimension = &slot.dimension;
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
    use crate::{
        domain::{customer::identity::Identity, time::Hour},
        sandbox::tests::ARN,
    };

    const NOW: &str = "2026-11-22T10:00:00Z";

    fn account() -> Identity {
        Identity::Account { account_id: "123456789012".into() }
    }

    fn license() -> Identity {
        Identity::License { account_id: "123456789012".into(), license_arn: ARN.into() }
    }

    fn is_for(rule: &Value, identity: Identity) -> bool {
        let now = NOW.parse().unwrap();
        let slot = Slot { identity, dimension: "requests".into(), hour: Hour::containing(now) };
        let mut rule = rule.clone();
        rule["answer"] = json!("CustomerNotSubscribed");
        let rules: Vec<Rule> = serde_json::from_value(json!([rule])).unwrap();
        choice(&rules, &slot, now).is_some()
    }

    #[test]
    fn a_rule_is_for_all_that_it_does_not_rule_out() {
        assert!(is_for(&json!({}), account()));
        assert!(is_for(&json!({"customer": "123456789012", "dimension": "requests"}), account()));
        assert!(!is_for(&json!({"customer": "123456789012", "dimension": "other"}), account()));
        assert!(!is_for(&json!({"customer": "210987654321", "dimension": "requests"}), account()));
    }

    #[test]
    fn a_customer_is_known_by_each_of_its_names() {
        assert!(is_for(&json!({"customer": ARN}), license()));
        assert!(is_for(&json!({"customer": "123456789012"}), license()));
        let legacy = Identity::CustomerIdentifier { customer_identifier: "abc".into() };
        assert!(is_for(&json!({"customer": "abc"}), legacy));
    }

    #[test]
    fn a_rule_holds_in_its_time() {
        assert!(is_for(&json!({"during": format!("{NOW}/")}), account()));
        assert!(!is_for(&json!({"during": format!("/{NOW}")}), account()));
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
