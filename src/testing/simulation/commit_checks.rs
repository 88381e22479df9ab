//! What each commit has put on disk, held against the model and AWS's truth.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use super::{
    Series,
    aws_truth::Taken,
    ledger::{Entry, Ledger, Place, Row, amount},
    plan::{CUSTOMERS, account},
    world::World,
};
use crate::{
    domain::{
        billing::{
            adjustment::Adjustment,
            record::{Amounts, HoldReason, Outcome, Record, RecordId},
            schedule::{OpenFor, review_ends},
        },
        invariants,
        product::QuantityLimits,
        time::{Hour, Timestamp},
        usage::{bucket::Bucket, quantity::Quantity},
    },
    store::tables::sealing::SealingState,
};

/// Whether all that was acknowledged is there: at any time (I1), or right after it was acknowledged (I3).
type IsThere = fn(&invariants::Location, u128, u128) -> Option<invariants::Fault>;

/// After this time from the end of its hour no record of another standing goes before one that AWS is sure to accept.
const LATE: Duration = Duration::from_mins(70);
/// How early a clock that no one doubts may end a record.
const TOLERANCE: Duration = Duration::from_mins(3);

impl Ledger {
    /// Held records, why, and whether AWS has billed them all the same.
    pub(super) fn held(&self, world: &World) -> Vec<(RecordId, HoldReason, bool)> {
        let market = world.market();
        let held = self.entries.iter().filter_map(|(id, entry)| match &entry.place {
            Place::Settled(Outcome::Held { reason, .. }, _) => {
                Some((*id, *reason, market.has_billed(&entry.record)))
            }
            _ => None,
        });
        held.collect()
    }

