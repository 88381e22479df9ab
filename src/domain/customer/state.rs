//! How a customer stands with AWS: as whom it is billed, from when, and until when.

use std::{sync::Arc, time::Duration};

use super::{
    identity::Identity,
    standing::{Origin, Standing, Verification},
    tenure::{Replaced, Start},
};
use crate::domain::{
    product::Product,
    time::{Hour, Timestamp},
};

/// AWS takes a closing customer's records for about an hour after its notice (seller guide, `unsubscribe-pending`).
const LAST_HOUR: Duration = Duration::from_hours(1);
/// Left of it for sending.
const TIME_TO_SEND: Duration = Duration::from_mins(30);

/// The facts about a customer beside its key. `transition` says how they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerState {
    pub identity: Identity,
    /// The identity that it had before its product's identity changed.
    pub former: Option<Identity>,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
    /// `since` is only the moment at which this identity replaced another (`Start::by_arrival`).
    pub by_arrival: bool,
    /// Identities that gave way to another of their kind, in order, until their last hours are sealed.
    pub replaced: Vec<Replaced>,
    /// The hour of `since`, if usage was counted in it before that was known: some may be from before.
    pub doubtful: Option<Hour>,
    /// The first hour for which a zero record may be claimed.
    pub first_hour: Hour,
    /// Its hours up to this one were sealed on their own, whatever the agent's watermark says: their slots are taken.
    pub sealed_through: Option<Hour>,
    pub subscription: Subscription,
    pub verification: Verification,
    pub origin: Origin,
}

/// Whether AWS takes a customer's records, as far as notices and answers have told.
///
/// `not_subscribed`: AWS has refused a record since it knows no subscription, and has accepted none since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    Active,
    /// AWS knows no subscription. Usage is billed all the same, since one may be on its way; zeros are not claimed.
    NotSubscribed,
    /// AWS has told, at `noticed`, that usage ends. The last hour is yet to be sealed.
    Closing {
        noticed: Timestamp,
        not_subscribed: bool,
    },
    /// The last hour is sealed. What is used after that is not billable.
    Closed {
        noticed: Timestamp,
        not_subscribed: bool,
    },
}

/// A customer's state as callers are told it. One whose last hour is sealed is closing until that hour's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerStatus {
    Active,
    /// What it has used is on its way, in its last hour.
    Closing,
    Ended,
}

/// The identity under which an hour of a customer is billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BilledAs<'a> {
    Identity(&'a Identity),
    /// The product's identity changes after this hour, and the customer is only known by the new one: the next hour
    /// takes the usage along.
    Later,
    /// The product's identity has changed, and the customer is not registered under the new one.
    Unknown,
}

impl Subscription {
    /// When AWS told that usage ends, if it has.
    pub const fn noticed(self) -> Option<Timestamp> {
        match self {
            Self::Active | Self::NotSubscribed => None,
            Self::Closing { noticed, .. } | Self::Closed { noticed, .. } => Some(noticed),
        }
    }

    pub const fn not_subscribed(self) -> bool {
        match self {
            Self::Active => false,
            Self::NotSubscribed => true,
            Self::Closing { not_subscribed, .. } | Self::Closed { not_subscribed, .. } => not_subscribed,
        }
    }

    pub const fn is_closed(self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    const fn claims_zeros(self) -> bool {
        matches!(self, Self::Active | Self::Closing { not_subscribed: false, .. })
    }
}

impl CustomerState {
    /// A customer that is registered.
    pub const fn new(identity: Identity, since: Option<Timestamp>, first_hour: Hour) -> Self {
        Self {
            identity,
            former: None,
            since,
            by_arrival: false,
            replaced: Vec::new(),
            doubtful: None,
            first_hour,
            sealed_through: None,
            subscription: Subscription::Active,
            verification: Verification::Unverified,
            origin: Origin::Registered,
        }
    }

    /// A customer that usage has named, sent by a client, where clients are told apart.
    pub fn self_named(identity: Identity, first_hour: Hour, by: Option<Arc<str>>) -> Self {
        Self { origin: Origin::SelfNamed { by }, ..Self::new(identity, None, first_hour) }
    }

    pub fn status(&self, now: Timestamp) -> CustomerStatus {
        match self.deadline() {
            None => CustomerStatus::Active,
            Some(deadline) if now < deadline => CustomerStatus::Closing,
            Some(_) => CustomerStatus::Ended,
        }
    }

    pub fn standing(&self) -> Standing {
        Standing::of(self.verification, &self.origin)
    }

    /// The client whose usage has named the customer, if AWS has accepted nothing of it yet.
    pub fn named_by(&self) -> Option<&Arc<str>> {
        match &self.origin {
            Origin::SelfNamed { by } => by.as_ref(),
            Origin::Registered => None,
        }
    }

    pub const fn is_self_named(&self) -> bool {
        matches!(self.origin, Origin::SelfNamed { .. })
    }

