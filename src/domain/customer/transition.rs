//! What may happen to a customer, and what it makes of the customer's state.
//!
//! A registration may change who the customer is, and may be refused. No other event does either.

use thiserror::Error;

use super::{
    identity::Identity,
    standing::{Origin, Verification},
    state::{CustomerState, Subscription},
};
use crate::domain::time::{Hour, Timestamp};

/// A customer that is known is registered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTerms {
    pub identity: Identity,
    pub since: Option<Timestamp>,
    /// The hour in which it registers.
    pub hour: Hour,
    /// The moment at which it registers.
    pub now: Timestamp,
    /// Whether it subscribes again, should it be closing, closed or not subscribed.
    pub reopens: bool,
    /// Whether usage was counted in the hour of `since`, which is open.
    pub is_used: bool,
}

/// How far the hours of all customers are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSoFar {
    /// The last hour that takes no more usage of anyone.
    pub watermark: Hour,
    /// Some of that hour's customers are yet to be sealed.
    pub is_sealing: bool,
}

/// An event in the life of a customer that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerEvent {
    /// AWS said at `noticed` that its usage ends.
    ClosingNotice { noticed: Timestamp },
    /// Its hours up to `hour` were sealed on their own.
    LastHourSealed { hour: Hour },
    /// The hour was sealed for all.
    HourSealed { hour: Hour },
    /// AWS refused a record of it with `CustomerNotSubscribed`.
    NotSubscribed,
    /// AWS refused a record of it, since it does not know the identity.
    IdentityRefused,
    /// AWS accepted a record of it.
    RecordAccepted,
}

/// The outcome of an event for a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// The event says nothing new.
    Unchanged,
    Changed {
        state: CustomerState,
        last_seal: LastSeal,
    },
}

/// The task that a transition leaves about the seal of a closing customer's last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSeal {
    /// Nothing.
    Keep,
    /// It is to be planned for `CustomerState::seals_at`.
    Plan,
    /// It is planned, and is not to be.
    Cancel,
}

/// Why a customer cannot change its identity now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegistrationRefused {
    /// Half of the hour's customers are sealed already: an identity that moves between customers now could fill one
    /// slot twice.
    #[error("an hour is being sealed: change the identity in a moment")]
    Sealing,
    /// Another customer could take the identity over, and fill a slot that this one's early seal has filled.
    #[error(
        "the customer's hours were sealed early, since it was closing: change its identity once the present hour is sealed"
    )]
    SealedEarly,
    /// Usage of hours or days could be billed to the wrong identity.
    #[error(
        "the clock is in doubt, so it is not known when the identity gives way: change it once AWS has told the time, or \
         say since when the new one applies"
    )]
    ClockInDoubt,
    #[error(
        "the new identity begins at {since}, inside an hour that is yet to come: register it then, or with a `since` at \
         the start of an hour"
    )]
    SinceAhead { since: Timestamp },
    /// Parts of hours would be taken from identities that have had them.
    #[error(
        "the identity was changed already in an hour after {since}, and the hour of {since} is still open: give a later \
         `since`, or register it once that hour is sealed"
    )]
    BeforeAnother { since: Timestamp },
    #[error("the identity has changed too often in an hour: change it again once that hour is sealed")]
    TooManyReplaced,
}

impl CustomerState {
    /// Takes what a registration says of a known customer. What AWS was told already stays true of it.
    pub fn register(
        &self,
        registered: NewTerms,
        cursor: SealedSoFar,
    ) -> Result<Transition, RegistrationRefused> {
        let replacement = self.replacement(&registered, cursor)?;
        let doubtful = self.doubtful_after(&registered);
        let NewTerms { identity, since, hour, reopens, .. } = registered;
        let verification = self.verification.after_registration(identity != self.identity, reopens);
        let renewed = if let Some(replacement) = replacement {
            replacement.applied_to(self, identity)
        } else {
            let is_same = identity == self.identity;
            if !is_same {
                self.check_identity_may_change(cursor)?;
            }
            let former = if is_same { self.former.clone() } else { Some(self.identity.clone()) };
            let by_arrival = self.by_arrival && since.is_none_or(|since| self.since == Some(since));
            let since = since.or(self.since);
            Self { identity, former, since, by_arrival, doubtful, ..self.clone() }
        };
        let renewed = Self { verification, origin: Origin::Registered, ..renewed };
        Ok(self.transition_to(if reopens { renewed.reopened(hour) } else { renewed }))
    }

