//! Whether AWS knows the customers of a call. It refuses the whole call for an identifier or a license that it does not
//! know; an account without a subscription is told of in the record's own line.

use crate::{
    domain::customer::identity::Identity,
    sandbox::{
        catalog::Catalog,
        exception::{Exception, Kind},
    },
};

use super::{
    catalog_check,
    request::{Call, UsageRecord},
};

/// The customers that the sandbox knows.
#[derive(Clone, Copy)]
pub(super) struct KnownCustomers<'a> {
    /// Without one, every customer subscribes.
    pub(super) catalog: Option<&'a Catalog>,
    /// Account ids, licenses and customer identifiers. Without a list, all of them exist.
    pub(super) listed: Option<&'a [String]>,
}

impl KnownCustomers<'_> {
    /// One customer that does not exist fails the whole call.
    pub(super) fn check(self, call: &Call) -> Result<(), Exception> {
        for record in &call.records {
            match &record.slot.identity {
                Identity::CustomerIdentifier { customer_identifier } if !self.has(&call.product, record) => {
                    let text = format!("the customer identifier `{customer_identifier}` does not exist");
                    return Err(Kind::InvalidCustomerIdentifier.because(text));
                }
                Identity::License { license_arn, .. } if !self.is_listed(record) => {
                    return Err(
                        Kind::InvalidLicense.because(format!("license `{license_arn}` does not exist"))
                    );
                }
                Identity::License { .. } | Identity::Account { .. } | Identity::CustomerIdentifier { .. } => {
                }
            }
        }
        Ok(())
    }

    /// Whether the record's customer exists, and subscribes to the product with this code.
    pub(super) fn has(self, product: &str, record: &UsageRecord) -> bool {
        let subscribes = |catalog| catalog_check::is_subscribed(catalog, product, record);
        self.is_listed(record) && self.catalog.is_none_or(subscribes)
    }

    fn is_listed(self, record: &UsageRecord) -> bool {
        let fields = record.slot.identity.fields();
        let names = [fields.account_id, fields.license_arn, fields.customer_identifier];
        self.listed.is_none_or(|listed| listed.iter().any(|name| names.contains(&name.as_str())))
    }
}
