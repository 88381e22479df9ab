//! One identity of a customer gives way to another of its kind, as when a license is replaced: which usage is whose.
//!
//! What was counted before is the old identity's, what comes after the new one's. AWS's slot includes the identity, so
//! the hour of the change has two records: the old identity's part is sealed at once, and the hour stays open for the
//! new one. Earlier hours that are still open are billed under the old identity when their time comes.

use super::{
    identity::Identity,
    state::CustomerState,
    tenure::{Replaced, Start},
    transition::{NewTerms, RegistrationRefused, SealedSoFar},
};
use crate::domain::time::{Hour, Timestamp};

/// Identities that a customer may have given up before their last hours are sealed.
const MOST_REPLACED: usize = 8;

/// What becomes of a customer whose identity gives way to another of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    start: Start,
    replaced: Vec<Replaced>,
    sealed_through: Option<Hour>,
    pub early_seal: Option<EarlySeal>,
}

/// The hours to be sealed before an identity gives way, each under its own identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EarlySeal {
    pub first: Hour,
    pub last: Hour,
    /// The new identity's time began before now: some of what was counted in the last hour may be of it.
    pub is_shared: bool,
}

impl EarlySeal {
    fn covers(self, hour: Hour) -> bool {
        (self.first..=self.last).contains(&hour)
    }
}

impl Replacement {
    /// The first open hour that is all the new identity's; `None` if it takes the place of one that was a mistake, and all
    /// that that one has.
    pub(crate) fn first_hour(&self, state: &CustomerState, cursor: SealedSoFar) -> Option<Hour> {
        let first_open = state.watermark(cursor.watermark).next();
        let since =
            self.start.since.filter(|since| self.early_seal.is_some() || !state.begins_after(*since))?;
        Some(
            self.early_seal
                .map_or_else(|| Hour::containing(since).max(first_open), |early| early.last.next()),
        )
    }

    /// The customer under its new identity.
    pub(super) fn applied_to(self, state: &CustomerState, identity: Identity) -> CustomerState {
        let Self { start, replaced, sealed_through, early_seal } = self;
        let is_sealed = |hour| early_seal.is_some_and(|early: EarlySeal| early.covers(hour));
        CustomerState {
            identity,
            since: start.since,
            by_arrival: start.by_arrival,
            replaced,
            sealed_through,
            doubtful: state.doubtful.filter(|hour| !is_sealed(*hour)),
            ..state.clone()
        }
    }
}

impl CustomerState {
    /// Whether another identity is of the kind of its own, so that that one gives way to it.
    pub(crate) fn gives_way_to(&self, identity: &Identity) -> bool {
        *identity != self.identity && identity.mode() == self.identity.mode()
    }

    /// How its identity gives way to another of its kind; `None` if the terms have no such one.
    pub(crate) fn replacement(
        &self,
        terms: &NewTerms,
        cursor: SealedSoFar,
    ) -> Result<Option<Replacement>, RegistrationRefused> {
        if !self.gives_way_to(&terms.identity) {
            return Ok(None);
        }
        if cursor.is_sealing {
            return Err(RegistrationRefused::Sealing);
        }
        let own = self.watermark(cursor.watermark);
        let since = terms.since.unwrap_or(terms.now);
        let hour = Hour::containing(since);
        if hour > own && self.replaced.iter().any(|replaced| replaced.until > hour) {
            return Err(RegistrationRefused::BeforeAnother { since });
        }
        let taken = self.taken_by(&terms.identity).filter(|until| *until >= hour && *until > own);
        let early_seal = self.early_seal(since, terms.now, own, taken)?;
        let mut replaced = self.replaced.clone();
        let has_open_hours = hour > own && !self.begins_after(since);
        if has_open_hours || own > cursor.watermark || early_seal.is_some() {
            let until = early_seal.map_or(own, |early| early.last).max(own).max(hour);
            replaced.push(Replaced { identity: self.identity.clone(), start: self.start(), until });
        }
        if replaced.len() > MOST_REPLACED {
            return Err(RegistrationRefused::TooManyReplaced);
        }
        let start = Start { since: Some(since), by_arrival: terms.since.is_none() };
        Ok(Some(Replacement { start, replaced, sealed_through: taken.max(self.sealed_through), early_seal }))
    }