    /// Takes what has happened to the customer. No such event is refused, and none changes an identity.
    pub fn apply(&self, event: CustomerEvent) -> Transition {
        let sealed_through = match event {
            CustomerEvent::LastHourSealed { hour } => Some(hour),
            CustomerEvent::ClosingNotice { .. }
            | CustomerEvent::HourSealed { .. }
            | CustomerEvent::NotSubscribed
            | CustomerEvent::IdentityRefused
            | CustomerEvent::RecordAccepted => self.sealed_through,
        };
        let subscription = self.subscription.after(event);
        let (verification, origin) = (self.verification.after(event), self.origin.after(event));
        let changed = Self { sealed_through, subscription, verification, origin, ..self.clone() };
        let changed =
            if let CustomerEvent::HourSealed { hour } = event { changed.after_sealed(hour) } else { changed };
        self.transition_to(changed)
    }

    /// Identities that gave way in an hour that is sealed are free for others.
    fn after_sealed(mut self, hour: Hour) -> Self {
        self.replaced.retain(|replaced| replaced.until > hour);
        self.doubtful = self.doubtful.filter(|doubtful| *doubtful > hour);
        self
    }

    fn check_identity_may_change(&self, cursor: SealedSoFar) -> Result<(), RegistrationRefused> {
        if cursor.is_sealing {
            Err(RegistrationRefused::Sealing)
        } else if self.watermark(cursor.watermark) > cursor.watermark {
            Err(RegistrationRefused::SealedEarly)
        } else {
            Ok(())
        }
    }

    /// The customer subscribes again. One that was closed claims zeros from the next hour on, after its sealed ones.
    fn reopened(self, now: Hour) -> Self {
        let first_hour = match self.subscription {
            Subscription::Closed { .. } => self.watermark(now).next(),
            Subscription::Active | Subscription::NotSubscribed | Subscription::Closing { .. } => {
                self.first_hour
            }
        };
        Self { subscription: Subscription::Active, first_hour, ..self }
    }

    fn transition_to(&self, state: Self) -> Transition {
        if state == *self {
            return Transition::Unchanged;
        }
        let last_seal = self.subscription.last_seal_before(state.subscription);
        Transition::Changed { state, last_seal }
    }
}

impl Verification {
    const fn after(self, event: CustomerEvent) -> Self {
        match event {
            CustomerEvent::RecordAccepted => Self::Verified,
            CustomerEvent::IdentityRefused => Self::Refused,
            CustomerEvent::ClosingNotice { .. }
            | CustomerEvent::HourSealed { .. }
            | CustomerEvent::LastHourSealed { .. }
            | CustomerEvent::NotSubscribed => self,
        }
    }

    /// Of another identity AWS has said nothing. Who subscribes again is given another try.
    const fn after_registration(self, is_another: bool, reopens: bool) -> Self {
        match self {
            _ if is_another => Self::Unverified,
            Self::Refused if reopens => Self::Unverified,
            Self::Unverified | Self::Verified | Self::Refused => self,
        }
    }
}

impl Origin {
    /// Once AWS accepts the customer it matters no more who has named it first.
    fn after(&self, event: CustomerEvent) -> Self {
        match (self, event) {
            (Self::SelfNamed { .. }, CustomerEvent::RecordAccepted) => Self::SelfNamed { by: None },
            _ => self.clone(),
        }
    }
}

impl Subscription {
    #[expect(clippy::match_same_arms, reason = "a line for each pair, as in a table")]
    fn after(self, event: CustomerEvent) -> Self {
        use CustomerEvent::{
            ClosingNotice, HourSealed, IdentityRefused, LastHourSealed, NotSubscribed, RecordAccepted,
        };
        match (self, event) {
            // Whether it has a subscription was not asked.
            (_, HourSealed { .. } | IdentityRefused) => self,

            (Self::Active, ClosingNotice { noticed }) => Self::Closing { noticed, not_subscribed: false },
            (Self::NotSubscribed, ClosingNotice { noticed }) => {
                Self::Closing { noticed, not_subscribed: true }
            }
            // The first notice counts.
            (Self::Closing { .. } | Self::Closed { .. }, ClosingNotice { .. }) => self,

            (Self::Closing { noticed, not_subscribed }, LastHourSealed { .. }) => {
                Self::Closed { noticed, not_subscribed }
            }
            (Self::Active | Self::NotSubscribed | Self::Closed { .. }, LastHourSealed { .. }) => self,

            (Self::Active | Self::NotSubscribed, RecordAccepted) => Self::Active,
            (Self::Active | Self::NotSubscribed, NotSubscribed) => Self::NotSubscribed,
            (Self::Closing { noticed, .. }, RecordAccepted) => {
                Self::Closing { noticed, not_subscribed: false }
            }
            (Self::Closing { noticed, .. }, NotSubscribed) => Self::Closing { noticed, not_subscribed: true },
            (Self::Closed { noticed, .. }, RecordAccepted) => Self::Closed { noticed, not_subscribed: false },
            (Self::Closed { noticed, .. }, NotSubscribed) => Self::Closed { noticed, not_subscribed: true },
        }
    }

