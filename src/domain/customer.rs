//! How a customer stands with AWS: as whom it is billed, from when, and until when.

use std::time::Duration;

use super::{
    identity::{Identity, IdentityMode},
    product::Product,
    time::{Hour, Timestamp},
};

/// AWS takes a closing customer's records for about an hour after its notice (seller guide, `unsubscribe-pending`).
const LAST_HOUR: Duration = Duration::from_hours(1);
/// Left of it for sending.
const TIME_TO_SEND: Duration = Duration::from_mins(30);

/// What is known of a customer beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub identity: Identity,
    /// The identity that it had before its product's identity changed.
    pub former: Option<Identity>,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
    /// The first hour for which a zero record may be claimed.
    pub first_hour: Hour,
    pub closing: Option<Closing>,
    /// Its hours up to this one were sealed on their own, whatever the agent's watermark says: their slots are taken.
    pub sealed_through: Option<Hour>,
    /// AWS says that it has no subscription, and has accepted nothing of it since.
    pub not_subscribed: bool,
}

/// A customer's usage ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When AWS told so.
    pub noticed: Timestamp,
    /// Its last hour is sealed. What is used after that is not billable.
    pub is_sealed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// What it has used is on its way, in its last hour.
    Closing,
    Ended,
}

/// As whom an hour of a customer is billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BilledAs<'a> {
    Identity(&'a Identity),
    /// The product's identity changes after this hour, and the customer is only known by the new one: the next hour
    /// takes the usage along.
    Later,
    /// The product's identity has changed, and the customer is not registered under the new one.
    Unknown,
}

impl Standing {
    pub const fn new(identity: Identity, since: Option<Timestamp>, first_hour: Hour) -> Self {
        Self {
            identity,
            former: None,
            since,
            first_hour,
            closing: None,
            sealed_through: None,
            not_subscribed: false,
        }
    }

    pub fn state(&self, now: Timestamp) -> State {
        match self.deadline() {
            None => State::Active,
            Some(deadline) if now < deadline => State::Closing,
            Some(_) => State::Ended,
        }
    }

    /// What is used now is not billable any more.
    pub fn is_closed(&self) -> bool {
        self.closing.is_some_and(|closing| closing.is_sealed)
    }

    /// The end of a closing customer's last hour: AWS accepts nothing after it.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.closing.map(|closing| closing.noticed.plus(LAST_HOUR))
    }

    /// When a closing customer's hours are sealed: after the grace that any hour has, but in time to be sent.
    pub fn seals_at(&self, grace: Duration) -> Option<Timestamp> {
        let closing = self.closing.filter(|closing| !closing.is_sealed)?;
        let after_grace = closing.noticed.plus(grace.min(LAST_HOUR.saturating_sub(TIME_TO_SEND)));
        // One that has closed and come back in this hour has begun the next one, which must not be sealed before it is.
        Some(self.sealed_through.map_or(after_grace, |sealed| after_grace.max(sealed.end())))
    }

    /// The last hour that takes no more of its usage.
    pub fn watermark(&self, of_agent: Hour) -> Hour {
        self.sealed_through.map_or(of_agent, |own| own.max(of_agent))
    }

    /// Whether the hour is reported although nothing was used (I8).
    pub fn claims_zero(&self, hour: Hour) -> bool {
        hour >= self.first_hour
            && self.since.is_none_or(|since| since < hour.end())
            && self.sealed_through.is_none_or(|sealed| hour > sealed)
            && !self.is_closed()
            && !self.not_subscribed
    }

    /// The product's former identity holds for the hours that had begun when it changed, and never after: one hour
    /// under two identities is billed twice.
    pub fn billed_as(&self, product: &Product, hour: Hour) -> BilledAs<'_> {
        let is_former = product.former.is_some_and(|former| hour <= former.until);
        let wanted = product.identity_for(hour);
        let known = [Some(&self.identity), self.former.as_ref()].into_iter().flatten();
        match known.into_iter().find(|identity| identity.mode() == wanted) {
            Some(identity) => BilledAs::Identity(identity),
            None if is_former => BilledAs::Later,
            None => BilledAs::Unknown,
        }
    }

    /// Takes what a registration says of a known customer. What AWS was told already stays true of it.
    #[must_use]
    pub fn renewed(&self, identity: Identity, since: Option<Timestamp>) -> Self {
        let former = if identity.mode() == self.identity.mode() {
            self.former.clone()
        } else {
            Some(self.identity.clone())
        };
        Self { identity, former, since: since.or(self.since), ..self.clone() }
    }

    /// A customer that is closing, has ended or was not subscribed subscribes again.
    #[must_use]
    pub fn reopened(&self, now: Hour) -> Self {
        let first_hour = if self.is_closed() { now.max(self.watermark(now).next()) } else { self.first_hour };
        Self { closing: None, not_subscribed: false, first_hour, ..self.clone() }
    }

    /// The identities that no other customer may have.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        [Some(&self.identity), self.former.as_ref()].into_iter().flatten()
    }
}

/// How a product's customers were known before its identity changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerIdentity {
    pub mode: IdentityMode,
    /// The last hour that is reported so.
    pub until: Hour,
}

