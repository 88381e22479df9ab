//! From a request's events to a small delta: validated one by one, and added up where no id must be checked.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hasher as _,
    sync::Arc,
};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{
    base::proto::{Rejection, UsageEvent, rejection::Reason},
    domain::{
        bucket::{MAX_TOTAL, Usage},
        identity::Identity,
        product::{Catalog, DimensionIndex, ProductIndex},
        tags::TagSet,
        time::{Hour, Timestamp},
        usage::{Event, Placed, Refusal, TimeBounds, place},
    },
    work::{
        delta::{CustomerRef, Delta, Entry, Identified, Mark, Recorded},
        roster::Inner as Roster,
    },
};

/// A request on its way: what it asks to count, and what is wrong with the rest.
#[derive(Debug, Default)]
pub(super) struct Folded {
    delta: Delta,
    /// By the event's index: into which fold it went.
    fold_of: BTreeMap<u32, usize>,
    product_of: Vec<Option<ProductIndex>>,
    refusals: BTreeMap<u32, Refusal>,
}

/// Every rejection has its reason; only so many of a request have a message, or a client might be unable to read the
/// answer, think the good events lost, and send them again.
const MAX_MESSAGES: usize = 100;

/// Hashes events' identities to 128 bits. Keyed, so that no one can make ids that collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hasher {
    key: u128,
}

impl Hasher {
    pub(super) const fn new(key: u128) -> Self {
        Self { key }
    }

    /// The same name (an event's id, a subject) in another product, customer or dimension is another one.
    fn hash(&self, product: ProductIndex, catalog: &Catalog, event: &UsageEvent, name: &str) -> u128 {
        let code = catalog.product(product).map_or("", |product| &*product.code);
        let mut hasher = SipHasher13::new_with_key(&self.key.to_be_bytes());
        for text in [code, &event.customer, &event.dimension] {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        }
        hasher.write(name.as_bytes());
        hasher.finish128().as_u128()
    }
}

pub(super) fn fold(
    catalog: &Catalog,
    roster: &Roster,
    bounds: &TimeBounds,
    hasher: &Hasher,
    now: Timestamp,
    events: &[UsageEvent],
) -> Folded {
    let mut folded = Folded { product_of: Vec::with_capacity(events.len()), ..Folded::default() };
    let mut folds = HashMap::new();
    for (event, index) in events.iter().zip(0..) {
        let placed = place(catalog, bounds, now, &parse(event));
        folded.product_of.push(catalog.find(&event.product));
        let taken = placed.and_then(|placed| {
            let customer = customer(catalog, roster, placed.product, &event.customer)?;
            Ok((placed, customer))
        });
        let (placed, customer) = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                folded.refusals.insert(index, refusal);
                continue;
            }
        };
        let hash = |name| hasher.hash(placed.product, catalog, event, name);
        let subject = placed.by_subject.then(|| hash(&event.subject));
        if event.event_id.is_empty() {
            folded.add(&mut folds, index, entry(placed, customer, subject), &event.customer);
        } else {
            let hash = hash(&event.event_id);
            folded.delta.identified.push(Identified { entry: entry(placed, customer, subject), hash, index });
        }
    }
    folded.delta.events = events.len();
    folded
}

fn parse(event: &UsageEvent) -> Event<'_> {
    Event {
        product: &event.product,
        customer: &event.customer,
        dimension: &event.dimension,
        quantity: event.quantity,
        time: (event.time_unix_nano > 0).then(|| Timestamp::from_unix_nanos(event.time_unix_nano)),
        event_id: &event.event_id,
        subject: &event.subject,
        tags: event.tags.iter().map(|(key, value)| (&**key, &**value)).collect(),
    }
}

fn entry(placed: Placed, customer: CustomerRef, subject: Option<u128>) -> Entry {
    Entry {
        product: placed.product,
        customer,
        dimension: placed.dimension,
        hour: placed.hour,
        usage: placed.usage,
        events: 1,
        tags: placed.tags,
        subject,
    }
}

/// Finds the customer, or says why an unknown one cannot be billed.
fn customer(
    catalog: &Catalog,
    roster: &Roster,
    index: ProductIndex,
    key: &str,
) -> Result<CustomerRef, Refusal> {
    if let Some(known) = roster.find(index, key) {
        return Ok(CustomerRef::Known(known));
    }
    let unknown = |why: String| Refusal::UnknownCustomer { customer: key.to_owned(), why };
    let product =
        catalog.product(index).ok_or_else(|| unknown("its product is not configured".to_owned()))?;
    if !product.open {
        return Err(unknown(
            "register it first (CustomerService.PutCustomer or [[product.customer]])".to_owned(),
        ));
    }
    let identity: Identity = Identity::from_key(product.identity, key).map_err(unknown)?;
    roster.check_identity(index, key, &identity).map_err(|taken| unknown(taken.to_string()))?;
    Ok(CustomerRef::New { key: Arc::from(key), identity })
}

/// Events that agree in all this add up. Distinct subjects do not.
type FoldKey<'a> = (ProductIndex, &'a str, DimensionIndex, Hour, Option<TagSet>, Option<u128>);

impl Folded {
    /// The delta to hand over, once.
    pub(super) fn take_delta(&mut self, mark: Option<Mark>) -> Delta {
        Delta { mark, ..std::mem::take(&mut self.delta) }
    }