    /// The task that a change to `next` leaves about the last seal. The seal itself leaves none.
    const fn last_seal_before(self, next: Self) -> LastSeal {
        match (self, next) {
            (Self::Closing { .. }, Self::Active | Self::NotSubscribed) => LastSeal::Cancel,
            (Self::Active | Self::NotSubscribed | Self::Closed { .. }, Self::Closing { .. }) => {
                LastSeal::Plan
            }
            (Self::Closing { .. }, Self::Closing { .. })
            | (_, Self::Active | Self::NotSubscribed | Self::Closed { .. }) => LastSeal::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}:00Z").parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    fn account(account_id: &str) -> Identity {
        Identity::Account { account_id: account_id.into() }
    }

    fn license() -> Identity {
        Identity::License { account_id: "one".into(), license_arn: "l-1".into() }
    }

    /// It was registered at eight, AWS has accepted it, and its hours up to `sealed` were sealed on their own.
    fn state(subscription: Subscription, sealed: Option<&str>) -> CustomerState {
        let first = CustomerState::new(account("one"), None, hour("08:00"));
        let (sealed_through, verification) = (sealed.map(hour), Verification::Verified);
        CustomerState { sealed_through, subscription, verification, ..first }
    }

    /// All that a subscription can be; a notice was at 10:50.
    fn subscriptions() -> [Subscription; 6] {
        let noticed = at("10:50");
        [
            Subscription::Active,
            Subscription::NotSubscribed,
            Subscription::Closing { noticed, not_subscribed: false },
            Subscription::Closing { noticed, not_subscribed: true },
            Subscription::Closed { noticed, not_subscribed: false },
            Subscription::Closed { noticed, not_subscribed: true },
        ]
    }

    /// No one is closed whose hours were not sealed on their own.
    fn states() -> impl Iterator<Item = CustomerState> {
        let unsealed = subscriptions().into_iter().filter(|subscription| !subscription.is_closed());
        let unsealed = unsealed.map(|subscription| state(subscription, None));
        unsealed.chain(subscriptions().map(|subscription| state(subscription, Some("10:00"))))
    }

    fn registered(identity: Identity, reopens: bool) -> NewTerms {
        let (hour, now) = (hour("11:00"), at("11:00"));
        NewTerms { identity, since: None, hour, now, reopens, is_used: false }
    }

    /// Everyone's hours are sealed up to ten.
    fn between_seals() -> SealedSoFar {
        SealedSoFar { watermark: hour("10:00"), is_sealing: false }
    }

