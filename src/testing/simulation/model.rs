//! The reference: what was acknowledged, and what it must come to.
//!
//! It is simple on purpose. It knows no store, no crash, no retry; only what applications were told. An event that was
//! sent and not acknowledged may count or not: until its resend is acknowledged it is in limbo, and sums have a range.
//! Where it is not certain in which hour an event counted (an hour ended meanwhile, or its answer was late), the hours
//! that come into question are left out of the comparison by hours; the sums have no such exceptions.

use std::collections::{BTreeMap, BTreeSet};

use super::Series;
use crate::domain::{
    product::{Aggregate, Catalog},
    time::{Hour, UnixNanos},
};

#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The same for every resend.
    pub(super) key: u64,
    pub(super) series: Series,
    pub(super) quantity: u64,
    pub(super) subject: u64,
    /// `None` for: when it comes.
    pub(super) time: Option<UnixNanos>,
}

/// One sending of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    /// The hour of its time.
    pub(super) hour: Hour,
    pub(super) time: UnixNanos,
    pub(super) moment: Moment,
}

/// What is known when an event is sent, or acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Hours up to this one are closed.
    pub(super) sealed_through: Hour,
    /// The latest hour that may take an event.
    pub(super) latest: Hour,
    /// The hour that takes one whose own is closed; `None` if the clocks do not agree about it.
    pub(super) takes_late: Option<Hour>,
    /// The hour that it truly is.
    pub(super) true_hour: Hour,
    /// The number of the customer's account, unless it is being replaced.
    pub(super) account: Option<u32>,
}

/// What was sent, and not acknowledged.
struct Limbo {
    amount: u128,
    first: Sending,
    /// Each sending said the same.
    is_sure: bool,
    /// The hour that took it, if it was sent once and its own hour was closed.
    late: Option<Hour>,
    latest: Hour,
}

/// An event that surely counted in an hour.
#[derive(Clone, Copy)]
struct Counted {
    time: UnixNanos,
    quantity: u64,
    subject: u64,
}

pub(super) struct Model {
    aggregates: Vec<Aggregate>,
    acknowledged: BTreeMap<Series, u128>,
    limbo: BTreeMap<Series, BTreeMap<u64, Limbo>>,
    hours: BTreeMap<(Series, Hour), Vec<Counted>>,
    uncertain: BTreeSet<(Series, Hour)>,
    /// Customers with a notice, or with another account: their hours are not as the others'.
    irregular: BTreeSet<usize>,
    /// The hour in which each further account of a customer has become the one that is billed.
    accounts: BTreeMap<(usize, u32), Hour>,
    /// What was acknowledged and is billed to an account for sure.
    by_account: BTreeMap<(Series, u32), u128>,
    /// The level that stands after an hour, for as far as it was asked; `None` if it is uncertain.
    standing: BTreeMap<Series, (Hour, Option<(UnixNanos, u64)>)>,
    first_hour: Option<Hour>,
    /// What a person was told is lowered, and what a person has asked for and was not told of, by its id.
    lowered: BTreeMap<Series, u128>,
    unanswered: BTreeMap<String, (Series, u128)>,
}

impl Model {
    pub(super) fn new(catalog: &Catalog) -> Self {
        let (_, product) = catalog.products().next().unwrap();
        Self {
            aggregates: product.dimensions.iter().map(|dimension| dimension.aggregate).collect(),
            acknowledged: BTreeMap::new(),
            limbo: BTreeMap::new(),
            hours: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            irregular: BTreeSet::new(),
            accounts: BTreeMap::new(),
            by_account: BTreeMap::new(),
            standing: BTreeMap::new(),
            first_hour: None,
            lowered: BTreeMap::new(),
            unanswered: BTreeMap::new(),
        }
    }