    /// `taken`: the hour of which the new identity has a record already, since it comes back. Then all of the customer's
    /// hours up to that one are sealed, and what comes counts in the next one: else a slot would be filled twice.
    fn early_seal(
        &self,
        since: Timestamp,
        now: Timestamp,
        own: Hour,
        taken: Option<Hour>,
    ) -> Result<Option<EarlySeal>, RegistrationRefused> {
        let hour = Hour::containing(since);
        let has_part = hour > own && since > hour.start() && !self.begins_after(since);
        if !has_part && taken.is_none() {
            return Ok(None);
        }
        // Whoever registers it tells whole seconds.
        if since.seconds() > now.seconds() {
            return Err(RegistrationRefused::SinceAhead { since });
        }
        let (first, last) = taken.map_or((hour, hour), |taken| (own.next(), taken.max(hour)));
        Ok(Some(EarlySeal { first, last, is_shared: since.seconds() < now.seconds() }))
    }

    /// Whether the identity that it has now begins inside an hour, and not before `since`: it has been registered by
    /// mistake, and has no time of its own.
    fn begins_after(&self, since: Timestamp) -> bool {
        self.since.is_some_and(|its| its >= since && its > Hour::containing(since).start())
    }

    /// The last hour of which an identity that it has given up has a record.
    fn taken_by(&self, identity: &Identity) -> Option<Hour> {
        let records = self.replaced.iter().filter(|replaced| replaced.identity == *identity);
        records.map(|replaced| replaced.until).max()
    }

    /// The hour of a new `since`, if usage was counted in it that may be from before.
    pub(super) fn doubtful_after(&self, terms: &NewTerms) -> Option<Hour> {
        let Some(since) = terms.since.filter(|since| self.since != Some(*since)) else {
            return self.doubtful;
        };
        let hour = Hour::containing(since);
        let begins_later = |its: Timestamp| since < its && its < hour.end();
        if !self.by_arrival && self.since.is_some_and(begins_later) {
            // Nothing from before that was taken since then.
            return self.doubtful;
        }
        (terms.is_used && since > hour.start()).then_some(hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::customer::transition::Transition;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(&format!("{text}:00:00")))
    }

    fn license(name: &str) -> Identity {
        Identity::License { account_id: "000000000001".into(), license_arn: name.into() }
    }

    /// Everyone's hours are sealed up to nine.
    const CURSOR: SealedSoFar = SealedSoFar { watermark: Hour::from_index(498_705), is_sealing: false };

    fn first() -> CustomerState {
        CustomerState::new(license("l-1"), None, hour("08"))
    }

    fn terms(name: &str, since: Option<&str>, now: &str) -> NewTerms {
        let now = at(now);
        let since = since.map(at);
        NewTerms {
            identity: license(name),
            since,
            now,
            hour: Hour::containing(now),
            reopens: false,
            is_used: true,
        }
    }

    fn put(state: &CustomerState, name: &str, since: Option<&str>, now: &str) -> CustomerState {
        match state.register(terms(name, since, now), CURSOR).unwrap() {
            Transition::Changed { state, .. } => state,
            Transition::Unchanged => state.clone(),
        }
    }

    fn plan(state: &CustomerState, name: &str, since: Option<&str>, now: &str) -> Replacement {
        state.replacement(&terms(name, since, now), CURSOR).unwrap().unwrap()
    }

