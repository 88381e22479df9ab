//! One customer as a row of 48 bytes: what most customers have is kept short, and what few have lies apart.

use std::sync::Arc;

use crate::domain::{
    customer::{
        identity::Identity,
        standing::{Origin, Standing, Verification},
        state::{CustomerState, Subscription},
        tenure::{Replaced, Start},
    },
    product::ProductIndex,
    time::{Hour, Timestamp},
};

use super::Customer;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Arc<str>,
    /// The identity, where it is not the key.
    identity: Option<Box<Identity>>,
    rare: Option<Box<Rare>>,
    /// The beginning of time, where it is not known.
    since: Timestamp,
    first_hour: Hour,
    pub(super) product: ProductIndex,
    key_is: KeyIs,
    marks: Marks,
}

/// What AWS takes the key for.
#[derive(Clone, Copy, Debug)]
enum KeyIs {
    NoIdentity,
    Account,
    CustomerIdentifier,
}

/// One bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u8);

impl Marks {
    /// The subscription, unless it is one of the rare kinds.
    const NOT_SUBSCRIBED: u8 = 1;
    const VERIFIED: u8 = 1 << 1;
    const REFUSED: u8 = 1 << 2;
    const SELF_NAMED: u8 = 1 << 3;
    /// The customer is forgotten, and its row is yet to be given to another.
    const VACANT: u8 = 1 << 4;

    fn of(state: &CustomerState) -> Self {
        let marks = [
            (Self::NOT_SUBSCRIBED, state.subscription.not_subscribed()),
            (Self::VERIFIED, state.verification == Verification::Verified),
            (Self::REFUSED, state.verification == Verification::Refused),
            (Self::SELF_NAMED, state.is_self_named()),
        ];
        Self(marks.into_iter().filter(|(_, is_set)| *is_set).map(|(mark, _)| mark).sum())
    }

    const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    const fn verification(self) -> Verification {
        if self.has(Self::VERIFIED) {
            Verification::Verified
        } else if self.has(Self::REFUSED) {
            Verification::Refused
        } else {
            Verification::Unverified
        }
    }
}

#[derive(Debug)]
struct Rare {
    former: Option<Identity>,
    subscription: Subscription,
    sealed_through: Option<Hour>,
    by_arrival: bool,
    replaced: Vec<Replaced>,
    doubtful: Option<Hour>,
    named_by: Option<Arc<str>>,
}

impl Row {
    pub(super) fn new(customer: Customer) -> Self {
        let Customer { product, key, state } = customer;
        let (marks, named_by) = (Marks::of(&state), state.named_by().cloned());
        let CustomerState { by_arrival, doubtful, .. } = state;
        let has_changed = by_arrival || doubtful.is_some() || !state.replaced.is_empty();
        let CustomerState {
            identity, former, since, first_hour, sealed_through, subscription, replaced, ..
        } = state;
        let is_rare = former.is_some()
            || sealed_through.is_some()
            || subscription.noticed().is_some()
            || has_changed
            || named_by.is_some();
        let rare = || Rare { former, subscription, sealed_through, by_arrival, replaced, doubtful, named_by };
        let key_is = what_key_is(&key, &identity);
        Self {
            key,
            identity: matches!(key_is, KeyIs::NoIdentity).then(|| Box::new(identity)),
            rare: is_rare.then(|| Box::new(rare())),
            since: since.unwrap_or(Timestamp::MIN),
            first_hour,
            product,
            key_is,
            marks,
        }
    }

    pub(super) fn customer(&self) -> Customer {
        let Self { key, product, first_hour, .. } = self;
        let rare = self.rare.as_ref();
        let state = CustomerState {
            identity: self.identity(),
            former: rare.and_then(|rare| rare.former.clone()),
            since: self.start().since,
            by_arrival: self.start().by_arrival,
            replaced: self.replaced().to_vec(),
            doubtful: rare.and_then(|rare| rare.doubtful),
            first_hour: *first_hour,
            sealed_through: self.sealed_through(),
            subscription: self.subscription(),
            verification: self.marks.verification(),
            origin: self.origin(),
        };
        Customer { product: *product, key: key.clone(), state }
    }

    fn subscription(&self) -> Subscription {
        match &self.rare {
            Some(rare) => rare.subscription,
            None if self.marks.has(Marks::NOT_SUBSCRIBED) => Subscription::NotSubscribed,
            None => Subscription::Active,
        }
    }

    fn origin(&self) -> Origin {
        if self.is_self_named() {
            Origin::SelfNamed { by: self.named_by().cloned() }
        } else {
            Origin::Registered
        }
    }

    pub(super) const fn is_self_named(&self) -> bool {
        self.marks.has(Marks::SELF_NAMED)
    }

    /// The client whose usage has named the customer, if AWS has accepted nothing of it yet.
    pub(super) fn named_by(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.named_by.as_ref()
    }

    pub(super) const fn standing(&self) -> Standing {
        match self.marks.verification() {
            Verification::Verified => Standing::Verified,
            Verification::Refused => Standing::Refused,
            Verification::Unverified if self.is_self_named() => Standing::SelfNamed,
            Verification::Unverified => Standing::Registered,
        }
    }

    pub(super) const fn is_vacant(&self) -> bool {
        self.marks.has(Marks::VACANT)
    }