    pub(super) fn sent(&mut self, event: &Event, sending: Sending) {
        let amount = match self.aggregates[event.series.dimension] {
            Aggregate::Count => 1,
            _ => event.quantity.into(),
        };
        let Moment { sealed_through, latest, takes_late, .. } = sending.moment;
        let limbo = self.limbo.entry(event.series).or_default();
        let late =
            if limbo.contains_key(&event.key) || sending.hour > sealed_through { None } else { takes_late };
        let sent =
            limbo.entry(event.key).or_insert(Limbo { amount, first: sending, is_sure: true, late, latest });
        sent.late = late;
        sent.is_sure &= sent.first.hour == sending.hour && sent.first.time == sending.time;
        sent.first.hour = sent.first.hour.min(sending.hour);
        sent.latest = sent.latest.max(latest);
        self.first_hour = Some(self.first_hour.map_or(sending.hour, |first| first.min(sending.hour)));
    }

    /// A sending has come to nothing, as far as anyone knows; it may have counted until now.
    pub(super) fn unanswered(&mut self, event: &Event, latest: Hour) {
        if let Some(sent) = self.limbo.get_mut(&event.series).and_then(|limbo| limbo.get_mut(&event.key)) {
            sent.latest = sent.latest.max(latest);
            sent.late = None;
        }
    }

    /// The application was told that an event does not count, however often it was sent.
    pub(super) fn refused(&mut self, event: &Event) {
        if let Some(limbo) = self.limbo.get_mut(&event.series) {
            limbo.remove(&event.key);
        }
    }

    /// The application was told that an event counts.
    pub(super) fn acknowledged(&mut self, event: &Event, moment: Moment) {
        let Moment { sealed_through, latest, takes_late, .. } = moment;
        let series = event.series;
        let Some(sent) = self.limbo.get_mut(&series).and_then(|limbo| limbo.remove(&event.key)) else {
            return;
        };
        *self.acknowledged.entry(series).or_default() += sent.amount;
        self.note_by_account(series, &sent, moment);
        let hour = sent.first.hour;
        let counted = Counted { time: sent.first.time, quantity: event.quantity, subject: event.subject };
        if sent.is_sure && hour > sealed_through {
            self.hours.entry((series, hour)).or_default().push(counted);
        } else if let Some(late) = sent.late.filter(|late| takes_late == Some(*late)) {
            self.hours.entry((series, late)).or_default().push(counted);
        } else {
            let last = sent.latest.max(latest).next();
            self.uncertain.extend((hour.index()..=last.index()).map(|hour| (series, Hour::from_index(hour))));
        }
    }

    /// What comes from now on is billed to another account of the customer.
    pub(super) fn note_account(&mut self, customer: usize, account: u32, hour: Hour) {
        self.accounts.insert((customer, account), hour);
    }

    /// What was first sent and acknowledged under one account is billed to that, if its hour is not from before. What a
    /// clock that was ahead has put into an hour to come is the account's that has that hour.
    fn note_by_account(&mut self, series: Series, sent: &Limbo, moment: Moment) {
        let known = moment.account.filter(|account| sent.first.moment.account == Some(*account));
        let Some(account) = known else { return };
        let from = self.accounts.get(&(series.customer, account)).copied().unwrap_or(Hour::FIRST);
        let latest = sent.latest.max(moment.latest).max(sent.first.hour);
        if sent.first.hour >= from && latest <= moment.true_hour {
            *self.by_account.entry((series, account)).or_default() += sent.amount;
        }
    }

    /// The number of the account that an hour's usage will be billed to, if it is open.
    pub(super) fn account_in(&self, customer: usize, hour: Hour) -> u32 {
        let begun =
            self.accounts.range((customer, 0)..=(customer, u32::MAX)).filter(|(_, from)| **from <= hour);
        begun.map(|((_, number), _)| *number).max().unwrap_or_default()
    }

    /// What was acknowledged, and is billed to an account of the customer for sure.
    pub(super) fn by_account(&self) -> impl Iterator<Item = (Series, u32, u128)> {
        self.by_account.iter().map(|((series, account), amount)| (*series, *account, *amount))
    }