    /// Takes in what a commit has put on disk.
    pub(super) fn take_in(&mut self, rows: Vec<Row>, world: &World) {
        let mut touched = BTreeSet::new();
        let (mut sealing, mut lines) = (None, BTreeSet::new());
        let mut adjusted = BTreeSet::new();
        self.usual_before.clear();
        for row in rows {
            match row {
                Row::Bucket(series, hour, bucket) => {
                    self.put_bucket(series, hour, &bucket, world);
                    touched.insert(series);
                }
                Row::BucketGone(series, hour) => {
                    self.open_usage.remove(&(series, hour));
                    let gone = self.open.remove(&(series, hour)).unwrap_or_default();
                    *self.placed.entry(series).or_default() -= gone;
                    touched.insert(series);
                }
                Row::Tried(id, delivery) => {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.may_be_unanswered = delivery.outcome_unknown;
                        (entry.touched, entry.next_attempt) = (world.truth.now(), delivery.next_attempt);
                        check_against_truth(entry, world);
                    }
                }
                Row::Pending(record) => {
                    touched.insert(self.put_record(record, Place::Pending, 0, world));
                }
                Row::Settled(settled) => {
                    let place = Place::of(&settled);
                    touched.insert(self.put_record(settled.record, place, settled.attempts, world));
                }
                Row::Sealing(product, state) => {
                    // With a review the product goes along with the others until they first go on without it.
                    self.is_on_its_own |= product.is_some();
                    if product.is_some() == self.is_on_its_own {
                        sealing = Some(state);
                    }
                }
                Row::Usual(series, usual) => {
                    let before = self.usual.insert(series, usual);
                    self.usual_before.insert(series, before.unwrap_or_default());
                }
                Row::Adjusted(series, adjustment) => {
                    self.note_adjusted(series, &adjustment);
                    adjusted.insert(adjustment.number);
                    touched.insert(series);
                }
                Row::AdjustmentLine(number) => drop(lines.insert(number)),
                Row::CustomerGone(customer) => self.forget(customer, world),
            }
        }
        if let Some(number) = adjusted.difference(&lines).next() {
            world.trace.fault(format!("I2: adjustment {number} has no line in the journal"));
        }
        for series in touched {
            self.check_sum(series, invariants::conserved, world);
        }
        if let Some(state) = sealing {
            self.move_watermark(&state, world);
        }
    }

    /// A customer is forgotten: AWS has never accepted it, and nothing of it is left.
    fn forget(&mut self, customer: usize, world: &World) {
        world.trace.tell("a customer is forgotten", CUSTOMERS[customer].0);
        let is_held = |place: &Place| matches!(place, Place::Settled(Outcome::Held { .. }, _));
        let mut entries = self.entries.values().filter(|entry| entry.series.customer == customer);
        let waits = entries.any(|entry| entry.place == Place::Pending || is_held(&entry.place));
        let is_open = self.open.keys().any(|(series, _)| series.customer == customer);
        if self.verified.contains_key(&customer) || waits || is_open {
            world
                .trace
                .fault(format!("I5: {} is forgotten, and something of it waits", CUSTOMERS[customer].0));
        }
        self.refused.remove(&customer);
    }

    fn put_bucket(&mut self, series: Series, hour: Hour, bucket: &Bucket, world: &World) {
        // A level is not a sum of what is used: only what earlier hours have left counts.
        let adds_up = series.dimension(world.catalog()).aggregate.adds_up();
        let amount = if adds_up { bucket.total() } else { bucket.carried.total() };
        self.open_usage.insert((series, hour), bucket.usage.amount());
        let before = self.open.insert((series, hour), amount).unwrap_or_default();
        let placed = self.placed.entry(series).or_default();
        *placed = *placed + amount - before;
    }

    fn note_adjusted(&mut self, series: Series, adjustment: &Adjustment) {
        *self.adjusted.entry(series).or_default() += adjustment.total();
        for taken in &adjustment.taken {
            *self.lowered.entry((series, taken.hour)).or_default() += taken.lowered.usage;
        }
    }

    fn put_record(&mut self, record: Record, place: Place, attempts: u32, world: &World) -> Series {
        let id = record.id;
        let Some(entry) = self.entries.get_mut(&id) else {
            return self.seal(record, place, world);
        };
        // What a decision has changed was so before an hour that is sealed in the same commit.
        self.usual_before.remove(&entry.series);
        world.trace.faults(invariants::unchanged(&entry.record, &record));
        *self.placed.entry(entry.series).or_default() -= amount(&entry.record, &entry.place);
        entry.place = place;
        entry.touched = world.truth.now();
        *self.placed.entry(entry.series).or_default() += amount(&entry.record, &entry.place);
        note_place(entry, attempts, world);
        check_against_truth(entry, world);
        check_missed(entry, world);
        let series = entry.series;
        match &entry.place {
            Place::Settled(Outcome::Accepted { .. }, _) => {
                self.verified.entry(series.customer).or_insert_with(|| world.truth.now());
            }
            Place::Settled(Outcome::Held { reason: HoldReason::UnknownCustomer, .. }, _) => {
                self.refused.insert(series.customer);
            }
            Place::Pending | Place::Settled(..) => {}
        }
        series
    }

    /// A record that is late, of a customer that AWS is known to accept, and that could have gone out long ago.
    pub(super) fn late(&self, world: &World, long_ago: Timestamp) -> Option<&Record> {
        let is_odd = world.is_clock_wrong();
        let now = world.clock.now();
        let is_late = |entry: &&Entry| {
            let customer = entry.series.customer;
            entry.place == Place::Pending
                && self.is_verified(customer, long_ago)
                && !world.model().is_irregular(customer)
                && entry.record.hour.end().plus(LATE) <= now
                && now < world.rules.window.deadline(entry.record.hour)
                && entry.touched < long_ago
                && entry.next_attempt < long_ago
        };
        self.entries.values().filter(|_| !is_odd).find(is_late).map(|entry| &entry.record)
    }

    /// A record that was not there before.
    fn seal(&mut self, record: Record, place: Place, world: &World) -> Series {
        let series = Series::named(&record.customer, &record.dimension, world.catalog());
        if let Some(other) = self.slots.insert(record.slot(), record.id) {
            world.trace.fault(format!("I6: record {other} has the slot of {record:?}"));
        }
        world.trace.faults(invariants::record(&record));
        let was_closing =
            world.closings().contains_key(&series.customer) || world.has_replaced(series.customer);
        if !was_closing {
            world.trace.faults(invariants::after_its_hour(&record, world.truth.now()));
        }
        let adds_up = series.dimension(world.catalog()).aggregate.adds_up();
        if !adds_up {
            *self.levels.entry(series).or_default() += record.amounts.usage;
        }
        let lowered = self.lowered.get(&(series, record.hour)).copied().unwrap_or_default();
        check_hour(series, &record, lowered, world);
        self.check_suspicion(series, &record, &place, world);
        check_review(&record, was_closing, world);
        self.sealed.insert((series, record.hour));
        *self.placed.entry(series).or_default() += amount(&record, &place);
        if self.refused.contains(&series.customer) && record.amounts == Amounts::default() {
            world.trace.fault(format!("I8: a zero for a customer that AWS does not know: {record:?}"));
        }
        let entry = Entry {
            series,
            record,
            place,
            may_be_unanswered: false,
            was_closing,
            touched: world.truth.now(),
            next_attempt: Timestamp::MIN,
        };
        note_seal(&entry, world);
        if entry.place != Place::Pending {
            note_place(&entry, 0, world);
        }
        self.entries.insert(entry.record.id, entry);
        series
    }

    /// Everything that was acknowledged is somewhere, and nothing else (I1, I3, I4).
    fn check_sum(&self, series: Series, is_there: IsThere, world: &World) {
        let placed = self.placed.get(&series).copied().unwrap_or_default();
        let place = series.place(world.catalog());
        // An adjustment writes off what it takes.
        let adjusted = self.adjusted.get(&series).copied().unwrap_or_default();
        let placed = placed + adjusted;
        let (told_lowered, unanswered) = world.model().lowered(series);
        world.trace.faults(is_there(&place, told_lowered, adjusted));
        world.trace.faults(invariants::once(&place, told_lowered + unanswered, adjusted));
        if series.dimension(world.catalog()).aggregate.adds_up() {
            let (acknowledged, limbo) = world.model().sums(series);
            world.trace.faults(is_there(&place, acknowledged, placed));
            world.trace.faults(invariants::once(&place, acknowledged + limbo, placed));
            return;
        }
        let told = self.levels.get(&series).copied().unwrap_or_default();
        if placed != told {
            let name = series.name(world.catalog());
            world.trace.fault(format!("I1: {name} came to {told}, and {placed} is placed"));
        }
    }

    /// Whether an hour is held that is above its limit, or above what is usual by what is on disk, and no other.
    fn check_suspicion(&self, series: Series, record: &Record, place: &Place, world: &World) {
        let dimension = series.dimension(world.catalog());
        let is_held = match place {
            Place::Settled(Outcome::Held { reason: HoldReason::Suspicious, .. }, _) => true,
            Place::Pending => false,
            Place::Settled(..) => return,
        };
        let usual = self.usual_before.get(&series).or_else(|| self.usual.get(&series));
        let usual = usual.and_then(|usual| usual.highest(record.hour));
        let usage = record.amounts.usage;
        let QuantityLimits { hold_above, hold_above_usual, .. } = dimension.limits;
        let above_limit = hold_above.is_some_and(|limit| usage > u128::from(limit));
        let above_usual =
            hold_above_usual.zip(usual).is_some_and(|(times, usual)| usage > u128::from(times) * usual);
        let must_be = usage >= dimension.unit.step() && (above_limit || above_usual);
        if is_held != must_be {
            let name = series.name(world.catalog());
            world.trace.fault(format!(
                "suspicious: {name} {} with {usage} is held: {is_held}, and must be: {must_be} (usual {usual:?})",
                record.hour
            ));
        }
    }

    /// Everything at once; the applications have just been told something.
    pub(super) fn check_sums(&self, world: &World) {
        for customer in 0..CUSTOMERS.len() {
            for dimension in 0..world.catalog().products().next().unwrap().1.dimensions.len() {
                self.check_sum(Series { customer, dimension }, invariants::durable, world);
            }
        }
    }

    /// Checks that each reported level behind the watermark has a record.
    fn move_watermark(&mut self, state: &SealingState, world: &World) {
        let from = self.watermark;
        self.watermark = state.watermark;
        if state.unfinished.is_some() || from == Hour::FIRST {
            return;
        }
        world.trace.note(format!("sealed through {}", state.watermark));
        for customer in 0..CUSTOMERS.len() {
            for dimension in 0..world.catalog().products().next().unwrap().1.dimensions.len() {
                let (series, hour) = (Series { customer, dimension }, state.watermark);
                if series.dimension(world.catalog()).aggregate.adds_up()
                    || self.sealed.contains(&(series, hour))
                {
                    continue;
                }
                let must = world.model().hour(series, hour).unwrap_or_default();
                if must > 0 {
                    let name = series.name(world.catalog());
                    world.trace.fault(format!("model: {name} {hour} must come to {must} and has no record"));
                }
            }
        }
    }

    /// Checks that each account has a record of what was used in its time, and not the one that replaced it. An hour may
    /// leave all that is below a step to the next one, without a record; so only what has steps of one base unit is
    /// looked at.
    pub(super) fn check_accounts(&self, world: &World) {
        let mut used: BTreeMap<(Series, String), u128> = BTreeMap::new();
        for Entry { series, record, .. } in self.entries.values() {
            let account = record.identity.fields().account_id.to_owned();
            *used.entry((*series, account)).or_default() += record.amounts.usage;
        }
        for ((series, hour), open) in &self.open_usage {
            let number = world.model().account_in(series.customer, *hour);
            *used.entry((*series, account(series.customer, number))).or_default() += open;
        }
        for (series, number, must) in world.model().by_account() {
            let account = account(series.customer, number);
            let is = used.get(&(series, account.clone())).copied().unwrap_or_default();
            let dimension = series.dimension(world.catalog());
            // A person may have taken some of it away.
            let lowered = self.adjusted.get(&series).copied().unwrap_or_default();
            if dimension.aggregate.adds_up() && dimension.unit.step() == 1 && is + lowered < must {
                let name = series.name(world.catalog());
                world
                    .trace
                    .fault(format!("{name}: {must} were used under {account}, and {is} are billed to it"));
            }
        }
    }

    /// Checks by AWS's own record that acknowledged usage is billed there, or listed here.
    pub(super) fn check_by_truth(&self, world: &World) {
        let mut accounted: BTreeMap<Series, i128> = BTreeMap::new();
        for ((series, _), open) in &self.open {
            *accounted.entry(*series).or_default() += i128::try_from(*open).unwrap();
        }
        for (series, adjusted) in &self.adjusted {
            *accounted.entry(*series).or_default() += i128::try_from(*adjusted).unwrap();
        }
        let market = world.market();
        for entry in self.entries.values() {
            let unit = &entry.series.dimension(world.catalog()).unit;
            let billed = market.billed(&entry.record).micros();
            let step = u64::try_from(unit.step()).unwrap();
            let base = u128::from(billed / unit.quantity_of(1).micros() * step);
            let here = match &entry.place {
                _ if base > 0 => base,
                place => amount(&entry.record, place),
            };
            let rounded = if base > 0 { entry.record.amounts.rounded } else { 0 };
            *accounted.entry(entry.series).or_default() += i128::try_from(here).unwrap() - rounded;
        }
        drop(market);
        for (series, accounted) in accounted {
            if !series.dimension(world.catalog()).aggregate.adds_up() {
                continue;
            }
            let (acknowledged, limbo) = world.model().sums(series);
            let accounted = u128::try_from(accounted).unwrap();
            if !(acknowledged..=acknowledged + limbo).contains(&accounted) {
                let name = series.name(world.catalog());
                world.trace.fault(format!(
                    "by AWS's truth {accounted} of {name} are billed or in sight; {acknowledged} were acknowledged"
                ));
            }
        }
    }
}