    /// The sealed hours, and a star if the last one is shared.
    fn sealed(state: &CustomerState, name: &str, since: Option<&str>, now: &str) -> String {
        plan(state, name, since, now).early_seal.map_or_else(
            || "-".to_owned(),
            |early| {
                let clock = |hour: Hour| hour.start().to_string()[11..13].to_owned();
                format!(
                    "{}-{}{}",
                    clock(early.first),
                    clock(early.last),
                    if early.is_shared { "*" } else { "" }
                )
            },
        )
    }

    fn names(state: &CustomerState, from: &str, to: &str) -> Vec<String> {
        let hours = (hour(from).index()..=hour(to).index()).map(Hour::from_index);
        let name = |identity: &Identity| identity.fields().license_arn.to_owned();
        hours.map(|hour| name(state.identity_in(hour))).collect()
    }

    #[test]
    fn the_watermark_is_nine() {
        assert_eq!(CURSOR.watermark, hour("09"));
    }

    #[test]
    fn the_old_identitys_part_of_the_hour_is_sealed_and_is_in_doubt_only_if_the_change_lies_in_the_past() {
        for (since, now, expected) in [
            (None, "10:40:00", "10-10"),
            (Some("10:40:00"), "10:40:00.700", "10-10"),
            (Some("10:30:00"), "10:40:00", "10-10*"),
            (Some("10:00:00"), "10:40:00", "-"),
            (Some("09:30:00"), "10:40:00", "-"),
            (Some("10:30:00"), "11:02:00", "10-10*"),
            (Some("11:00:00"), "11:02:00", "-"),
            (Some("12:00:00"), "11:02:00", "-"),
            (None, "11:02:00", "11-11"),
        ] {
            assert_eq!(sealed(&first(), "l-2", since, now), expected, "{since:?} {now}");
        }
    }

    #[test]
    fn earlier_hours_that_are_open_stay_the_old_identitys() {
        let second = put(&first(), "l-2", None, "11:02:00");
        assert_eq!(names(&second, "10", "12"), ["l-1", "l-2", "l-2"]);
        assert_eq!((second.since, second.by_arrival), (Some(at("11:02:00")), true));
        let third = put(&second, "l-3", None, "11:03:00");
        assert_eq!(names(&third, "10", "11"), ["l-1", "l-3"]);
        let ahead = put(&first(), "l-2", Some("12:00:00"), "11:02:00");
        assert_eq!(names(&ahead, "10", "12"), ["l-1", "l-1", "l-2"]);
        let past = put(&first(), "l-2", Some("09:30:00"), "11:02:00");
        assert_eq!(names(&past, "10", "12"), ["l-2"; 3]);
        assert_eq!(past.replaced, [], "no open hour is its own, and none of its slots is taken");
    }

    #[test]
    fn each_part_begins_where_the_one_before_ends() {
        let old = CustomerState { since: Some(at("10:10:00")), ..first() };
        let new = put(&old, "l-2", None, "11:02:00");
        let begins = |clock| new.start_in(hour(clock)).since;
        assert_eq!([begins("10"), begins("11")], [Some(at("10:10:00")), Some(at("11:02:00"))]);
    }

    #[test]
    fn an_identity_that_was_registered_by_mistake_gives_way_without_a_record() {
        let wrong = put(&first(), "l-x", None, "10:20:00");
        for since in ["10:20:00", "10:10:00", "09:10:00"] {
            assert_eq!(sealed(&wrong, "l-2", Some(since), "10:40:00"), "-");
            let mended = put(&wrong, "l-2", Some(since), "10:40:00");
            assert_eq!(mended.replaced, wrong.replaced, "the first one's slots are taken all the same");
        }
        assert_eq!(sealed(&wrong, "l-2", None, "10:40:00"), "10-10");
    }

