//! One call, from its headers to its answer. Pure: time, body and seed come in, the answer goes out.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{
    exception::{Exception, Kind},
    faults::{Faults, Luck, RateLimit},
    ledger::{BilledRecord, Ledger},
    log::{CallLog, LoggedCall},
    market::Market,
    request::{Call, MAX_BYTES, UsageRecord},
    rules::{self, ChosenAnswer},
    tally::Tally,
    window,
    wire::WireCall,
};
use crate::domain::time::Timestamp;

/// The service's name in signatures.
const SIGNING_NAME: &str = "aws-marketplace";
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
    log: CallLog,
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
    pub(super) authorization: Option<&'a str>,
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
            log: CallLog::default(),
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
        let Moment { now: at, real } = moment;
        self.log.push(LoggedCall { at, real, result: answer.result(), is_lost: answer.is_lost });
        answer
    }

    /// Everything that can refuse the call comes before the first record is metered.
    fn answer(&mut self, request: Request<'_>, moment: Moment, luck: &mut Luck) -> Result<Value, Exception> {
        self.fail_on_purpose(moment, luck)?;
        check_target(request.target)?;
        let region = signed_region(request.authorization)?;
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
        rules::check(&self.faults.rules, &call.records, moment.now)?;
        Ok(self.meter(region, call, luck, moment.now))
    }

    fn fail_on_purpose(&mut self, moment: Moment, luck: &Luck) -> Result<(), Exception> {
        if self.faults.outage.is_some_and(|outage| outage.covers(moment.now)) {
            return Err(Kind::ServiceUnavailable.because("the sandbox has an outage"));
        }
        if let Some(kind) = self.faults.refuse {
            return Err(kind.because("the sandbox refuses every call"));
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

    fn meter(&mut self, region: &str, call: Call, luck: &mut Luck, now: Timestamp) -> Value {
        let Call { product, records } = call;
        let (mut results, mut unprocessed) = (Vec::new(), Vec::new());
        // Backwards, since AWS does not promise the request's order and nobody shall count on it.
        for record in records.into_iter().rev() {
            let choice = rules::choice(&self.faults.rules, &record, now).cloned();
            if luck.leaves_unprocessed() || choice == Some(ChosenAnswer::Unprocessed) {
                self.tally.count_record("Unprocessed");
                unprocessed.push(record.echo);
                continue;
            }
            let (status, id) = match choice {
                Some(ChosenAnswer::Status(status)) => (status, None),
                Some(ChosenAnswer::Unprocessed | ChosenAnswer::Refused(_)) | None => {
                    self.meter_record(region, &product, &record)
                }
            };
            self.tally.count_record(&status);
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
        region: &str,
        product: &Arc<str>,
        record: &UsageRecord,
    ) -> (String, Option<String>) {
        if self.start.market.as_ref().is_some_and(|market| !market.subscribes(product, record)) {
            return ("CustomerNotSubscribed".to_owned(), None);
        }
        match self.ledger.meter(region, product, record, || new_id(&mut self.ids)) {
            Some(id) => ("Success".to_owned(), Some(id.to_owned())),
            None => ("DuplicateRecord".to_owned(), None),
        }
    }

    pub(super) fn billed(&self) -> Vec<BilledRecord> {
        self.ledger.billed()
    }

    pub(super) fn log(&self) -> Vec<LoggedCall> {
        self.log.calls()
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

fn check_target(target: Option<&str>) -> Result<(), Exception> {
    match target {
        Some(TARGET) => Ok(()),
        Some(other) => Err(Kind::UnknownOperation.because(format!("the sandbox does not offer `{other}`"))),
        None => Err(Kind::UnknownOperation.because("the header X-Amz-Target is missing")),
    }
}

/// The region for which the request is signed. The signature itself is not checked, since any credentials will do.
fn signed_region(authorization: Option<&str>) -> Result<&str, Exception> {
    let authorization =
        authorization.ok_or_else(|| Kind::MissingAuthenticationToken.because("the request is not signed"))?;
    let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    let scope = credential.split(',').next().unwrap_or_default().trim();
    match scope.split('/').collect::<Vec<_>>().as_slice() {
        [_, _, region, SIGNING_NAME, "aws4_request"] => Ok(region),
        [_, _, _, _, "aws4_request"] => Err(Kind::InvalidSignature
            .because(format!("Credential should be scoped to correct service: '{SIGNING_NAME}'."))),
        _ => Err(Kind::IncompleteSignature.because(
            "the Authorization header needs a Credential like KEY/20261122/us-east-1/aws-marketplace/aws4_request",
        )),
    }
}

/// A random id in the form of a UUID.
fn new_id(randomness: &mut Rng) -> String {
    let hex = format!("{:032x}", randomness.u128(..));
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