    type Event = (&'static str, fn(&CustomerState) -> Transition);

    const EVENTS: [Event; 7] = [
        ("registered", |state| state.register(registered(account("one"), false), between_seals()).unwrap()),
        ("to reopen", |state| state.register(registered(account("one"), true), between_seals()).unwrap()),
        ("notice", |state| state.apply(CustomerEvent::ClosingNotice { noticed: at("11:20") })),
        ("last hour sealed", |state| state.apply(CustomerEvent::LastHourSealed { hour: hour("11:00") })),
        ("refused", |state| state.apply(CustomerEvent::NotSubscribed)),
        ("unknown", |state| state.apply(CustomerEvent::IdentityRefused)),
        ("accepted", |state| state.apply(CustomerEvent::RecordAccepted)),
    ];

    /// `!`: AWS has no subscription of it. `?`: AWS does not know it. `to`: its hours up to this one were sealed on their own. `from`: where its
    /// zeros begin, if that changes. `-`: nothing changes.
    const TABLE: [&str; 11] = [
        "                    | registered | to reopen      | notice         | last hour sealed | refused  | unknown   | accepted",
        "Active              | -          | -              | Closing, plan  | Active to 11     | Active!  | Active?   | -",
        "Active!             | -          | Active         | Closing!, plan | Active! to 11    | -        | Active!?  | Active",
        "Closing             | -          | Active, cancel | -              | Closed to 11     | Closing! | Closing?  | -",
        "Closing!            | -          | Active, cancel | -              | Closed! to 11    | -        | Closing!? | Closing",
        "Active to 10        | -          | -              | Closing, plan  | Active to 11     | Active!  | Active?   | -",
        "Active! to 10       | -          | Active         | Closing!, plan | Active! to 11    | -        | Active!?  | Active",
        "Closing to 10       | -          | Active, cancel | -              | Closed to 11     | Closing! | Closing?  | -",
        "Closing! to 10      | -          | Active, cancel | -              | Closed! to 11    | -        | Closing!? | Closing",
        "Closed to 10        | -          | Active from 12 | -              | Closed to 11     | Closed!  | Closed?   | -",
        "Closed! to 10       | -          | Active from 12 | -              | Closed! to 11    | -        | Closed!?  | Closed",
    ];

    #[test]
    fn each_event_has_its_outcome_in_each_state() {
        let mut rows = TABLE.iter().map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let header: Vec<_> = [""].into_iter().chain(EVENTS.map(|(name, _)| name)).collect();
        assert_eq!(rows.next(), Some(header));
        for state in states() {
            let outcomes = EVENTS.iter().map(|(_, event)| outcome(&state, event(&state)));
            let row: Vec<_> = [shown(&state)].into_iter().chain(outcomes).collect();
            assert_eq!(row, rows.next().unwrap());
        }
        assert_eq!(rows.next(), None);
    }

    fn outcome(before: &CustomerState, transition: Transition) -> String {
        let Transition::Changed { state, last_seal } = transition else { return "-".to_owned() };
        let who = |state: &CustomerState| (state.identity.clone(), state.former.clone(), state.since);
        assert_eq!(who(&state), who(before));
        let from = format!(" from {}", clock_hour(state.first_hour));
        let from = if state.first_hour == before.first_hour { "" } else { &from };
        let sealed_through = state.sealed_through.filter(|_| state.sealed_through != before.sealed_through);
        let last_seal = match last_seal {
            LastSeal::Keep => "",
            LastSeal::Plan => ", plan",
            LastSeal::Cancel => ", cancel",
        };
        format!("{}{from}{last_seal}", shown(&CustomerState { sealed_through, ..state }))
    }

    fn shown(state: &CustomerState) -> String {
        let subscription = match state.subscription {
            Subscription::Active | Subscription::NotSubscribed => "Active",
            Subscription::Closing { .. } => "Closing",
            Subscription::Closed { .. } => "Closed",
        };
        let not_subscribed = if state.subscription.not_subscribed() { "!" } else { "" };
        let unknown = if state.verification == Verification::Refused { "?" } else { "" };
        let to = state.sealed_through.map(|sealed| format!(" to {}", clock_hour(sealed)));
        format!("{subscription}{not_subscribed}{unknown}{}", to.unwrap_or_default())
    }

    fn clock_hour(hour: Hour) -> String {
        hour.start().to_string()[11..13].to_owned()
    }

    fn changed(transition: Transition) -> CustomerState {
        let Transition::Changed { state, .. } = transition else { panic!("nothing has changed") };
        state
    }

    #[test]
    fn the_first_notice_counts() {
        let notice = |noticed| CustomerEvent::ClosingNotice { noticed: at(noticed) };
        let closing = changed(state(Subscription::Active, None).apply(notice("10:50")));
        assert_eq!(
            closing.subscription,
            Subscription::Closing { noticed: at("10:50"), not_subscribed: false }
        );
        for noticed in ["10:00", "11:20"] {
            assert_eq!(closing.apply(notice(noticed)), Transition::Unchanged);
        }
    }

    #[test]
    fn the_last_answer_about_an_identity_counts_and_a_new_one_is_yet_to_be_answered() {
        use Verification::{Refused, Unverified, Verified};
        let accepted = |state: &CustomerState| changed(state.apply(CustomerEvent::RecordAccepted));
        let unknown = |state: &CustomerState| changed(state.apply(CustomerEvent::IdentityRefused));
        let put = |state: &CustomerState, identity, reopens| {
            changed(state.register(registered(identity, reopens), between_seals()).unwrap()).verification
        };
        let named = CustomerState::self_named(account("one"), hour("08:00"), Some("checkout".into()));
        assert_eq!((named.verification, named.named_by().map(|by| &**by)), (Unverified, Some("checkout")));
        let refused = unknown(&named);
        assert_eq!((refused.verification, refused.named_by()), (Refused, named.named_by()));
        let verified = accepted(&refused);
        assert_eq!((verified.verification, verified.named_by()), (Verified, None), "it is nobody's any more");
        assert_eq!(unknown(&verified).verification, Refused, "and may be unknown again");
        assert_eq!(put(&verified, account("two"), false), Unverified);
        for (reopens, verification) in [(false, Refused), (true, Unverified)] {
            assert_eq!(put(&refused, account("one"), reopens), verification);
        }
        assert_eq!(put(&verified, account("one"), true), Verified);
    }

    #[test]
    fn a_customer_that_usage_has_named_may_be_registered_later() {
        let named = CustomerState::self_named(account("one"), hour("08:00"), Some("checkout".into()));
        let registered = changed(named.register(registered(account("one"), false), between_seals()).unwrap());
        assert_eq!(registered, CustomerState { origin: Origin::Registered, ..named });
    }

    #[test]
    fn zeros_of_a_customer_that_comes_back_begin_after_the_present_hour_and_its_sealed_ones() {
        let closed = Subscription::Closed { noticed: at("10:50"), not_subscribed: true };
        for (sealed, first_hour) in [("10:00", "12:00"), ("11:00", "12:00"), ("12:00", "13:00")] {
            let back =
                state(closed, Some(sealed)).register(registered(account("one"), true), between_seals());
            let back = changed(back.unwrap());
            assert_eq!((back.first_hour, back.sealed_through), (hour(first_hour), Some(hour(sealed))));
        }
    }

    /// The columns are registrations. A row says how far the customer's hours are sealed on their own, and everyone's;
    /// a star says that some of that hour's customers are yet to be sealed.
    const IDENTITIES: [&str; 7] = [
        "own | all | the same | another account | a license             ",
        "-   | 10  | -        | two             | license, formerly one ",
        "-   | 10* | -        | Sealing         | Sealing               ",
        "10  | 10  | -        | two             | license, formerly one ",
        "10  | 10* | -        | Sealing         | Sealing               ",
        "11  | 10  | -        | two             | SealedEarly           ",
        "11  | 10* | -        | Sealing         | Sealing               ",
    ];

    #[test]
    fn an_identity_changes_between_seals_whatever_the_subscription() {
        for row in &IDENTITIES[1..] {
            let row: Vec<_> = row.split('|').map(str::trim).collect();
            let [own, all, expected @ ..] = &row[..] else { panic!("{row:?}") };
            let sealed_through = (*own != "-").then(|| hour(&format!("{own}:00")));
            let watermark = hour(&format!("{}:00", all.trim_end_matches('*')));
            let cursor = SealedSoFar { watermark, is_sealing: all.ends_with('*') };
            for subscription in subscriptions() {
                let state = CustomerState { sealed_through, ..state(subscription, None) };
                let identities = [account("one"), account("two"), license()];
                let outcomes = identities.map(|identity| identity_after(&state, identity, cursor));
                assert_eq!(outcomes, expected, "{own} {all} {subscription:?}");
            }
        }
    }

    fn identity_after(before: &CustomerState, identity: Identity, cursor: SealedSoFar) -> String {
        let state = match before.register(registered(identity, false), cursor) {
            Err(refused) => return format!("{refused:?}"),
            Ok(Transition::Unchanged) => return "-".to_owned(),
            Ok(Transition::Changed { state, last_seal }) => {
                assert_eq!(last_seal, LastSeal::Keep);
                state
            }
        };
        assert_eq!(state.verification, Verification::Unverified, "AWS is yet to answer about it");
        let verification = before.verification;
        let rest = CustomerState { identity: account("one"), former: None, verification, ..state.clone() };
        let rest = CustomerState { since: None, by_arrival: false, replaced: Vec::new(), ..rest };
        assert_eq!(rest, *before, "all else stays");
        assert_eq!(state.by_arrival, state.since.is_some(), "since the moment of the change");
        let name = |identity: &Identity| identity.plain_text().unwrap_or("license").to_owned();
        let former = state.former.map(|former| format!(", formerly {}", name(&former)));
        format!("{}{}", name(&state.identity), former.unwrap_or_default())
    }

    #[test]
    fn what_a_registration_does_not_say_stays() {
        let register = |state: CustomerState, identity, since| {
            let registered = NewTerms { since, ..registered(identity, false) };
            changed(state.register(registered, between_seals()).unwrap())
        };
        let first = register(state(Subscription::Active, None), account("one"), Some(at("09:10")));
        let license = register(first, license(), None);
        assert_eq!((license.since, license.former.clone()), (Some(at("09:10")), Some(account("one"))));
        let moved = Identity::License { account_id: "one".into(), license_arn: "l-2".into() };
        let moved = register(license, moved, Some(at("10:10")));
        assert_eq!((moved.since, moved.former), (Some(at("10:10")), Some(account("one"))));
    }
}
