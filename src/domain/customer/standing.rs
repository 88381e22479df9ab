//! How well AWS knows a customer, and whose word the agent has for it.
//!
//! Anyone who may send usage can name a customer in an open product, and AWS may know nothing of it. So the records of
//! customers that AWS has accepted before go first, and those that it may not know go apart.

use std::sync::Arc;

/// What AWS's answers have told of a customer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Nothing yet.
    Unverified,
    /// AWS has accepted a record of it, and has not refused its identity since.
    Verified,
    /// AWS has refused a record since it does not know the identity, and has accepted none since.
    Refused,
}

/// Whose word there is for a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was registered, by a call or in the configuration.
    Registered,
    /// Usage has named it. `by` is the client that sent the usage, where clients are told apart, until AWS accepts a
    /// record of the customer.
    SelfNamed { by: Option<Arc<str>> },
}

/// The classes in which records go out, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// AWS has accepted the customer's records.
    #[default]
    Verified,
    /// It was registered, and AWS is yet to answer.
    Registered,
    /// Usage has named it, and AWS is yet to answer.
    SelfNamed,
    /// AWS does not know its identity.
    Refused,
}

impl Standing {
    pub const ALL: [Self; 4] = [Self::Verified, Self::Registered, Self::SelfNamed, Self::Refused];

    pub(super) const fn of(verification: Verification, origin: &Origin) -> Self {
        match (verification, origin) {
            (Verification::Verified, _) => Self::Verified,
            (Verification::Refused, _) => Self::Refused,
            (Verification::Unverified, Origin::Registered) => Self::Registered,
            (Verification::Unverified, Origin::SelfNamed { .. }) => Self::SelfNamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        customer::{
            identity::Identity,
            state::{CustomerState, Subscription},
        },
        time::{Hour, Timestamp},
    };

    const EIGHT: Hour = Hour::from_index(498_704);

    fn identity() -> Identity {
        Identity::CustomerIdentifier { customer_identifier: "abc".into() }
    }

    fn named() -> CustomerState {
        CustomerState::self_named(identity(), EIGHT, Some("checkout".into()))
    }

    fn with(verification: Verification, state: CustomerState) -> CustomerState {
        CustomerState { verification, ..state }
    }

    #[test]
    fn a_customer_stands_as_aws_has_answered_and_before_that_as_it_came() {
        let registered = CustomerState::new(identity(), None, EIGHT);
        for (verification, by_word, by_usage) in [
            (Verification::Unverified, Standing::Registered, Standing::SelfNamed),
            (Verification::Verified, Standing::Verified, Standing::Verified),
            (Verification::Refused, Standing::Refused, Standing::Refused),
        ] {
            assert_eq!(with(verification, registered.clone()).standing(), by_word);
            assert_eq!(with(verification, named()).standing(), by_usage);
        }
        assert!(Standing::ALL.is_sorted(), "the best goes first");
    }

    #[test]
    fn zeros_are_claimed_for_whom_aws_knows_or_a_registration_vouches_for() {
        let registered = CustomerState::new(identity(), None, EIGHT);
        let claims = |state: &CustomerState| [false, true].map(|has_used| state.claims_zero(EIGHT, has_used));
        assert_eq!(claims(&registered), [true, true]);
        assert_eq!(claims(&named()), [false, true], "no more than its usage, until AWS knows it");
        assert_eq!(claims(&with(Verification::Verified, named())), [true, true]);
        for state in [registered, named()] {
            assert_eq!(claims(&with(Verification::Refused, state)), [false, false]);
        }
    }

    #[test]
    fn whoever_aws_has_accepted_or_a_person_has_registered_or_closed_is_not_forgotten() {
        let noticed = Timestamp::from_seconds(1_793_620_800);
        let closed = Subscription::Closed { noticed, not_subscribed: true };
        assert!(named().may_be_forgotten() && with(Verification::Refused, named()).may_be_forgotten());
        let not_subscribed = CustomerState { subscription: Subscription::NotSubscribed, ..named() };
        assert!(not_subscribed.may_be_forgotten());
        for kept in [
            CustomerState::new(identity(), None, EIGHT),
            with(Verification::Verified, named()),
            CustomerState { subscription: closed, ..named() },
            CustomerState { sealed_through: Some(EIGHT), ..named() },
            CustomerState { former: Some(identity()), ..named() },
        ] {
            assert!(!kept.may_be_forgotten(), "{kept:?}");
        }
    }
}
