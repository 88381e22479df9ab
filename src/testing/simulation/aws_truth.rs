//! AWS's own truth: which quantity it has for each slot, who is subscribed, and what it is like to call it now.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::{
    billing::{
        deadline::Window,
        record::{Record, RecordId, Slot},
    },
    time::Timestamp,
    usage::quantity::Quantity,
};

/// Whose quantity a slot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Free,
    By(RecordId),
    /// By another program of the seller's.
    ByOther,
}

/// What calls meet for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    #[default]
    Fine,
    Throttling,
    /// Breaks down before or after it has processed the call.
    Failing,
    Unreachable,
    SetupFault,
    /// Takes the call and never answers.
    Silent,
}

#[derive(Default)]
pub(super) struct Market {
    slots: HashMap<Slot, (Taken, Quantity)>,
    /// The first sight of each record.
    seen: HashMap<RecordId, Record>,
    weather: Weather,
    weather_until: Timestamp,
    /// By account: from when on, and until when, it is not subscribed.
    unsubscribed: BTreeMap<String, (Timestamp, Timestamp)>,
    /// AWS refuses whatever holds one of them.
    poison: BTreeSet<Slot>,
}

impl Market {
    pub(super) fn weather(&self, now: Timestamp) -> Weather {
        if now < self.weather_until { self.weather } else { Weather::Fine }
    }

    pub(super) fn set_weather(&mut self, weather: Weather, until: Timestamp) {
        (self.weather, self.weather_until) = (weather, until);
    }

    pub(super) fn calm(&mut self) {
        self.weather = Weather::Fine;
        for (_, until) in self.unsubscribed.values_mut().filter(|(_, until)| *until < Timestamp::MAX) {
            *until = Timestamp::MIN;
        }
    }

    pub(super) fn unsubscribe(&mut self, account: &str, from: Timestamp, until: Timestamp) {
        self.unsubscribed.insert(account.to_owned(), (from, until));
    }

    pub(super) fn subscribe(&mut self, account: &str) {
        self.unsubscribed.remove(account);
    }

    pub(super) fn is_subscribed(&self, account: &str, now: Timestamp) -> bool {
        self.unsubscribed.get(account).is_none_or(|(from, until)| now < *from || now >= *until)
    }

    pub(super) fn poison(&mut self, slot: Slot) {
        self.poison.insert(slot);
    }

    pub(super) fn is_poison(&self, record: &Record) -> bool {
        self.poison.contains(&record.slot())
    }

    /// Another program reports a quantity for a slot.
    pub(super) fn take_for_other(&mut self, slot: Slot) -> bool {
        let is_free = !self.slots.contains_key(&slot);
        self.slots.entry(slot).or_insert((Taken::ByOther, Quantity::MAX));
        is_free
    }

    /// A record that differs from its first sight, if it does.
    pub(super) fn note_sight(&mut self, record: &Record) -> Option<Record> {
        let first = self.seen.entry(record.id).or_insert_with(|| record.clone());
        (first != record).then(|| first.clone())
    }

    /// The first quantity for a slot stands for ever.
    pub(super) fn take(&mut self, record: &Record) -> (Taken, Quantity) {
        let slot = self.slots.entry(record.slot());
        *slot.or_insert((Taken::By(record.id), record.quantity))
    }

    pub(super) fn taken(&self, record: &Record) -> Taken {
        self.slots.get(&record.slot()).map_or(Taken::Free, |(taken, _)| *taken)
    }

    pub(super) fn has_billed(&self, record: &Record) -> bool {
        self.slots.get(&record.slot()) == Some(&(Taken::By(record.id), record.quantity))
    }

    /// The quantity in a record's slot, if it came with that record.
    pub(super) fn billed(&self, record: &Record) -> Quantity {
        match self.slots.get(&record.slot()) {
            Some((Taken::By(id), quantity)) if *id == record.id => *quantity,
            _ => Quantity::ZERO,
        }
    }

    /// Neither too old nor ahead of time.
    pub(super) fn takes_hour_of(record: &Record, now: Timestamp) -> bool {
        record.hour.start() <= now && now < Window::AWS.deadline(record.hour)
    }
}