    /// Whether nothing is lost when the customer is forgotten, as far as its state tells: usage has named it, AWS has
    /// not accepted it or does not know it any more, and no notice or early seal must be remembered.
    pub fn may_be_forgotten(&self) -> bool {
        self.is_self_named()
            && self.verification != Verification::Verified
            && self.former.is_none()
            && self.sealed_through.is_none()
            && self.subscription.noticed().is_none()
    }

    /// The end of a closing customer's last hour: AWS accepts nothing after it.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.subscription.noticed().map(|noticed| noticed.plus(LAST_HOUR))
    }

    /// When a closing customer's hours are sealed: after the grace that any hour has, but in time to be sent.
    pub fn seals_at(&self, grace: Duration) -> Option<Timestamp> {
        let Subscription::Closing { noticed, .. } = self.subscription else { return None };
        let after_grace = noticed.plus(grace.min(LAST_HOUR.saturating_sub(TIME_TO_SEND)));
        // One that has closed and come back in this hour has begun the next one, which must not be sealed before it is.
        Some(self.sealed_through.map_or(after_grace, |sealed| after_grace.max(sealed.end())))
    }

    /// The last hour that takes no more of its usage.
    pub fn watermark(&self, of_agent: Hour) -> Hour {
        self.sealed_through.map_or(of_agent, |own| own.max(of_agent))
    }

    /// Whether dimensions of which nothing was used are reported for the hour (I8). `has_used`: others were used.
    pub fn claims_zero(&self, hour: Hour, has_used: bool) -> bool {
        hour >= self.first_hour
            && !self.begins_after_end_of(hour)
            && self.sealed_through.is_none_or(|sealed| hour > sealed)
            && self.subscription.claims_zeros()
            && self.is_claimed_for(has_used)
    }

    /// Whether AWS is told of the customer beyond what it has used. One that AWS does not know would be refused each
    /// hour anew. Of one that usage alone has named there is no more to claim than that usage, until AWS accepts it.
    fn is_claimed_for(&self, has_used: bool) -> bool {
        match self.standing() {
            Standing::Verified | Standing::Registered => true,
            Standing::SelfNamed => has_used,
            Standing::Refused => false,
        }
    }