    #[test]
    fn one_that_comes_back_in_its_last_hour_goes_on_in_the_next_one() {
        let second = put(&first(), "l-2", None, "10:20:00");
        for (since, expected) in [(None, "10-10"), (Some("10:20:00"), "10-10*"), (Some("08:00:00"), "10-10*")]
        {
            assert_eq!(sealed(&second, "l-1", since, "10:40:00"), expected);
            let back = put(&second, "l-1", since, "10:40:00");
            assert_eq!(back.sealed_through, Some(hour("10")));
            let names: Vec<_> =
                back.replaced.iter().map(|replaced| replaced.identity.fields().license_arn).collect();
            assert_eq!(names, ["l-1", "l-2"], "{since:?}");
        }
        // Ten is still open then: its part of ten is sealed, and eleven is free for it.
        let back = put(&second, "l-1", None, "11:02:00");
        assert_eq!(
            (names(&back, "10", "11"), back.sealed_through),
            (vec!["l-2".to_owned(), "l-1".to_owned()], None)
        );
    }

    #[test]
    fn a_closed_customers_slots_stay_reserved_and_the_new_license_goes_on_after_them() {
        let closed = CustomerState { sealed_through: Some(hour("10")), ..first() };
        assert_eq!(sealed(&closed, "l-2", None, "10:40:00"), "-");
        let new = put(&closed, "l-2", None, "10:40:00");
        assert_eq!((new.replaced[0].until, new.sealed_through), (hour("10"), Some(hour("10"))));
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let refused = |state: &CustomerState, since, now| {
            state.replacement(&terms("l-3", Some(since), now), CURSOR).unwrap_err()
        };
        let since = at("10:50:00");
        assert_eq!(refused(&first(), "10:50:00", "10:40:00"), RegistrationRefused::SinceAhead { since });
        let later = put(&first(), "l-2", Some("11:00:00"), "11:02:00");
        let since = at("10:30:00");
        assert_eq!(refused(&later, "10:30:00", "11:03:00"), RegistrationRefused::BeforeAnother { since });
        let sealing = SealedSoFar { is_sealing: true, ..CURSOR };
        let refused = first().replacement(&terms("l-2", None, "10:40:00"), sealing).unwrap_err();
        assert_eq!(refused, RegistrationRefused::Sealing);
    }

    #[test]
    fn no_one_is_replaced_for_ever() {
        let mut state = first();
        for number in 2..10 {
            state = put(&state, &format!("l-{number}"), None, &format!("10:4{number}:00"));
        }
        let refused = state.register(terms("l-10", None, "10:50:00"), CURSOR).unwrap_err();
        assert_eq!(refused, RegistrationRefused::TooManyReplaced);
    }

    #[test]
    fn a_start_inside_an_hour_is_in_doubt_if_something_was_counted_before_it_was_known() {
        let doubtful = |since, is_used| {
            let terms = NewTerms { is_used, ..terms("l-1", Some(since), "10:40:00") };
            let Transition::Changed { state, .. } = first().register(terms, CURSOR).unwrap() else {
                panic!()
            };
            state.doubtful
        };
        assert_eq!(doubtful("10:30:00", true), Some(hour("10")));
        assert_eq!(doubtful("10:30:00", false), None);
        assert_eq!(doubtful("10:00:00", true), None, "all of the hour is of its time");
        let known = put(&first(), "l-1", Some("10:30:00"), "10:40:00");
        assert_eq!(put(&known, "l-1", Some("10:30:00"), "10:50:00"), known, "it was known by then");
        let mended =
            |since| put(&CustomerState { doubtful: None, ..known.clone() }, "l-1", Some(since), "10:50:00");
        assert_eq!(mended("10:20:00").doubtful, None, "nothing from before half past was taken");
        assert_eq!(mended("10:35:00").doubtful, Some(hour("10")));
        let moment = put(&first(), "l-2", None, "10:40:00");
        assert_eq!(put(&moment, "l-2", Some("10:20:00"), "10:50:00").doubtful, Some(hour("10")));
        assert_eq!(put(&known, "l-2", None, "10:50:00").doubtful, None, "its part is sealed");
        assert_eq!(put(&known, "l-2", Some("10:30:00"), "10:50:00").doubtful, Some(hour("10")));
    }
}
