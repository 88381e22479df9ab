//! Up to which hour everything is sealed. Billing moves it on, and counting reads it.

use crate::domain::{
    billing::schedule::open_hour,
    time::{Hour, Timestamp},
};

use super::customers::{CustomerIndex, CustomerTable};

/// The last hour that takes no more usage of anyone. A customer that was sealed on its own has one of its own beside it,
/// in the customer table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark(pub Hour);

impl Watermark {
    /// The hour that takes a customer's usage: an earlier one may be sealed, for everyone or for the customer alone.
    pub(crate) fn open_hour(
        self,
        customers: &CustomerTable,
        customer: Option<CustomerIndex>,
        hour: Hour,
        now: Timestamp,
    ) -> Hour {
        let own = customer.and_then(|index| customers.sealed_through(index));
        open_hour(hour, own.map_or(self.0, |own| own.max(self.0)), now)
    }
}
