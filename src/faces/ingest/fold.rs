//! From a request to a small delta: each event validated, and added to those that count where it counts.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    hash::Hasher as _,
    sync::Arc,
};

use foldhash::fast::RandomState;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    index::{Index, MOST_KEPT},
    wire::{self, Malformed, RawNames},
};
use crate::{
    base::proto::{Rejection, rejection::Reason},
    domain::{
        bucket::Usage,
        identity::Identity,
        permission::Permission,
        product::{Catalog, ProductIndex},
        time::{Hour, Timestamp},
        usage::{Event, Located, Measured, Names, Refusal, TimeRange, locate, measure},
    },
    work::{
        delta::{Apart, CustomerRef, Delta, Entry, Identified, Mark, Newcomer, Recorded, Refused},
        roster::Inner as Roster,
    },
};

/// Every rejection has its reason; only so many of a request have a message, or a client might be unable to read the
/// answer, think the good events lost, and send them again.
const MAX_MESSAGES: usize = 100;

/// Room for so many entries in a request, before more is made.
const EXPECTED_ENTRIES: usize = 1024;

/// What a request is held against.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub catalog: &'a Catalog,
    pub roster: &'a Roster,
    pub range: TimeRange,
    pub hasher: Hasher,
    /// What the client may meter for; `None` for everything.
    pub permission: Option<&'a Permission>,
}

/// A request on its way: what it asks to count, and what is wrong with the rest.
#[derive(Debug, Default)]
pub(super) struct Folded {
    delta: Delta,
    /// By event: the entry that holds it, if it has no id and is not refused.
    entry_of: Vec<Option<u32>>,
    /// By event, with the product where that is known.
    refusals: BTreeMap<u32, Stranger>,
}

/// Hashes events' identities to 128 bits. Keyed, so that no one can make ids that collide.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    key: u128,
}

impl Hasher {
    pub const fn new(key: u128) -> Self {
        Self { key }
    }

    fn of(self, names: [&[u8]; 3]) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.key.to_be_bytes());
        for text in names {
            hasher.write_usize(text.len());
            hasher.write(text);
        }
        hasher
    }
}

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

/// Names that mean nothing here, and the product where that is known.
type Stranger = (Option<ProductIndex>, Refusal);

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

