//! One call, from its headers to its answer. Pure: time, body and seed come in, the answer goes out.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{
    exception::{Exception, Kind},
    faults::{Faults, Luck, RateLimit},
    ledger::{BilledRecord, Ledger},
    market::Market,
    request::{Call, MAX_BYTES, UsageRecord},
    tally::Tally,
    window,
    wire::WireCall,
};
use crate::domain::time::Timestamp;

pub(super) const TARGET: &str = "AWSMPMeteringService.BatchMeterUsage";

/// The state of a sandbox.
#[derive(Debug)]
pub(super) struct Marketplace {
    start: Start,
    faults: Faults,
    randomness: Rng,
    /// Apart from the randomness of faults, so that what is metered does not change what goes wrong later.
    ids: Rng,
    rate_limit: RateLimit,
    ledger: Ledger,
    tally: Tally,
}

/// What a sandbox begins with, and goes back to when it is reset.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Without one, every product, dimension, license and customer is known.
    pub(super) market: Option<Market>,
    pub(super) faults: Faults,
    pub(super) seed: u64,
}

/// What matters of an HTTP request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) target: Option<&'a str>,
    pub(super) is_signed: bool,
    pub(super) body: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the sandbox's clock, which decides what is in the window.
    pub(super) now: Timestamp,
    /// Real time since the sandbox's start, which decides how many calls a second are taken.
    pub(super) real: Duration,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) request_id: String,
    pub(super) outcome: Result<Value, Exception>,
    pub(super) latency: Duration,
    /// Seconds by which it is dated ahead.
    pub(super) clock_offset: i64,
    /// The connection is to be closed instead.
    pub(super) is_lost: bool,
}

impl Marketplace {
    pub(super) fn new(start: Start) -> Self {
        let mut randomness = Rng::with_seed(start.seed);
        Self {
            faults: start.faults.clone(),
            ids: randomness.fork(),
            randomness,
            rate_limit: RateLimit::default(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            start,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.start.clone());
    }

    pub(super) fn call(&mut self, request: Request<'_>, moment: Moment) -> Answer {
        let mut luck = Luck::draw(&self.faults, &mut self.randomness);
        let request_id = new_id(&mut self.ids);
        let outcome = self.answer(request, moment, &mut luck);
        let Faults { latency, clock_offset, .. } = self.faults;
        let answer = Answer { request_id, outcome, latency, clock_offset, is_lost: luck.reply_lost };
        self.tally.count_call(answer.result(), answer.is_lost);
        answer
    }

    /// Everything that can refuse the call comes before the first record is metered.
    fn answer(&mut self, request: Request<'_>, moment: Moment, luck: &mut Luck) -> Result<Value, Exception> {
        self.fail_on_purpose(moment, luck)?;
        check_headers(request)?;
        if request.body.len() >= MAX_BYTES {
            let size = request.body.len();
            return Err(
                Kind::RequestTooLarge.because(format!("the request has {size} bytes: keep it under 1 MB"))
            );
        }
        let wire = WireCall::read(request.body)?;
        if wire.has_empty_identifier() {
            self.tally.count_empty_identifier();
        }
        let call = Call::parse(wire)?;
        window::check(&call.records, moment.now)?;
        if let Some(market) = &self.start.market {
            market.check(&call)?;
        }
        Ok(self.meter(call, luck))
    }

    fn fail_on_purpose(&mut self, moment: Moment, luck: &Luck) -> Result<(), Exception> {
        if self.faults.outage.is_some_and(|outage| outage.covers(moment.now)) {
            return Err(Kind::ServiceUnavailable.because("the sandbox has an outage"));
        }
        let limit = self.faults.calls_per_second;
        if luck.throttled || !limit.is_none_or(|limit| self.rate_limit.take(moment.real, limit)) {
            return Err(Kind::Throttling.because("Rate exceeded"));
        }
        if luck.failed {
            return Err(Kind::InternalServiceError.because("the sandbox failed on purpose"));
        }
        Ok(())
    }

    fn meter(&mut self, call: Call, luck: &mut Luck) -> Value {
        let Call { product, records } = call;
        let (mut results, mut unprocessed) = (Vec::new(), Vec::new());
        // Backwards, since AWS does not promise the request's order and nobody shall count on it.
        for record in records.into_iter().rev() {
            if luck.leaves_unprocessed() {
                self.tally.count_record("Unprocessed");
                unprocessed.push(record.echo);
                continue;
            }
            let (status, id) = self.meter_record(&product, &record);
            self.tally.count_record(status);
            let mut result = json!({"UsageRecord": record.echo, "Status": status});
            if let Some(id) = id {
                result["MeteringRecordId"] = id.into();
            }
            results.push(result);
        }
        json!({"Results": results, "UnprocessedRecords": unprocessed})
    }

    /// Returns the record's status and, if it is metered, its id.
    fn meter_record(&mut self, product: &Arc<str>, record: &UsageRecord) -> (&'static str, Option<String>) {
        if self.start.market.as_ref().is_some_and(|market| !market.subscribes(product, record)) {
            return ("CustomerNotSubscribed", None);
        }
        match self.ledger.meter(product, record, || new_id(&mut self.ids)) {
            Some(id) => ("Success", Some(id.to_owned())),
            None => ("DuplicateRecord", None),
        }
    }

    pub(super) fn billed(&self) -> Vec<BilledRecord> {
        self.ledger.billed()
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) const fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }
}

impl Answer {
    /// The exception's name, or `Answered`.
    pub(super) fn result(&self) -> &'static str {
        self.outcome.as_ref().map_or_else(|refusal| refusal.kind.name(), |_| "Answered")
    }
}

fn check_headers(request: Request<'_>) -> Result<(), Exception> {
    match request.target {
        Some(TARGET) => {}
        Some(other) => {
            return Err(Kind::UnknownOperation.because(format!("the sandbox does not offer `{other}`")));
        }
        None => return Err(Kind::UnknownOperation.because("the header X-Amz-Target is missing")),
    }
    if request.is_signed {
        Ok(())
    } else {
        Err(Kind::MissingAuthenticationToken.because("the request is not signed"))
    }
}

/// A random id in the form of a UUID.
fn new_id(randomness: &mut Rng) -> String {
    let hex = format!("{:032x}", randomness.u128(..));
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
