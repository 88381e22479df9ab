//! Events, and the sums that they should come to.

use std::collections::BTreeMap;

use tallyman::internals::Sandbox;
use tallyman_client::proto::{RecordRequest, RecordResponse, UsageEvent};
use tonic::Status;

use super::agent::Home;

pub(crate) const ACME: &str = "123456789012";
pub(crate) const GLOBEX: &str = "210987654321";

/// (customer, dimension)
pub(crate) type Series = (String, String);
pub(crate) type Sums = BTreeMap<Series, u128>;

pub(crate) fn event(customer: &str, dimension: &str, quantity: u64, event_id: &str) -> UsageEvent {
    UsageEvent {
        customer: customer.to_owned(),
        dimension: dimension.to_owned(),
        quantity,
        event_id: event_id.to_owned(),
        ..UsageEvent::default()
    }
}

pub(crate) async fn record(home: &Home, events: Vec<UsageEvent>) -> Result<RecordResponse, Status> {
    home.usage().await.record(RecordRequest { events }).await.map(tonic::Response::into_inner)
}

/// What the sandbox has billed, in millionths of a unit.
pub(crate) fn billed_micros(sandbox: &Sandbox) -> Sums {
    let mut sums = Sums::new();
    for record in sandbox.billed() {
        let customer = format!("{}{}", record.account_id, record.customer_identifier);
        *sums.entry((customer, record.dimension)).or_default() += u128::from(record.quantity.micros());
    }
    sums
}

/// What the sandbox has billed in whole units, for dimensions whose unit is 1; zeros are left out.
pub(crate) fn billed_units(sandbox: &Sandbox) -> Sums {
    let mut sums = billed_micros(sandbox);
    sums.retain(|_, micros| *micros > 0);
    for micros in sums.values_mut() {
        *micros /= 1_000_000;
    }
    sums
}
