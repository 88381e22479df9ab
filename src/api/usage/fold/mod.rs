//! Folds a request: each event is validated, and added to those that count where it counts.
//!
//! - `validation_context`: what the events of a request are held against.
//! - `folded_request`: the entries to count, and the rejected events with their reasons on the wire.

mod folded_request;
#[cfg(test)]
mod tests;
mod validation_context;

use std::{cell::Cell, collections::HashMap, hash::Hasher as _};

use foldhash::fast::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    message_digest::MessageDigest,
    name_cache::{MOST_KEPT, NameCache},
    wire::{self, Malformed, RawNames},
};
use crate::{
    domain::{
        product::ProductIndex,
        time::{Hour, Timestamp, UnixNanos},
        usage::{
            bucket::Usage,
            event::{Event, Measured, measure},
            locate::Located,
        },
    },
    engine::counting::request::{CountRequest, CustomerRef, Identified, Split, UsageEntry},
};

pub(super) use folded_request::FoldedRequest;
use folded_request::RejectedEvent;
pub use validation_context::{Hasher, ValidationContext};

/// Room for so many entries in a request, before more is made.
const EXPECTED_ENTRIES: usize = 1024;

/// Folds all events of a message, or none.
pub(super) fn fold(
    context: ValidationContext<'_>,
    message: &wire::Message<'_>,
) -> Result<FoldedRequest, Malformed> {
    let entries = Vec::with_capacity(message.events.min(EXPECTED_ENTRIES));
    let (names, hashers) = SPARE.take();
    let mut state = FoldState {
        context,
        names: names.emptied(),
        hashers,
        earlier: HashMap::default(),
        folded: FoldedRequest {
            count_request: CountRequest {
                entries,
                events: message.events,
                client: context.permission.map(|permission| permission.client.clone()),
                vacated: context.customers.vacated(),
                ..CountRequest::default()
            },
            entry_of: Vec::with_capacity(message.events),
            ..FoldedRequest::default()
        },
    };
    let mut digest = message.is_numbered().then(|| MessageDigest::new(context.hasher.digest_key()));
    message.each_event(|index, event| {
        if let Some(digest) = &mut digest {
            digest.add(event);
        }
        state.take(index, event)
    })?;
    state.folded.digest = digest.map_or(0, MessageDigest::finish);
    state.hashers.clear();
    state.hashers.shrink_to(MOST_KEPT);
    SPARE.set((state.names.emptied(), state.hashers));
    Ok(state.folded)
}

/// A request being folded. Its names are looked up once each, however many events say them.
struct FoldState<'r, 'd> {
    context: ValidationContext<'d>,
    names: NameCache<'r, Resolution<'d>>,
    /// By slot of the names, made once an id or a subject asks for it: it has taken in the names, and hashes a text among
    /// them.
    hashers: Hashers,
    /// Entries that are not the latest of their names.
    earlier: HashMap<EntryKey, u32, RandomState>,
    folded: FoldedRequest,
}

thread_local! {
    /// Memory that a request leaves for the next one, which would pay more for fresh memory than for its folding.
    static SPARE: Cell<(NameCache<'static, Resolution<'static>>, Hashers)> = Cell::default();
}

type Hashers = Vec<Option<SipHasher13>>;
type Resolution<'d> = Result<Resolved<'d>, Box<RejectedEvent>>;

/// The customer and the dimension that names stand for.
struct Resolved<'d> {
    located: Located<'d>,
    customer: CustomerRef,
    /// When the customer's present time begins.
    since: Timestamp,
    /// The latest entry without tags or subject.
    latest: Option<(Hour, u32)>,
}

/// Events that agree in all this add up. Distinct subjects do not.
type EntryKey = (usize, Hour, Option<Box<Split>>);