    /// The product's former identity holds for the hours that had begun when it changed, and never after: one hour
    /// under two identities is billed twice.
    pub fn billed_as(&self, product: &Product, hour: Hour) -> BilledAs<'_> {
        let is_former = product.former.is_some_and(|former| hour <= former.until);
        let wanted = product.identity_for(hour);
        let known = [Some(self.identity_in(hour)), self.former.as_ref()].into_iter().flatten();
        match known.into_iter().find(|identity| identity.mode() == wanted) {
            Some(identity) => BilledAs::Identity(identity),
            None if is_former => BilledAs::Later,
            None => BilledAs::Unknown,
        }
    }

    /// The identities that no other customer may have.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        let replaced = self.replaced.iter().map(|replaced| &replaced.identity);
        [Some(&self.identity), self.former.as_ref()].into_iter().flatten().chain(replaced)
    }

    /// Whether it is still the customer that AWS knows by an identity, and not only the one that was.
    pub fn goes_by(&self, identity: &Identity) -> bool {
        self.identity == *identity || self.former.as_ref() == Some(identity)
    }

    /// Its own identity in an hour, of those that replaced each other. In the hour of a change it is the new one: the
    /// old one's part is sealed.
    pub fn identity_in(&self, hour: Hour) -> &Identity {
        self.replaced_in(hour).map_or(&self.identity, |replaced| &replaced.identity)
    }

    /// When the time of an hour's identity begins.
    pub fn start_in(&self, hour: Hour) -> Start {
        self.replaced_in(hour).map_or_else(|| self.start(), |replaced| replaced.start)
    }

    pub const fn start(&self) -> Start {
        Start { since: self.since, by_arrival: self.by_arrival }
    }

    /// Whether an hour is the last whole one of an identity that was replaced: what is left below a step is not the next
    /// one's.
    pub fn gives_way_after(&self, hour: Hour) -> bool {
        self.replaced_in(hour).is_some_and(|replaced| replaced.until == hour.next())
    }

    /// Whether all of an hour is from before its identity's time.
    pub fn begins_after_end_of(&self, hour: Hour) -> bool {
        self.start_in(hour).since.is_some_and(|since| since >= hour.end())
    }

    /// The hour whose seal ends what only the hour of a change has to know.
    pub fn changed_in(&self) -> Option<Hour> {
        self.replaced.iter().map(|replaced| replaced.until).max().max(self.doubtful)
    }

    fn replaced_in(&self, hour: Hour) -> Option<&Replaced> {
        self.replaced.iter().find(|replaced| hour < replaced.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::customer::identity::IdentityMode;
    use crate::domain::product::FormerIdentity;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    fn account() -> Identity {
        Identity::Account { account_id: "123456789012".into() }
    }

    fn license() -> Identity {
        let license_arn = "arn:aws:license-manager::123456789012:license:l-1".into();
        Identity::License { account_id: "123456789012".into(), license_arn }
    }

    fn active() -> CustomerState {
        CustomerState::new(account(), None, hour("2026-11-22T08:00:00Z"))
    }

    fn with(subscription: Subscription) -> CustomerState {
        CustomerState { subscription, ..active() }
    }

    fn closing(noticed: &str) -> Subscription {
        Subscription::Closing { noticed: at(noticed), not_subscribed: false }
    }

    fn closed(noticed: &str) -> Subscription {
        Subscription::Closed { noticed: at(noticed), not_subscribed: false }
    }

    #[test]
    fn a_closing_customer_is_sealed_after_the_grace_and_in_time_for_its_last_hour() {
        let state = with(closing("2026-11-22T10:50:00Z"));
        let seals_at = |minutes| state.seals_at(Duration::from_mins(minutes)).unwrap().to_string();
        assert_eq!(seals_at(5), "2026-11-22T10:55:00Z");
        assert_eq!(seals_at(360), "2026-11-22T11:20:00Z", "half an hour is left to send");
        assert_eq!(state.deadline(), Some(at("2026-11-22T11:50:00Z")));
        assert_eq!(with(closed("2026-11-22T10:50:00Z")).seals_at(Duration::ZERO), None, "once");
        let again = CustomerState { sealed_through: Some(hour("2026-11-22T10:00:00Z")), ..state };
        assert_eq!(
            again.seals_at(Duration::ZERO),
            Some(at("2026-11-22T11:00:00Z")),
            "not before the hour begins"
        );
    }

    #[test]
    fn a_customer_whose_usage_ends_has_ended_an_hour_after_the_notice() {
        let (before, after) = (at("2026-11-22T11:49:59Z"), at("2026-11-22T11:50:00Z"));
        for subscription in [closing("2026-11-22T10:50:00Z"), closed("2026-11-22T10:50:00Z")] {
            assert_eq!(with(subscription).status(before), CustomerStatus::Closing);
            assert_eq!(with(subscription).status(after), CustomerStatus::Ended);
        }
        for subscription in [Subscription::Active, Subscription::NotSubscribed] {
            assert_eq!(with(subscription).status(after), CustomerStatus::Active);
        }
    }

    #[test]
    fn zeros_are_claimed_from_the_first_hour_until_the_last_and_never_without_a_subscription() {
        let (nine, ten) = (hour("2026-11-22T09:00:00Z"), hour("2026-11-22T10:00:00Z"));
        assert!(active().claims_zero(nine, false));
        assert!(!active().claims_zero(hour("2026-11-22T07:00:00Z"), false));
        assert!(!CustomerState { since: Some(ten.start()), ..active() }.claims_zero(nine, false));
        assert!(CustomerState { since: Some(nine.start()), ..active() }.claims_zero(nine, false));
        let noticed = at("2026-11-22T09:50:00Z");
        assert!(!with(Subscription::NotSubscribed).claims_zero(nine, false));
        assert!(with(Subscription::Closing { noticed, not_subscribed: false }).claims_zero(nine, false));
        assert!(!with(Subscription::Closing { noticed, not_subscribed: true }).claims_zero(nine, false));
        assert!(!with(Subscription::Closed { noticed, not_subscribed: false }).claims_zero(ten, false));
        let back = CustomerState { sealed_through: Some(nine), ..active() };
        assert!(!back.claims_zero(nine, false), "its slot is taken");
        assert!(back.claims_zero(ten, false));
    }

    #[test]
    fn the_watermark_is_the_later_of_the_agents_and_its_own() {
        let nine = hour("2026-11-22T09:00:00Z");
        let sealed = CustomerState { sealed_through: Some(nine), ..active() };
        assert_eq!(sealed.watermark(nine.previous()), nine);
        assert_eq!(sealed.watermark(nine.next()), nine.next());
        assert_eq!(active().watermark(nine), nine);
    }

    #[test]
    fn no_hour_is_billed_under_two_identities() {
        let until = hour("2026-11-22T14:00:00Z");
        let product = Product {
            code: "prod".into(),
            identity: IdentityMode::License,
            former: Some(FormerIdentity { mode: IdentityMode::Account, until }),
            open: false,
            zero_records: true,
            review: Duration::ZERO,
            dimensions: Vec::new(),
        };
        let (old, new) =
            (active(), CustomerState { identity: license(), former: Some(account()), ..active() });
        assert_eq!(new.billed_as(&product, until), BilledAs::Identity(&account()));
        assert_eq!(new.billed_as(&product, until.next()), BilledAs::Identity(&license()));
        assert_eq!(old.billed_as(&product, until), BilledAs::Identity(&account()));
        assert_eq!(old.billed_as(&product, until.next()), BilledAs::Unknown);
        let fresh = CustomerState::new(license(), None, until);
        assert_eq!(fresh.billed_as(&product, until), BilledAs::Later);
        assert_eq!(fresh.billed_as(&product, until.next()), BilledAs::Identity(&license()));
    }
}