    fn add<'a>(&mut self, folds: &mut HashMap<FoldKey<'a>, usize>, index: u32, entry: Entry, key: &'a str) {
        let next = self.delta.folded.len();
        let fold_key = (entry.product, key, entry.dimension, entry.hour, entry.tags.clone(), entry.subject);
        let place = *folds.entry(fold_key).or_insert(next);
        match self.delta.folded.get_mut(place) {
            None => self.delta.folded.push(entry),
            Some(fold) => {
                // One subject, however many events: the first has counted it.
                let usage = if entry.subject.is_some() { Usage::Unique(0) } else { entry.usage };
                let mut sum = fold.usage;
                sum.absorb(usage);
                if sum.amount() > MAX_TOTAL {
                    self.refusals.insert(index, Refusal::QuantityOverflow);
                    return;
                }
                fold.usage = sum;
                fold.events += 1;
            }
        }
        self.fold_of.insert(index, place);
    }

    /// Takes in what the committer refused.
    pub(super) fn refuse(&mut self, recorded: Recorded) {
        self.refusals.extend(recorded.refused);
        let refused: HashMap<usize, Refusal> = recorded.refused_folds.into_iter().collect();
        if refused.is_empty() {
            return;
        }
        for (index, fold) in &self.fold_of {
            if let Some(refusal) = refused.get(fold) {
                self.refusals.insert(*index, refusal.clone());
            }
        }
    }

    pub(super) fn rejections(&self) -> Vec<Rejection> {
        let rejection = |(place, (index, refusal)): (usize, (&u32, &Refusal))| Rejection {
            index: *index,
            reason: reason(refusal).into(),
            message: if place < MAX_MESSAGES { refusal.to_string() } else { String::new() },
        };
        self.refusals.iter().enumerate().map(rejection).collect()
    }

    /// The product of each rejected event; `None` where it names none of ours.
    pub(super) fn products_of_rejected(&self) -> impl Iterator<Item = Option<ProductIndex>> + '_ {
        self.refusals.keys().map(|index| self.product_of.get(*index as usize).copied().flatten())
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        identity::IdentityMode,
        product::{Aggregate, Dimension, Product},
        quantity::{Rounding, Unit},
    };
    use std::time::Duration;

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
        let now = "2026-11-22T10:30:00Z".parse().unwrap();
        fold(&catalog(open), &Roster::default(), &bounds, &Hasher::new(7), now, events)
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
            folded.delta.folded.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
        assert_eq!(amounts, [(3, 2), (4, 1)]);
        assert_eq!(folded.delta.identified.len(), 1);
    }

    #[test]
    fn bad_events_are_told_by_index_and_the_others_count() {
        let folded = folded(true, &[event("", 1, ""), event(A, 2, ""), event("acme", 4, "")]);
        let rejections = folded.rejections();
        let told: Vec<_> = rejections.iter().map(|rejection| (rejection.index, rejection.reason())).collect();
        assert_eq!(told, [(0, Reason::InvalidCustomer), (2, Reason::UnknownCustomer)]);
        assert_eq!(folded.delta.folded.len(), 1);
        assert!(self::folded(false, &[event(A, 1, "")]).delta.folded.is_empty(), "not registered");
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
        use prost::Message;
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
        let refused_folds = vec![(0, Refusal::QuantityOverflow)];
        folded.refuse(Recorded { refused_folds, ..Recorded::default() });
        let indices: Vec<_> = folded.rejections().iter().map(|rejection| rejection.index).collect();
        assert_eq!(indices, [0, 2]);
    }

    #[test]
    fn an_id_means_one_event_of_one_customer_and_dimension() {
        let (catalog, hasher) = (catalog(true), Hasher::new(7));
        let hash = |event: &UsageEvent| hasher.hash(ProductIndex(0), &catalog, event, &event.event_id);
        let first = event(A, 1, "x");
        assert_eq!(hash(&first), hash(&event(A, 2, "x")));
        assert_ne!(hash(&first), hash(&event(B, 1, "x")));
        assert_ne!(hash(&first), hash(&UsageEvent { dimension: "calls".to_owned(), ..first.clone() }));
        assert_ne!(Hasher::new(8).hash(ProductIndex(0), &catalog, &first, "x"), hash(&first));
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
            folded.delta.folded.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
        assert_eq!(amounts, [(1, 2), (1, 1)]);
    }

    #[test]
    fn of_two_levels_in_one_request_the_later_stands() {
        let seats = |quantity| UsageEvent { dimension: "seats".to_owned(), ..event(A, quantity, "") };
        let folded = folded(true, &[seats(9), seats(4)]);
        assert_eq!(folded.delta.folded[0].usage.amount(), 4);
    }

    #[test]
    fn sets_of_tags_are_added_up_apart() {
        let tagged = |team: &str, quantity| UsageEvent {
            dimension: "gb".to_owned(),
            tags: [("team".to_owned(), team.to_owned())].into(),
            ..event(A, quantity, "")
        };
        let folded = folded(true, &[tagged("a", 1), tagged("b", 2), tagged("a", 4)]);
        let amounts: Vec<_> = folded.delta.folded.iter().map(|entry| entry.usage.amount()).collect();
        assert_eq!(amounts, [5, 2]);
    }
}
