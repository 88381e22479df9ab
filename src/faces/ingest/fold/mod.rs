//! From a request to a small delta: each event validated, and added to those that count where it counts.

mod desk;
mod folded;
#[cfg(test)]
mod tests;

use std::{cell::Cell, collections::HashMap, hash::Hasher as _};

use foldhash::fast::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    index::{Index, MOST_KEPT},
    wire::{self, Malformed, RawNames},
};
use crate::{
    domain::{
        bucket::Usage,
        product::ProductIndex,
        time::{Hour, Timestamp},
        usage::{Event, Located, Measured, measure},
    },
    work::delta::{Apart, CustomerRef, Delta, Entry, Identified},
};

pub use desk::{Desk, Hasher};
pub(super) use folded::Folded;
use folded::Stranger;

/// Room for so many entries in a request, before more is made.
const EXPECTED_ENTRIES: usize = 1024;

/// Folds all events of a message, or none.
pub(super) fn fold(desk: Desk<'_>, message: &wire::Message<'_>) -> Result<Folded, Malformed> {
    let entries = Vec::with_capacity(message.events.min(EXPECTED_ENTRIES));
    let (index, hashers) = SPARE.take();
    let mut sheet = Sheet {
        desk,
        index: index.emptied(),
        hashers,
        others: HashMap::default(),
        folded: Folded {
            delta: Delta { entries, events: message.events, ..Delta::default() },
            entry_of: Vec::with_capacity(message.events),
            ..Folded::default()
        },
    };
    message.each_event(|index, event| sheet.take(index, event))?;
    sheet.hashers.clear();
    sheet.hashers.shrink_to(MOST_KEPT);
    SPARE.set((sheet.index.emptied(), sheet.hashers));
    Ok(sheet.folded)
}

/// A request being folded. Its names are looked up once each, however many events say them.
struct Sheet<'r, 'd> {
    desk: Desk<'d>,
    index: Index<'r, Meaning<'d>>,
    /// By series, once an id or a subject has asked for it: has taken in the names, and then makes a name a hash.
    hashers: Hashers,
    /// The entries that are no series' latest.
    others: HashMap<EntryKey, u32, RandomState>,
    folded: Folded,
}

thread_local! {
    /// Left by a request for the next one, which would pay more for fresh memory than for its folding.
    static SPARE: Cell<(Index<'static, Meaning<'static>>, Hashers)> = Cell::default();
}

type Hashers = Vec<Option<SipHasher13>>;
type Meaning<'d> = Result<Series<'d>, Box<Stranger>>;

/// A customer's use of a dimension.
struct Series<'d> {
    located: Located<'d>,
    customer: CustomerRef,
    /// The latest entry without tags or subject.
    plain: Option<(Hour, u32)>,
}

/// Events that agree in all this add up. Distinct subjects do not.
type EntryKey = (usize, Hour, Option<Box<Apart>>);

impl<'r> Sheet<'r, '_> {
    fn take(&mut self, index: u32, event: &wire::Event<'r>) -> Result<(), Malformed> {
        let place = self.index.place(event.names, |names| {
            let stranger = |refusal| Box::new((self.desk.catalog.find(names.product), refusal));
            self.desk.series(names).map_err(stranger)
        })?;
        match self.count(place, index, event) {
            Ok(entry) => self.folded.entry_of.push(entry),
            Err(refused) => {
                self.folded.refusals.insert(index, *refused);
                self.folded.entry_of.push(None);
            }
        }
        Ok(())
    }

    /// Adds the event to its entry, which is told if the event has no id.
    fn count(
        &mut self,
        place: usize,
        index: u32,
        event: &wire::Event<'r>,
    ) -> Result<Option<u32>, Box<Stranger>> {
        let series = self.index.get(place).as_mut().map_err(|stranger| stranger.clone())?;
        let (product, range) = (series.located.product, &self.desk.range);
        let refused = |refusal| Box::new((Some(product), refusal));
        let measured = measure(series.located.dimension, range, &read(event)).map_err(refused)?;
        let usage = measured.usage;
        let entry = match series.plain {
            Some((hour, entry)) if measured.is_plain() && hour == measured.hour => entry,
            _ => self.entry(place, measured, event),
        };
        if event.id.is_empty() {
            self.folded.delta.entries[entry as usize].add(usage).map_err(refused)?;
            return Ok(Some(entry));
        }
        let hash = self.hash(place, product, event.names, event.id);
        let identified = &mut self.folded.delta.identified;
        if identified.is_empty() {
            identified.reserve(self.folded.entry_of.capacity() - self.folded.entry_of.len());
        }
        identified.push(Identified { hash, usage, entry, index });
        Ok(None)
    }

    /// The entry for what is measured, made if there is none yet.
    fn entry(&mut self, place: usize, measured: Measured, event: &wire::Event<'r>) -> u32 {
        let Ok(series) = self.index.get(place) else { unreachable!("only what is known is measured") };
        let (product, is_plain) = (series.located.product, measured.is_plain());
        let subject = measured
            .is_by_subject()
            .then(|| self.hash(place, product, event.names, event.subject.as_bytes()));
        let (Sheet { index, others, folded, .. }, hour) = (self, measured.hour);
        let (Ok(series), entries) = (index.get(place), &mut folded.delta.entries) else {
            unreachable!("it was known a moment ago")
        };
        let key = (place, hour, Apart::of(measured.tags, subject));
        let known = if others.is_empty() {
            None
        } else if is_plain {
            others.remove(&key)
        } else {
            others.get(&key).copied()
        };
        let entry = known.unwrap_or_else(|| {
            entries.push(series.new_entry(hour, key.2.clone()));
            u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
        });
        if !is_plain {
            others.insert(key, entry);
        } else if let Some((hour, before)) = series.plain.replace((hour, entry)) {
            others.insert((place, hour, None), before);
        }
        entry
    }

    /// The same name (an event's id, a subject) in another product, customer or dimension is another one.
    fn hash(&mut self, place: usize, product: ProductIndex, names: RawNames<'r>, name: &[u8]) -> u128 {
        if self.hashers.len() <= place {
            self.hashers.resize(self.index.len(), None);
        }
        let mut hasher = *self.hashers[place].get_or_insert_with(|| {
            // The product may be left out, and is the same all the same.
            let code = self.desk.catalog.product(product).map_or("", |product| &*product.code);
            self.desk.hasher.of([code.as_bytes(), names.customer, names.dimension])
        });
        hasher.write(name);
        hasher.finish128().as_u128()
    }
}

impl Series<'_> {
    fn new_entry(&self, hour: Hour, apart: Option<Box<Apart>>) -> Entry {
        Entry {
            product: self.located.product,
            customer: self.customer.clone(),
            dimension: self.located.index,
            hour,
            apart,
            usage: Usage::none(self.located.dimension.aggregate),
            events: 0,
        }
    }
}

fn read<'a>(event: &'a wire::Event<'_>) -> Event<'a> {
    Event {
        quantity: event.quantity,
        time: (event.time_unix_nano > 0).then(|| Timestamp::from_unix_nanos(event.time_unix_nano)),
        event_id: event.id,
        subject: event.subject,
        tags: &event.tags,
    }
}