    pub(super) fn vacate(&mut self) {
        self.marks.0 |= Marks::VACANT;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.subscription.is_closed())
    }

    pub(super) fn sealed_through(&self) -> Option<Hour> {
        self.rare.as_ref()?.sealed_through
    }

    /// Whether AWS knows it by this identity, or has known it.
    pub(super) fn is_known_as(&self, identity: &Identity) -> bool {
        let was_replaced = || self.replaced().iter().any(|replaced| replaced.identity == *identity);
        self.identity() == *identity || self.former() == Some(identity) || was_replaced()
    }

    pub(super) fn replaced(&self) -> &[Replaced] {
        self.rare.as_ref().map_or(&[], |rare| &rare.replaced)
    }

    /// When the time of an hour's identity begins.
    pub(super) fn start_in(&self, hour: Hour) -> Start {
        let replaced = self.replaced().iter().find(|replaced| hour < replaced.until);
        replaced.map_or_else(|| self.start(), |replaced| replaced.start)
    }

    pub(super) fn start(&self) -> Start {
        let by_arrival = self.rare.as_ref().is_some_and(|rare| rare.by_arrival);
        Start { since: (self.since > Timestamp::MIN).then_some(self.since), by_arrival }
    }

    /// The customer's identity, where it is not the key.
    pub(super) fn other_identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    pub(super) fn former(&self) -> Option<&Identity> {
        self.rare.as_ref()?.former.as_ref()
    }

    fn identity(&self) -> Identity {
        match (&self.identity, self.key_is) {
            (Some(identity), _) => Identity::clone(identity),
            (None, KeyIs::CustomerIdentifier) => {
                Identity::CustomerIdentifier { customer_identifier: self.key.clone() }
            }
            (None, KeyIs::Account | KeyIs::NoIdentity) => Identity::Account { account_id: self.key.clone() },
        }
    }
}

fn what_key_is(key: &str, identity: &Identity) -> KeyIs {
    match identity {
        Identity::Account { account_id } if **account_id == *key => KeyIs::Account,
        Identity::CustomerIdentifier { customer_identifier } if **customer_identifier == *key => {
            KeyIs::CustomerIdentifier
        }
        Identity::License { .. } | Identity::Account { .. } | Identity::CustomerIdentifier { .. } => {
            KeyIs::NoIdentity
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{option, prelude::*};

    fn identities() -> impl Strategy<Value = Identity> {
        let text = || prop_oneof![Just("acme"), Just("other")].prop_map(Arc::<str>::from);
        prop_oneof![
            (text(), text())
                .prop_map(|(account_id, license_arn)| Identity::License { account_id, license_arn }),
            text().prop_map(|account_id| Identity::Account { account_id }),
            text().prop_map(|customer_identifier| Identity::CustomerIdentifier { customer_identifier }),
        ]
    }

    fn subscriptions() -> impl Strategy<Value = Subscription> {
        let noticed = || any::<i64>().prop_map(Timestamp::from_millis);
        prop_oneof![
            Just(Subscription::Active),
            Just(Subscription::NotSubscribed),
            (noticed(), any::<bool>())
                .prop_map(|(noticed, not_subscribed)| Subscription::Closing { noticed, not_subscribed }),
            (noticed(), any::<bool>())
                .prop_map(|(noticed, not_subscribed)| Subscription::Closed { noticed, not_subscribed }),
        ]
    }

    fn origins() -> impl Strategy<Value = Origin> {
        let client = option::of(Just("checkout").prop_map(Arc::<str>::from));
        prop_oneof![Just(Origin::Registered), client.prop_map(|by| Origin::SelfNamed { by })]
    }

    fn verifications() -> impl Strategy<Value = Verification> {
        prop_oneof![Just(Verification::Unverified), Just(Verification::Verified), Just(Verification::Refused)]
    }

    fn states() -> impl Strategy<Value = CustomerState> {
        let since = (i64::MIN + 1..).prop_map(Timestamp::from_millis);
        let hours = || any::<u32>().prop_map(Hour::from_index);
        let rare = (option::of(identities()), option::of(hours()), subscriptions());
        let start = (option::of(since.clone()), any::<bool>());
        let start = start.prop_map(|(since, by_arrival)| Start { since, by_arrival });
        let replaced = (identities(), start, hours());
        let replaced = replaced.prop_map(|(identity, start, until)| Replaced { identity, start, until });
        let change = (any::<bool>(), proptest::collection::vec(replaced, 0..3), option::of(hours()));
        let known = (verifications(), origins());
        (identities(), option::of(since), hours(), rare, change, known).prop_map(
            |(identity, since, first_hour, rare, change, (verification, origin))| {
                let (former, sealed_through, subscription) = rare;
                let (by_arrival, replaced, doubtful) = change;
                CustomerState {
                    identity,
                    former,
                    since,
                    by_arrival,
                    replaced,
                    doubtful,
                    first_hour,
                    sealed_through,
                    subscription,
                    verification,
                    origin,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_customer_is_kept_as_it_is(state in states(), identity in identities(), hour in any::<u32>()) {
            let hour = Hour::from_index(hour);
            let customer = Customer { product: ProductIndex(3), key: "acme".into(), state };
            let row = Row::new(customer.clone());
            let is_known = customer.state.identities().any(|its| *its == identity);
            prop_assert_eq!(row.is_known_as(&identity), is_known);
            prop_assert_eq!(row.sealed_through(), customer.state.sealed_through);
            prop_assert_eq!(row.start_in(hour), customer.state.start_in(hour));
            prop_assert_eq!(row.standing(), customer.state.standing());
            prop_assert_eq!((row.named_by(), row.is_vacant()), (customer.state.named_by(), false));
            prop_assert_eq!(row.customer(), customer);
        }
    }

    #[test]
    fn a_row_takes_48_bytes() {
        assert_eq!(size_of::<Row>(), 48);
    }
}