/// No hour is sealed before its review is over, unless its customer closes.
fn check_review(record: &Record, was_closing: bool, world: &World) {
    let review = world.plan.review;
    if review.is_zero() || was_closing {
        return;
    }
    let open_for = OpenFor { grace: world.rules.grace, review };
    let ends = review_ends(record.hour, open_for, &world.rules.window);
    world.trace.saw("a seal after a review");
    if world.truth.now() < ends.minus(TOLERANCE) {
        world.trace.fault(format!("sealed before its review was over, at {ends}: {record:?}"));
    }
}

/// The model's word on an hour, less what persons have taken from it.
fn check_hour(series: Series, record: &Record, lowered: u128, world: &World) {
    let Some(must) = world.model().hour(series, record.hour) else { return };
    world.trace.saw("an hour that the model knows");
    let is = record.amounts.usage + lowered;
    if is != must {
        let (name, hour) = (series.name(world.catalog()), record.hour);
        world.trace.fault(format!("model: {name} {hour} must come to {must} and comes to {is}"));
    }
}

fn note_seal(entry: &Entry, world: &World) {
    let record = &entry.record;
    let name = entry.series.name(world.catalog());
    let (id, hour, quantity) = (record.id, record.hour, record.quantity);
    world.trace.note(format!("record {id}: {name} {hour} {quantity}, {:?}", entry.place));
    let trace = &world.trace;
    for (is_so, kind) in [
        (record.quantity.is_zero(), "a zero record"),
        (!record.allocations.is_empty(), "a record with tags"),
        (!record.amounts.carried_in.is_empty(), "a carry"),
        (record.amounts.rounded != 0, "a rounded remainder"),
        (record.quantity == Quantity::MAX, "an hour of AWS's largest quantity"),
        (matches!(entry.place, Place::Settled(_, 1..)), "a record that withholds something"),
        (entry.was_closing, "a seal of a closing customer"),
    ] {
        if is_so {
            trace.saw(kind);
        }
    }
}