impl FormerIdentity {
    /// What holds once a product's identity changes from `before` to `after` at `now`. The error is the hour that must
    /// be sealed first: a second change would leave the hours of the first one without an end.
    pub fn after_change(
        former: Option<Self>,
        (before, after): (IdentityMode, IdentityMode),
        now: Timestamp,
        watermark: Hour,
    ) -> Result<Option<Self>, Hour> {
        let begun = Hour::containing(now).max(watermark);
        match former {
            former if before == after => Ok(former),
            // Nothing was reported under the identity that is given up again.
            Some(former) if former.mode == after && begun <= former.until => Ok(None),
            Some(former) if watermark < former.until => Err(former.until),
            _ => Ok(Some(Self { mode: before, until: begun })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn active() -> Standing {
        Standing::new(account(), None, hour("2026-11-22T08:00:00Z"))
    }

    fn closing(noticed: &str, is_sealed: bool) -> Standing {
        Standing { closing: Some(Closing { noticed: at(noticed), is_sealed }), ..active() }
    }

    #[test]
    fn a_closing_customer_is_sealed_after_the_grace_and_in_time_for_its_last_hour() {
        let standing = closing("2026-11-22T10:50:00Z", false);
        let seals_at = |minutes| standing.seals_at(Duration::from_mins(minutes)).unwrap().to_string();
        assert_eq!(seals_at(5), "2026-11-22T10:55:00Z");
        assert_eq!(seals_at(360), "2026-11-22T11:20:00Z", "half an hour is left to send");
        assert_eq!(standing.deadline(), Some(at("2026-11-22T11:50:00Z")));
        assert_eq!(standing.state(at("2026-11-22T11:49:59Z")), State::Closing);
        assert_eq!(standing.state(at("2026-11-22T11:50:00Z")), State::Ended);
        assert_eq!(closing("2026-11-22T10:50:00Z", true).seals_at(Duration::ZERO), None, "once");
        let again = Standing { sealed_through: Some(hour("2026-11-22T10:00:00Z")), ..standing };
        assert_eq!(
            again.seals_at(Duration::ZERO),
            Some(at("2026-11-22T11:00:00Z")),
            "not before the hour begins"
        );
    }

    #[test]
    fn zeros_are_claimed_from_the_first_hour_until_the_last_and_never_without_a_subscription() {
        let (nine, ten) = (hour("2026-11-22T09:00:00Z"), hour("2026-11-22T10:00:00Z"));
        assert!(active().claims_zero(nine));
        assert!(!active().claims_zero(hour("2026-11-22T07:00:00Z")));
        assert!(!Standing { not_subscribed: true, ..active() }.claims_zero(nine));
        assert!(!Standing { since: Some(ten.start()), ..active() }.claims_zero(nine));
        assert!(Standing { since: Some(nine.start()), ..active() }.claims_zero(nine));
        assert!(closing("2026-11-22T09:50:00Z", false).claims_zero(nine));
        assert!(!closing("2026-11-22T09:50:00Z", true).claims_zero(ten));
        let renewed = Standing { sealed_through: Some(nine), ..active() };
        assert!(!renewed.claims_zero(nine), "its slot is taken");
        assert!(renewed.claims_zero(ten));
    }

    #[test]
    fn a_customer_that_comes_back_begins_behind_its_sealed_hours() {
        let nine = hour("2026-11-22T09:00:00Z");
        let ended = Standing { sealed_through: Some(nine), ..closing("2026-11-22T09:10:00Z", true) };
        let back = ended.reopened(nine);
        assert_eq!((back.closing, back.first_hour), (None, nine.next()));
        assert_eq!(back.watermark(nine.previous()), nine);
        assert_eq!(back.watermark(nine.next()), nine.next());
    }

    #[test]
    fn a_registration_changes_what_it_names() {
        let since = Some(at("2026-11-22T09:10:00Z"));
        let first = active().renewed(account(), since);
        assert_eq!((first.since, &first.former), (since, &None));
        let second = first.renewed(license(), None);
        assert_eq!((second.since, second.former.clone()), (since, Some(account())));
        assert_eq!(second.identities().collect::<Vec<_>>(), [&license(), &account()], "both stay its own");
    }

    #[test]
    fn a_customer_that_subscribes_again_is_subscribed() {
        let again = Standing { not_subscribed: true, ..active() }.reopened(hour("2026-11-22T09:00:00Z"));
        assert!(!again.not_subscribed);
        assert_eq!(again.first_hour, active().first_hour, "it was never gone");
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
            dimensions: Vec::new(),
        };
        let (old, new) = (active(), active().renewed(license(), None));
        assert_eq!(new.billed_as(&product, until), BilledAs::Identity(&account()));
        assert_eq!(new.billed_as(&product, until.next()), BilledAs::Identity(&license()));
        assert_eq!(old.billed_as(&product, until), BilledAs::Identity(&account()));
        assert_eq!(old.billed_as(&product, until.next()), BilledAs::Unknown);
        let fresh = Standing::new(license(), None, until);
        assert_eq!(fresh.billed_as(&product, until), BilledAs::Later);
        assert_eq!(fresh.billed_as(&product, until.next()), BilledAs::Identity(&license()));
    }

    #[test]
    fn a_change_of_identity_takes_hold_with_the_next_hour_and_one_at_a_time() {
        use IdentityMode::{Account, CustomerIdentifier, License};
        let now = at("2026-11-22T14:30:00Z");
        let (sealed, until) = (hour("2026-11-22T12:00:00Z"), hour("2026-11-22T14:00:00Z"));
        let change = |former, modes, now| FormerIdentity::after_change(former, modes, now, sealed);
        let former = change(None, (Account, License), now).unwrap();
        assert_eq!(former, Some(FormerIdentity { mode: Account, until }));
        assert_eq!(change(former, (License, License), now), Ok(former));
        assert_eq!(change(former, (License, Account), now), Ok(None), "nothing has happened yet");
        assert_eq!(change(former, (License, CustomerIdentifier), now), Err(until));
        let later = at("2026-11-22T15:10:00Z");
        assert_eq!(change(former, (License, Account), later), Err(until));
        let done = FormerIdentity::after_change(former, (License, Account), later, until).unwrap();
        assert_eq!(done, Some(FormerIdentity { mode: License, until: until.next() }));
    }
}