impl<'r> FoldState<'r, '_> {
    fn take(&mut self, index: u32, event: &wire::Event<'r>) -> Result<(), Malformed> {
        let slot = self.names.slot(event.names, |names| {
            let unresolved = |refusal| Box::new((self.context.catalog.find(names.product), refusal));
            self.context.resolved(names).map_err(unresolved)
        })?;
        match self.count(slot, index, event) {
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
        slot: usize,
        index: u32,
        event: &wire::Event<'r>,
    ) -> Result<Option<u32>, Box<RejectedEvent>> {
        let resolved = self.names.get(slot).as_mut().map_err(|unresolved| unresolved.clone())?;
        let (product, range) = (resolved.located.product, &self.context.range);
        let refused = |refusal| Box::new((Some(product), refusal));
        let measured = measure(resolved.located.dimension, range, &read(event)).map_err(refused)?;
        if measured.told < resolved.since {
            self.context.check_since(resolved, &measured).map_err(refused)?;
        }
        let Measured { usage, told, not_before, .. } = measured;
        let entry = match resolved.latest {
            Some((hour, entry)) if measured.is_plain() && hour == measured.hour => entry,
            _ => self.entry(slot, measured, event),
        };
        let earliest = &mut self.folded.count_request.entries[entry as usize].earliest;
        *earliest = told.min(*earliest);
        if event.id.is_empty() {
            self.folded.count_request.entries[entry as usize].add(usage).map_err(refused)?;
            return Ok(Some(entry));
        }
        let hash = self.hash(slot, product, event.names, event.id);
        let identified = &mut self.folded.count_request.identified;
        if identified.is_empty() {
            identified.reserve(self.folded.entry_of.capacity() - self.folded.entry_of.len());
        }
        identified.push(Identified { hash, usage, entry, index, not_before });
        Ok(None)
    }

    /// The entry for what is measured, made if there is none yet.
    fn entry(&mut self, slot: usize, measured: Measured, event: &wire::Event<'r>) -> u32 {
        let Ok(resolved) = self.names.get(slot) else { unreachable!("only what is known is measured") };
        let (product, is_plain) = (resolved.located.product, measured.is_plain());
        let subject =
            measured.is_by_subject().then(|| self.hash(slot, product, event.names, event.subject.as_bytes()));
        let hour = measured.hour;
        let FoldState { names, earlier, folded, .. } = self;
        let entries = &mut folded.count_request.entries;
        let Ok(resolved) = names.get(slot) else { unreachable!("it was known a moment ago") };
        let key = (slot, hour, Split::of(measured.tags, subject));
        let known = if earlier.is_empty() {
            None
        } else if is_plain {
            earlier.remove(&key)
        } else {
            earlier.get(&key).copied()
        };
        let entry = known.unwrap_or_else(|| {
            entries.push(resolved.new_entry(hour, key.2.clone()));
            u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
        });
        if !is_plain {
            earlier.insert(key, entry);
        } else if let Some((hour, before)) = resolved.latest.replace((hour, entry)) {
            earlier.insert((slot, hour, None), before);
        }
        entry
    }

    /// The same name (an event's id, a subject) in another product, customer or dimension is another one.
    fn hash(&mut self, slot: usize, product: ProductIndex, names: RawNames<'r>, name: &[u8]) -> u128 {
        if self.hashers.len() <= slot {
            self.hashers.resize(self.names.len(), None);
        }
        let mut hasher = *self.hashers[slot].get_or_insert_with(|| {
            // The product may be left out, and is the same all the same.
            let code = self.context.catalog.product(product).map_or("", |product| &*product.code);
            self.context.hasher.of([code.as_bytes(), names.customer, names.dimension])
        });
        hasher.write(name);
        hasher.finish128().as_u128()
    }
}

impl Resolved<'_> {
    fn new_entry(&self, hour: Hour, split: Option<Box<Split>>) -> UsageEntry {
        UsageEntry {
            product: self.located.product,
            customer: self.customer.clone(),
            dimension: self.located.index,
            hour,
            earliest: Timestamp::MAX,
            split,
            usage: Usage::none(self.located.dimension.aggregate),
            events: 0,
        }
    }
}

fn read<'a>(event: &'a wire::Event<'_>) -> Event<'a> {
    Event {
        quantity: event.quantity,
        time: (event.time_unix_nano > 0).then(|| UnixNanos::new(event.time_unix_nano)),
        id: event.id,
        subject: event.subject,
        tags: &event.tags,
    }
}