    /// A person asks for an adjustment, perhaps not for the first time.
    pub(super) fn adjustment_sent(&mut self, id: &str, series: Series, amount: u128) {
        self.unanswered.insert(id.to_owned(), (series, amount));
    }

    /// The person is told what came of it.
    pub(super) fn adjustment_answered(&mut self, id: &str, is_done: bool) {
        let Some((series, amount)) = self.unanswered.remove(id) else { return };
        if is_done {
            *self.lowered.entry(series).or_default() += amount;
        }
    }

    /// What is lowered for sure, and how much more may be.
    pub(super) fn lowered(&self, series: Series) -> (u128, u128) {
        let unanswered = self.unanswered.values().filter(|(of, _)| *of == series).map(|(_, amount)| amount);
        (self.lowered.get(&series).copied().unwrap_or_default(), unanswered.sum())
    }

    /// A customer's notice is given.
    pub(super) fn note_irregular(&mut self, customer: usize) {
        self.irregular.insert(customer);
    }

    pub(super) fn is_irregular(&self, customer: usize) -> bool {
        self.irregular.contains(&customer)
    }

    /// What was acknowledged, and how much more may have counted.
    pub(super) fn sums(&self, series: Series) -> (u128, u128) {
        let acknowledged = self.acknowledged.get(&series).copied().unwrap_or_default();
        let limbo = self.limbo.get(&series).into_iter().flatten().map(|(_, sent)| sent.amount).sum();
        (acknowledged, limbo)
    }

    pub(super) fn is_all_acknowledged(&self) -> bool {
        self.limbo.values().all(BTreeMap::is_empty)
    }

    /// What an hour that is sealed now has heard itself, where that is certain. Asked for hour by hour.
    pub(super) fn hour(&mut self, series: Series, hour: Hour) -> Option<u128> {
        let aggregate = self.aggregates[series.dimension];
        if let Aggregate::Latest { .. } = aggregate {
            return self.level(series, hour);
        }
        if !self.is_certain(series, hour) {
            return None;
        }
        let counted = self.hours.get(&(series, hour)).into_iter().flatten();
        Some(match aggregate {
            Aggregate::Count => counted.count() as u128,
            Aggregate::Max => counted.map(|event| event.quantity).max().unwrap_or_default().into(),
            Aggregate::Unique => counted.map(|event| event.subject).collect::<BTreeSet<_>>().len() as u128,
            Aggregate::Sum | Aggregate::Latest { .. } => {
                counted.map(|event| u128::from(event.quantity)).sum()
            }
        })
    }

    fn is_certain(&self, series: Series, hour: Hour) -> bool {
        !self.uncertain.contains(&(series, hour))
            && !self.irregular.contains(&series.customer)
            && self.limbo.get(&series).is_none_or(BTreeMap::is_empty)
    }

    /// A level stands until it is changed.
    fn level(&mut self, series: Series, hour: Hour) -> Option<u128> {
        let first = self.first_hour?.previous();
        let (mut through, mut standing) =
            self.standing.get(&series).copied().unwrap_or((first, Some((UnixNanos::MIN, 0))));
        while through < hour {
            through = through.next();
            let told = self.hours.get(&(series, through)).into_iter().flatten();
            // Of two at the same moment, the one that came later stands.
            let latest = told.max_by_key(|event| event.time).map(|event| (event.time, event.quantity));
            standing = match (latest, standing) {
                _ if !self.is_certain(series, through) => None,
                (Some(latest), Some(stood)) if stood.0 > latest.0 => Some(stood),
                (Some(latest), Some(_)) => Some(latest),
                // An unknown one may be later than an event of an earlier hour that came late.
                (Some(latest), None) => Some(latest).filter(|(time, _)| *time >= through.start().into()),
                (None, stood) => stood,
            };
        }
        self.standing.insert(series, (through, standing));
        (through == hour).then_some(standing?.1.into())
    }
}