fn note_place(entry: &Entry, attempts: u32, world: &World) {
    let kind = match &entry.place {
        Place::Pending => "resumed",
        Place::Settled(outcome, _) => match outcome {
            Outcome::Accepted { presumed: false, .. } => "accepted",
            Outcome::Accepted { presumed: true, .. } => "presumed",
            Outcome::Held { reason, .. } => match reason {
                HoldReason::NotSubscribed => "held: not subscribed",
                HoldReason::Conflict => "held: conflict",
                HoldReason::Refused => "held: refused",
                HoldReason::NotBillable => "held: not billable",
                HoldReason::NoIdentity => "held: no identity",
                HoldReason::Missed => "held: missed",
                HoldReason::OutcomeUnknown => "held: outcome unknown",
                HoldReason::BeforeSince => "held: before since",
                HoldReason::Replaced => "held: replaced",
                HoldReason::Suspicious => "held: suspicious",
                HoldReason::UnknownCustomer => "held: unknown customer",
            },
            Outcome::RolledForward { .. } => "rolled forward",
            Outcome::Expired => "expired",
            Outcome::Carried { .. } => "carried by a person",
            Outcome::WrittenOff => "written off by a person",
        },
    };
    world.trace.tell(kind, &format!("record {} after {attempts} attempts", entry.record.id));
}

