//! A customer in little memory: what most have is kept short, and what few have lies apart.

use std::sync::Arc;

use crate::domain::{
    customer::{Closing, Standing},
    identity::Identity,
    product::ProductIndex,
    time::{Hour, Timestamp},
};

use super::Customer;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Arc<str>,
    /// Where it is not the key.
    identity: Option<Box<Identity>>,
    rare: Option<Box<Rare>>,
    /// The beginning of time, where it is not known.
    since: Timestamp,
    first_hour: Hour,
    pub(super) product: ProductIndex,
    key_is: KeyIs,
    pub(super) not_subscribed: bool,
}

/// What AWS takes the key for.
#[derive(Clone, Copy, Debug)]
enum KeyIs {
    NoIdentity,
    Account,
    CustomerIdentifier,
}

#[derive(Debug)]
struct Rare {
    former: Option<Identity>,
    closing: Option<Closing>,
    sealed_through: Option<Hour>,
}

impl Row {
    pub(super) fn new(customer: Customer) -> Self {
        let Customer { product, key, standing } = customer;
        let Standing { identity, former, since, first_hour, closing, sealed_through, not_subscribed } =
            standing;
        let is_rare = former.is_some() || closing.is_some() || sealed_through.is_some();
        let key_is = what_key_is(&key, &identity);
        Self {
            key,
            identity: matches!(key_is, KeyIs::NoIdentity).then(|| Box::new(identity)),
            rare: is_rare.then(|| Box::new(Rare { former, closing, sealed_through })),
            since: since.unwrap_or(Timestamp::MIN),
            first_hour,
            product,
            key_is,
            not_subscribed,
        }
    }

    pub(super) fn customer(&self) -> Customer {
        let Self { key, product, first_hour, not_subscribed, .. } = self;
        let rare = self.rare.as_ref();
        let standing = Standing {
            identity: self.identity(),
            former: rare.and_then(|rare| rare.former.clone()),
            since: (self.since > Timestamp::MIN).then_some(self.since),
            first_hour: *first_hour,
            closing: rare.and_then(|rare| rare.closing),
            sealed_through: self.sealed_through(),
            not_subscribed: *not_subscribed,
        };
        Customer { product: *product, key: key.clone(), standing }
    }

    pub(super) fn sealed_through(&self) -> Option<Hour> {
        self.rare.as_ref()?.sealed_through
    }

    /// Whether AWS knows it by this identity, or has known it.
    pub(super) fn is_known_as(&self, identity: &Identity) -> bool {
        self.identity() == *identity
            || self.rare.as_ref().is_some_and(|rare| rare.former.as_ref() == Some(identity))
    }

    /// What it is known by beside its key.
    pub(super) fn other_identities(&self) -> impl Iterator<Item = &Identity> {
        let former = self.rare.as_ref().and_then(|rare| rare.former.as_ref());
        self.identity.as_deref().into_iter().chain(former)
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

    fn standings() -> impl Strategy<Value = Standing> {
        let closing = (any::<i64>(), any::<bool>())
            .prop_map(|(noticed, is_sealed)| Closing { noticed: Timestamp::from_millis(noticed), is_sealed });
        let since = (i64::MIN + 1..).prop_map(Timestamp::from_millis);
        let hours = || any::<u32>().prop_map(Hour::from_index);
        let rare = (option::of(identities()), option::of(closing), option::of(hours()));
        (identities(), rare, option::of(since), hours(), any::<bool>()).prop_map(
            |(identity, (former, closing, sealed_through), since, first_hour, not_subscribed)| Standing {
                identity,
                former,
                since,
                first_hour,
                closing,
                sealed_through,
                not_subscribed,
            },
        )
    }

    proptest! {
        #[test]
        fn a_customer_is_kept_as_it_is(standing in standings(), identity in identities()) {
            let customer = Customer { product: ProductIndex(3), key: "acme".into(), standing };
            let row = Row::new(customer.clone());
            let is_known = customer.standing.identities().any(|its| *its == identity);
            prop_assert_eq!(row.is_known_as(&identity), is_known);
            prop_assert_eq!(row.sealed_through(), customer.standing.sealed_through);
            prop_assert_eq!(row.customer(), customer);
        }
    }

    #[test]
    fn a_row_takes_48_bytes() {
        assert_eq!(size_of::<Row>(), 48);
    }
}