impl<'d> Desk<'d> {
    fn series(&self, names: Names<'_>) -> Result<Series<'d>, Refusal> {
        let located = locate(self.catalog, names)?;
        if let Some(permission) = self.permission {
            permission.check(located.product, names.customer)?;
        }
        let customer = self.customer(located.product, names.customer)?;
        Ok(Series { located, customer, plain: None })
    }

    /// Finds the customer, or says why an unknown one cannot be billed.
    fn customer(&self, index: ProductIndex, key: &str) -> Result<CustomerRef, Refusal> {
        if let Some(known) = self.roster.find(index, key) {
            return Ok(CustomerRef::Known(known));
        }
        let unknown = |why: String| Refusal::UnknownCustomer { customer: key.to_owned(), why };
        let product =
            self.catalog.product(index).ok_or_else(|| unknown("its product is not configured".to_owned()))?;
        if !product.open {
            return Err(unknown(
                "register it first (CustomerService.PutCustomer or [[product.customer]])".to_owned(),
            ));
        }
        let identity: Identity = Identity::from_key(product.identity, key).map_err(unknown)?;
        self.roster.check_identity(index, key, &identity).map_err(|taken| unknown(taken.to_string()))?;
        Ok(CustomerRef::New(Arc::new(Newcomer { key: Arc::from(key), identity })))
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

impl Folded {
    /// What the committer is to count. To hand over, once.
    pub(super) fn take_delta(&mut self, mark: Option<Mark>) -> Delta {
        Delta { mark, ..std::mem::take(&mut self.delta) }
    }

    /// Takes in what the committer refused.
    pub(super) fn refuse(&mut self, recorded: Recorded) {
        let refused = |Refused { place, product, why }| (place, (Some(product), why));
        self.refusals.extend(recorded.refused.into_iter().map(refused));
        let by_entry: HashMap<u32, _> = recorded.refused_entries.into_iter().map(refused).collect();
        if by_entry.is_empty() {
            return;
        }
        for (index, entry) in (0..).zip(&self.entry_of) {
            if let Some(refused) = entry.and_then(|entry| by_entry.get(&entry)) {
                self.refusals.insert(index, refused.clone());
            }
        }
    }

    pub(super) fn rejections(&self) -> Vec<Rejection> {
        let rejection = |(place, (index, (_, refusal))): (usize, (&u32, &(_, Refusal)))| Rejection {
            index: *index,
            reason: reason(refusal).into(),
            message: if place < MAX_MESSAGES { refusal.to_string() } else { String::new() },
        };
        self.refusals.iter().enumerate().map(rejection).collect()
    }

    /// How many events are rejected, as far as that is known.
    pub(super) fn rejected(&self) -> usize {
        self.refusals.len()
    }

    /// The product of each rejected event; `None` where it names none of ours.
    pub(super) fn products_of_rejected(&self) -> impl Iterator<Item = Option<ProductIndex>> + '_ {
        self.refusals.values().map(|(product, _)| *product)
    }
}

fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::UnknownProduct { .. } => Reason::UnknownProduct,
        Refusal::UnknownDimension { .. } => Reason::UnknownDimension,
        Refusal::InvalidCustomer => Reason::InvalidCustomer,
        Refusal::UnknownCustomer { .. } => Reason::UnknownCustomer,
        Refusal::InvalidEventId { .. } => Reason::InvalidEventId,
        Refusal::QuantityOverflow => Reason::QuantityOverflow,
        Refusal::TimeTooOld { .. } => Reason::TimeTooOld,
        Refusal::TimeInFuture { .. } => Reason::TimeInFuture,
        Refusal::MissingSubject { .. } => Reason::MissingSubject,
        Refusal::InvalidSubject { .. } => Reason::InvalidSubject,
        Refusal::InvalidTags { .. } => Reason::InvalidTags,
        Refusal::LimitReached { .. } => Reason::LimitReached,
        Refusal::NotAllowed { .. } => Reason::NotAllowed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message;

    use super::*;
    use crate::{
        base::proto::{RecordRequest, UsageEvent},
        domain::{
            identity::IdentityMode,
            product::{Aggregate, Dimension, Product},
            quantity::{Rounding, Unit},
            usage::TimeBounds,
        },
    };

    fn catalog(open: bool) -> Catalog {
        let dimension = |name: &str, aggregate| Dimension {
            name: name.into(),
            aggregate,
            unit: Unit::default(),
            rounding: Rounding::Down,
            tags: name == "gb",
        };
        Catalog::new(vec![Product {
            code: "prod".into(),
            identity: IdentityMode::Account,
            former: None,
            open,
            zero_records: true,
            dimensions: vec![
                dimension("requests", Aggregate::Sum),
                dimension("calls", Aggregate::Count),
                dimension("users", Aggregate::Unique),
                dimension("seats", Aggregate::Latest { hold: false }),
                dimension("gb", Aggregate::Sum),
            ],
        }])
    }

    fn folded(open: bool, events: &[UsageEvent]) -> Folded {
        let bounds = TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };
        let range = bounds.around("2026-11-22T10:30:00Z".parse().unwrap());
        let (catalog, roster) = (catalog(open), Roster::default());
        let desk =
            Desk { catalog: &catalog, roster: &roster, range, hasher: Hasher::new(7), permission: None };
        let request = RecordRequest { events: events.to_vec() }.encode_to_vec().into();
        fold(desk, &wire::Message::of_request(&request).unwrap()).unwrap()
    }

    fn event(customer: &str, quantity: u64, event_id: &str) -> UsageEvent {
        UsageEvent {
            customer: customer.to_owned(),
            dimension: "requests".to_owned(),
            quantity,
            event_id: event_id.to_owned(),
            ..UsageEvent::default()
        }
    }

    const A: &str = "123456789012";
    const B: &str = "210987654321";

    #[test]
    fn events_without_ids_are_added_up_and_others_are_not() {
        let folded = folded(true, &[event(A, 1, ""), event(A, 2, ""), event(B, 4, ""), event(A, 8, "x")]);
        let amounts: Vec<_> =
            folded.delta.entries.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
        assert_eq!(amounts, [(3, 2), (4, 1)]);
        let [event] = &*folded.delta.identified else { panic!("one event has an id") };
        assert_eq!((event.entry, event.usage, event.index), (0, Usage::Sum(8), 3));
    }

