//! Quantities of records and allocations: a whole number or decimal text, never both.

use crate::{
    domain::usage::quantity::Quantity,
    sandbox::exception::{Exception, Kind, violation},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) quantity: Quantity,
    pub(super) form: Form,
}

/// The field in which a quantity was given. Allocations must use that of their record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Decimal,
}

impl Amount {
    /// What a record without a quantity reports.
    pub(super) const ZERO: Self = Self { quantity: Quantity::ZERO, form: Form::Whole };

    pub(super) fn parse(
        path: &str,
        whole: Option<i64>,
        decimal: Option<&str>,
    ) -> Result<Option<Self>, Exception> {
        match (whole, decimal) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let what = "a whole quantity and one as decimal exclude each other";
                Err(Kind::Validation.because(format!("{path}: {what}")))
            }
            (Some(whole), None) => {
                // The same grammar serves both: it admits no sign and nothing above AWS's largest quantity.
                let quantity = whole.to_string().parse().map_err(|_| {
                    violation(&format!("{path}.quantity"), &whole.to_string(), "be from 0 to 2147483647")
                })?;
                Ok(Some(Self { quantity, form: Form::Whole }))
            }
            (None, Some(text)) => {
                let must = "satisfy regular expression pattern: ^(0|[1-9][0-9]{0,9})(\\.[0-9]{1,6})?$ \
                            and be at most 2147483647";
                let quantity =
                    text.parse().map_err(|_| violation(&format!("{path}.quantityAsDecimal"), text, must))?;
                Ok(Some(Self { quantity, form: Form::Decimal }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_give_the_same_quantity_by_value() {
        let whole = Amount::parse("r", Some(17), None).unwrap().unwrap();
        let decimal = Amount::parse("r", None, Some("17.00")).unwrap().unwrap();
        assert_eq!(whole.quantity, decimal.quantity);
        assert_ne!(whole.form, decimal.form);
    }

    #[test]
    fn both_fields_at_once_are_refused_and_neither_is_none() {
        assert_eq!(Amount::parse("r", Some(1), Some("1")).unwrap_err().kind, Kind::Validation);
        assert_eq!(Amount::parse("r", None, None), Ok(None));
    }

    #[test]
    fn whole_quantities_go_from_0_to_2147483647() {
        assert!(Amount::parse("r", Some(0), None).is_ok());
        assert!(Amount::parse("r", Some(2_147_483_647), None).is_ok());
        for wrong in [-1, 2_147_483_648, i64::MIN, i64::MAX] {
            assert_eq!(Amount::parse("r", Some(wrong), None).unwrap_err().kind, Kind::Validation, "{wrong}");
        }
    }

    #[test]
    fn decimals_follow_the_grammar_of_aws() {
        for right in ["0", "0.000001", "2147483647", "1234567890.123456"] {
            assert!(Amount::parse("r", None, Some(right)).is_ok(), "{right}");
        }
        for wrong in ["", "-1", "01", "1.", ".5", "1.1234567", "12345678901", "1e3"] {
            assert_eq!(Amount::parse("r", None, Some(wrong)).unwrap_err().kind, Kind::Validation, "{wrong}");
        }
    }
}