/// Only a deadline that has passed ends a record that AWS might still take: a clock in doubt ends nothing.
fn check_missed(entry: &Entry, world: &World) {
    let is_given_up = matches!(
        entry.place,
        Place::Settled(Outcome::RolledForward { .. } | Outcome::Held { reason: HoldReason::Missed, .. }, _)
    );
    let deadline = world.rules.window.deadline(entry.record.hour);
    let is_early = world.truth.now() < deadline.minus(TOLERANCE);
    if !is_given_up || !is_early {
        return;
    }
    if world.model().is_irregular(entry.series.customer) {
        // A notice has brought the deadline forward, and a reopening has not brought it back.
        world.trace.saw("given up for a notice's deadline");
    } else {
        world.trace.fault(format!("given up before its deadline, which is {deadline}: {:?}", entry.record));
    }
}

/// Checks that the agent's belief about a record is true (I5), and that nothing is billed twice.
fn check_against_truth(entry: &Entry, world: &World) {
    let (market, record) = (world.market(), &entry.record);
    let (taken, has_billed) = (market.taken(record), market.has_billed(record));
    drop(market);
    let fault = |what: &str| world.trace.fault(format!("{what}: {:?} {record:?}, {taken:?}", entry.place));
    match &entry.place {
        Place::Pending if has_billed && !entry.may_be_unanswered => {
            fault("billed, and the disk knows of no attempt");
        }
        Place::Settled(outcome, _) => match outcome {
            Outcome::Accepted { presumed: true, .. } if taken == Taken::ByOther => {
                world.trace.saw("presumed, and another's: a known risk");
            }
            Outcome::Accepted { .. } if !has_billed => fault("accepted, and not billed"),
            Outcome::RolledForward { .. } | Outcome::Carried { .. } if has_billed => {
                fault("billed, and moved on all the same");
            }
            Outcome::Held { reason: HoldReason::Conflict, .. } if taken != Taken::ByOther => {
                fault("a conflict with no one else");
            }
            Outcome::Held { reason, .. } if has_billed && *reason != HoldReason::OutcomeUnknown => {
                fault("billed, and held as if it were not");
            }
            _ => {}
        },
        Place::Pending => {}
    }
}
