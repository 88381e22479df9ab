//! One call, from its headers to its answer. Pure: time, body and seed come in, the answer goes out.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use super::{
    call_counts::CallCounts,
    call_log::{CallLog, LoggedCall},
    catalog::Catalog,
    context::Context,
    exception::{Exception, Kind},
    faults::{DrawnFaults, FaultInjector, Faults},
    ids::Ids,
    metering::BilledRecord,
    operations::{self, Services},
    signature,
};
use crate::domain::time::Timestamp;

/// The state of a sandbox.
#[derive(Debug)]
pub(super) struct Marketplace {
    settings: Settings,
    faults: FaultInjector,
    /// Apart from the randomness of faults, so that what is metered does not change what goes wrong later.
    ids: Ids,
    services: Services,
    counts: CallCounts,
    log: CallLog,
}

/// What a sandbox begins with, and goes back to when it is reset.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Without one, every product, dimension, license and customer is known.
    pub(super) catalog: Option<Catalog>,
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

/// The moment at which a call comes in.
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
    pub(super) fn new(settings: Settings) -> Self {
        let mut randomness = Rng::with_seed(settings.seed);
        Self {
            ids: Ids::new(randomness.fork()),
            faults: FaultInjector::new(settings.faults.clone(), randomness),
            services: Services::default(),
            counts: CallCounts::default(),
            log: CallLog::default(),
            settings,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    pub(super) fn call(&mut self, request: Request<'_>, moment: Moment) -> Answer {
        let Some(authorization) = request.authorization else { return self.refuse_unsigned() };
        let drawn = self.faults.draw();
        let is_lost = drawn.reply_lost;
        let request_id = self.ids.next();
        let outcome = self.answer(request, authorization, moment, drawn);
        let &Faults { latency, clock_offset, .. } = self.faults.faults();
        let answer = Answer { request_id, outcome, latency, clock_offset, is_lost };
        self.counts.count_call(answer.result(), answer.is_lost);
        let Moment { now: at, real } = moment;
        self.log.push(LoggedCall { at, real, result: answer.result(), is_lost: answer.is_lost });
        answer
    }

    /// At AWS's door, before any service: it counts as no call, and no fault but a slow answer is given to it.
    fn refuse_unsigned(&mut self) -> Answer {
        let &Faults { latency, clock_offset, .. } = self.faults.faults();
        let outcome = Err(Kind::MissingAuthenticationToken.because("the request is not signed"));
        Answer { request_id: self.ids.next(), outcome, latency, clock_offset, is_lost: false }
    }

    fn answer(
        &mut self,
        request: Request<'_>,
        authorization: &str,
        moment: Moment,
        drawn: DrawnFaults,
    ) -> Result<Value, Exception> {
        self.faults.check(&drawn, moment.now, moment.real)?;
        let operation = operations::find(request.target)?;
        let region = signature::region(authorization, operation.signing_name)?;
        let context = Context {
            region,
            now: moment.now,
            catalog: self.settings.catalog.as_ref(),
            faults: self.faults.faults(),
            drawn,
            ids: &mut self.ids,
            counts: &mut self.counts,
        };
        (operation.run)(&mut self.services, request.body, context)
    }

    pub(super) fn billed(&self) -> Vec<BilledRecord> {
        self.services.metering.billed()
    }

    pub(super) fn log(&self) -> Vec<LoggedCall> {
        self.log.calls()
    }

    pub(super) const fn counts(&self) -> &CallCounts {
        &self.counts
    }

    pub(super) const fn faults(&self) -> &Faults {
        self.faults.faults()
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults.set(faults);
    }
}

impl Answer {
    /// The exception's name, or `Answered`.
    pub(super) fn result(&self) -> &'static str {
        self.outcome.as_ref().map_or_else(|refusal| refusal.kind.name(), |_| "Answered")
    }
}
