//! The metering service: `BatchMeterUsage`, and what was metered.

mod allocations;
mod amount;
mod catalog_check;
mod identity_check;
mod metered_usage;
mod request;
mod window;
mod wire;

use std::sync::Arc;

use serde_json::{Value, json};

use self::{
    identity_check::KnownCustomers,
    metered_usage::MeteredUsage,
    request::{Call, MAX_BYTES, UsageRecord},
    wire::WireCall,
};
use super::{
    context::Context,
    exception::{Exception, Kind},
    faults::{ChosenAnswer, rules},
};

pub use self::metered_usage::BilledRecord;

pub(super) const BATCH_METER_USAGE: &str = "AWSMPMeteringService.BatchMeterUsage";
/// The service's name in signatures.
pub(super) const SIGNING_NAME: &str = "aws-marketplace";

#[derive(Debug, Default)]
pub(super) struct Metering {
    metered: MeteredUsage,
}

impl Metering {
    pub(super) fn billed(&self) -> Vec<BilledRecord> {
        self.metered.billed()
    }

    /// Everything that can refuse the call comes before the first record is metered.
    pub(super) fn batch_meter_usage(
        &mut self,
        body: &[u8],
        mut context: Context<'_>,
    ) -> Result<Value, Exception> {
        if body.len() >= MAX_BYTES {
            let size = body.len();
            return Err(
                Kind::RequestTooLarge.because(format!("the request has {size} bytes: keep it under 1 MB"))
            );
        }
        let wire = WireCall::read(body)?;
        if wire.has_empty_identifier() {
            context.counts.count_empty_identifier();
        }
        let call = Call::parse(wire)?;
        window::check(&call.records, context.now)?;
        if let Some(catalog) = context.catalog {
            catalog_check::check(catalog, &call)?;
        }
        known_customers(&context).check(&call)?;
        let slots = call.records.iter().map(|record| &record.slot);
        rules::check(&context.faults.rules, slots, context.now)?;
        Ok(self.meter(call, &mut context))
    }

    fn meter(&mut self, call: Call, context: &mut Context<'_>) -> Value {
        let Call { product, records } = call;
        let (mut results, mut unprocessed) = (Vec::new(), Vec::new());
        // Backwards, since AWS does not promise the request's order and nobody shall count on it.
        for record in records.into_iter().rev() {
            let choice = rules::choice(&context.faults.rules, &record.slot, context.now).cloned();
            if context.drawn.leaves_unprocessed() || choice == Some(ChosenAnswer::Unprocessed) {
                context.counts.count_record("Unprocessed");
                unprocessed.push(record.echo);
                continue;
            }
            let (status, id) = match choice {
                Some(ChosenAnswer::Status(status)) => (status, None),
                Some(ChosenAnswer::Unprocessed | ChosenAnswer::Refused(_)) | None => {
                    self.meter_record(&product, &record, context)
                }
            };
            context.counts.count_record(&status);
            let mut result = json!({"UsageRecord": record.echo, "Status": status});
            if let Some(id) = id {
                result["MeteringRecordId"] = id.into();
            }
            results.push(result);
        }
        json!({"Results": results, "UnprocessedRecords": unprocessed})
    }

    /// Returns the record's status and, if it is metered, its id.
    fn meter_record(
        &mut self,
        product: &Arc<str>,
        record: &UsageRecord,
        context: &mut Context<'_>,
    ) -> (String, Option<String>) {
        if !known_customers(context).has(product, record) {
            return ("CustomerNotSubscribed".to_owned(), None);
        }
        match self.metered.meter(context.region, product, record, || context.ids.next()) {
            Some(id) => ("Success".to_owned(), Some(id.to_owned())),
            None => ("DuplicateRecord".to_owned(), None),
        }
    }
}

fn known_customers<'a>(context: &Context<'a>) -> KnownCustomers<'a> {
    KnownCustomers { catalog: context.catalog, listed: context.faults.known_customers.as_deref() }
}