    #[test]
    fn bad_events_are_told_by_index_and_the_others_count() {
        let folded = folded(true, &[event("", 1, ""), event(A, 2, ""), event("acme", 4, "")]);
        let rejections = folded.rejections();
        let told: Vec<_> = rejections.iter().map(|rejection| (rejection.index, rejection.reason())).collect();
        assert_eq!(told, [(0, Reason::InvalidCustomer), (2, Reason::UnknownCustomer)]);
        assert_eq!(folded.delta.entries.len(), 1);
        assert!(self::folded(false, &[event(A, 1, "")]).delta.entries.is_empty(), "not registered");
    }

    #[test]
    fn a_sum_that_overflows_rejects_the_event_that_does_not_fit() {
        let folded = folded(true, &[event(A, u64::MAX, ""), event(A, 1, "")]);
        let rejected = folded.rejections();
        assert_eq!(
            (rejected.len(), rejected[0].index, rejected[0].reason()),
            (1, 1, Reason::QuantityOverflow)
        );
    }

    #[test]
    fn however_many_events_are_bad_the_answer_can_be_read() {
        let unknown = UsageEvent { dimension: "x".repeat(250), ..event(A, 1, "") };
        let tags = [("k".repeat(20_000), "v".to_owned())].into();
        let ill_tagged = UsageEvent { dimension: "gb".to_owned(), tags, ..event(A, 1, "") };
        for (bad, reason) in [(unknown, Reason::UnknownDimension), (ill_tagged, Reason::InvalidTags)] {
            let rejected = folded(true, &vec![bad; 10_000]).rejections();
            assert_eq!(rejected.len(), 10_000);
            assert!(rejected.iter().all(|rejection| rejection.reason() == reason));
            let size: usize = rejected.iter().map(Message::encoded_len).sum();
            assert!(size < 1 << 20, "{size} bytes");
        }
    }

    #[test]
    fn a_refused_fold_rejects_all_its_events() {
        let mut folded = folded(true, &[event(A, 1, ""), event(B, 2, ""), event(A, 4, "")]);
        let why = Refusal::QuantityOverflow;
        let refused_entries = vec![Refused { place: 0, product: ProductIndex(0), why }];
        folded.refuse(Recorded { refused_entries, ..Recorded::default() });
        let indices: Vec<_> = folded.rejections().iter().map(|rejection| rejection.index).collect();
        assert_eq!(indices, [0, 2]);
    }

    #[test]
    fn an_id_means_one_event_of_one_customer_and_dimension() {
        let hash_with = |key, event: &UsageEvent| {
            let names = ["prod", &event.customer, &event.dimension].map(str::as_bytes);
            let mut hasher = Hasher::new(key).of(names);
            hasher.write(event.event_id.as_bytes());
            hasher.finish128().as_u128()
        };
        let hash = |event: &UsageEvent| hash_with(7, event);
        let first = event(A, 1, "x");
        assert_eq!(hash(&first), hash(&event(A, 2, "x")));
        assert_ne!(hash(&first), hash(&event(B, 1, "x")));
        assert_ne!(hash(&first), hash(&UsageEvent { dimension: "calls".to_owned(), ..first.clone() }));
        assert_ne!(hash_with(8, &first), hash(&first));
    }

    #[test]
    fn subjects_fold_only_into_themselves_and_count_once() {
        let user = |subject: &str| UsageEvent {
            dimension: "users".to_owned(),
            subject: subject.to_owned(),
            ..event(A, 9, "")
        };
        let folded = folded(true, &[user("ann"), user("bob"), user("ann")]);
        let amounts: Vec<_> =
            folded.delta.entries.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
        assert_eq!(amounts, [(1, 2), (1, 1)]);
    }

    #[test]
    fn of_two_levels_in_one_request_the_later_stands() {
        let seats = |quantity| UsageEvent { dimension: "seats".to_owned(), ..event(A, quantity, "") };
        let folded = folded(true, &[seats(9), seats(4)]);
        assert_eq!(folded.delta.entries[0].usage.amount(), 4);
    }

    #[test]
    fn sets_of_tags_are_added_up_apart() {
        let tagged = |team: &str, quantity| UsageEvent {
            dimension: "gb".to_owned(),
            tags: [("team".to_owned(), team.to_owned())].into(),
            ..event(A, quantity, "")
        };
        let folded = folded(true, &[tagged("a", 1), tagged("b", 2), tagged("a", 4)]);
        let amounts: Vec<_> = folded.delta.entries.iter().map(|entry| entry.usage.amount()).collect();
        assert_eq!(amounts, [5, 2]);
    }
}
