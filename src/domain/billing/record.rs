//! Records: sealed, frozen lines for AWS, and what became of them.

use std::{fmt, sync::Arc};

use crate::domain::{
    customer::{identity::Identity, standing::Standing},
    time::{Hour, Timestamp},
    usage::{
        bucket::{Carried, Carry},
        quantity::Quantity,
        tags::{TagSet, Tagged},
    },
};

/// Numbers records in the order in which they were sealed, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One line for AWS. Frozen at the seal: every attempt repeats it exactly (I2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: RecordId,
    pub product: Arc<str>,
    pub customer: Arc<str>,
    pub dimension: Arc<str>,
    pub identity: Identity,
    pub hour: Hour,
    /// The moment that AWS is told: the hour's start, or the subscription's start inside the hour.
    pub timestamp: Timestamp,
    pub quantity: Quantity,
    /// Whether AWS is told `QuantityAsDecimal` rather than `Quantity`.
    pub decimal: bool,
    /// How the quantity is split by tags; empty if none of it has any. Else the sum is exactly the quantity.
    pub allocations: Vec<Allocation>,
    pub amounts: Amounts,
}

/// A part of a record's quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// `None` for the untagged part.
    pub tags: Option<TagSet>,
    pub quantity: Quantity,
    /// The same in base units.
    pub billed: u128,
}

impl Record {
    /// What makes AWS take two records for the same one (I6).
    pub fn slot(&self) -> Slot {
        Slot { identity: self.identity.clone(), dimension: self.dimension.clone(), hour: self.hour }
    }

    /// Whether losing this record would lose usage.
    pub const fn bills_something(&self) -> bool {
        self.amounts.billed > 0
    }
}

/// Where a record's base units came from and went: `usage + carried_in + rounded = billed + carried_out`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub usage: u128,
    pub events: u64,
    pub carried_in: Carried,
    pub billed: u128,
    /// What it leaves to the next hour, or, if it was held at its seal, withholds until someone decides.
    pub carried_out: u128,
    /// What rounding added, or, below zero, took away: less than what AWS can be told at all.
    pub rounded: i128,
}

/// AWS's key, within one product: the first quantity for it wins for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub identity: Identity,
    pub dimension: Arc<str>,
    pub hour: Hour,
}

/// What has been tried for a record that AWS has not accepted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub attempts: u32,
    /// An attempt may have reached AWS without its answer reaching us. Set on disk before each attempt.
    pub outcome_unknown: bool,
    pub next_attempt: Timestamp,
    pub last_error: Arc<str>,
}

impl Delivery {
    /// The state that is on disk while an attempt is under way: should the process die now, the outcome is unknown.
    #[must_use]
    pub fn attempted(&self) -> Self {
        Self { attempts: self.attempts.saturating_add(1), outcome_unknown: true, ..self.clone() }
    }
}

/// How a record left the pending ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// AWS accepted it. `presumed` if AWS called it a duplicate after an attempt whose answer had been lost.
    Accepted { receipt: Arc<str>, presumed: bool },
    /// The record waits for a person.
    Held { reason: HoldReason, detail: Arc<str> },
    /// It missed its deadline; what it would have billed was moved into `into`.
    RolledForward { into: Hour },
    /// A zero record missed its deadline, or its customer has no subscription: there was nothing to bill.
    Expired,
    /// A person moved what it would have billed into `into`.
    Carried { into: Hour },
    /// A person gave up what it would have billed.
    WrittenOff,
}

impl Outcome {
    /// Whether the record's usage went into a later hour's bucket.
    pub const fn moved_on(&self) -> bool {
        matches!(self, Self::RolledForward { .. } | Self::Carried { .. })
    }

    /// The standing of its customer that AWS's answer tells, if it tells of one.
    pub(crate) const fn standing(&self) -> Option<Standing> {
        match self {
            Self::Accepted { .. } => Some(Standing::Verified),
            Self::Held { reason: HoldReason::UnknownCustomer, .. } => Some(Standing::Refused),
            Self::Held { .. }
            | Self::RolledForward { .. }
            | Self::Expired
            | Self::Carried { .. }
            | Self::WrittenOff => None,
        }
    }
}

/// A record that is no longer pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub record: Record,
    pub attempts: u32,
    pub outcome: Outcome,
    pub at: Timestamp,
    /// What a record that was held at its seal leaves beyond what it bills, above AWS's largest quantity say. It goes
    /// nowhere without a decision about the record, and is decided about with it.
    pub withheld: Carry,
}

impl Settled {
    /// The amount at stake, in base units: what the record bills, and what is withheld with it.
    pub fn amount(&self) -> u128 {
        self.record.amounts.billed.saturating_add(self.withheld.origins.total())
    }

    /// What goes into a later hour if its usage does.
    pub(crate) fn moved(&self) -> Carry {
        let mut moved = rolled(&self.record);
        moved.merge(&self.withheld);
        moved
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// AWS says that the customer has no subscription.
    NotSubscribed,
    /// AWS has another quantity for this slot, and it is not ours.
    Conflict,
    /// AWS refused the record itself.
    Refused,
    /// The usage came after the customer's last hour was sealed.
    NotBillable,
    /// The product's identity has changed, and the customer is not registered under the new one.
    NoIdentity,
    /// It missed its deadline, and the configuration asks to hold such records.
    Missed,
    /// It was refused or missed its deadline after an attempt without an answer: to bill it elsewhere could bill it
    /// twice.
    OutcomeUnknown,
    /// Some of it may be from before the customer's `since`.
    BeforeSince,
    /// The customer's identity was replaced inside the hour, and some of it may be the new one's.
    Replaced,
    /// The hour's usage is above what the configuration takes for possible. It was not sent yet.
    Suspicious,
    /// AWS does not know the customer's identity, or not for the record's hour.
    UnknownCustomer,
}

impl HoldReason {
    pub const ALL: [Self; 11] = [
        Self::NotSubscribed,
        Self::Conflict,
        Self::Refused,
        Self::NotBillable,
        Self::NoIdentity,
        Self::Missed,
        Self::OutcomeUnknown,
        Self::BeforeSince,
        Self::Replaced,
        Self::Suspicious,
        Self::UnknownCustomer,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSubscribed => "not_subscribed",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::NotBillable => "not_billable",
            Self::NoIdentity => "no_identity",
            Self::Missed => "missed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::BeforeSince => "before_since",
            Self::Replaced => "replaced",
            Self::Suspicious => "suspicious",
            Self::UnknownCustomer => "unknown_customer",
        }
    }
}

/// What happens to a record that misses its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedPolicy {
    RollForward,
    Hold,
}

/// Decides what becomes of a record whose deadline has passed; `current` is the hour that takes what rolls forward.
///
/// A record whose last outcome is unknown is never rolled forward: AWS may have billed it already.
pub(crate) fn missed(record: &Record, delivery: &Delivery, policy: MissedPolicy, current: Hour) -> Outcome {
    let held = |reason| Outcome::Held { reason, detail: delivery.last_error.clone() };
    match (record.bills_something(), delivery.outcome_unknown, policy) {
        (false, _, _) => Outcome::Expired,
        (true, true, _) => held(HoldReason::OutcomeUnknown),
        (true, false, MissedPolicy::Hold) => held(HoldReason::Missed),
        (true, false, MissedPolicy::RollForward) => Outcome::RolledForward { into: current },
    }
}

/// What leaves with a record that rolls forward or is carried, by origin: first what it carried itself, then its own
/// hour's usage.
pub(crate) fn rolled(record: &Record) -> Carry {
    // What it carried on at its seal has gone its own way; the oldest origins are the ones that this record bills.
    let Amounts { usage, carried_in, billed, .. } = &record.amounts;
    let mut all = carried_in.clone();
    all.add(record.hour, *usage);
    let unbilled = all.newest(all.total().saturating_sub(*billed));
    let origins = all.without(&unbilled);
    let parts = record.allocations.iter();
    let tagged = parts.filter_map(|part| Some((part.tags.as_ref()?, part.billed))).collect();
    Carry { tagged: without_rounding(tagged, origins.total()), origins, level: None }
}

/// What rounding added to the tagged parts was never used: the largest ones give it back.
fn without_rounding(mut parts: Vec<(&TagSet, u128)>, used: u128) -> Tagged {
    let total = parts.iter().fold(0_u128, |sum, (_, amount)| sum.saturating_add(*amount));
    let mut excess = total.saturating_sub(used);
    parts.sort_by(|(_, a), (_, b)| b.cmp(a));
    for (_, amount) in &mut parts {
        let given_back = excess.min(*amount);
        *amount = amount.saturating_sub(given_back);
        excess = excess.saturating_sub(given_back);
    }
    parts.into_iter().filter(|(_, amount)| *amount > 0).collect()
}

/// A person's decision about a held record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub kind: DecisionKind,
    /// Why, in the person's words.
    pub reason: Arc<str>,
    /// Who, in the person's words.
    pub by: Arc<str>,
    /// The `[[grpc.client]]` that proved itself when it sent this. Empty where clients are not told apart.
    pub client: Arc<str>,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionKind {
    /// Send it again, exactly as it is.
    Retry,
    /// Bill its usage with the current hour.
    Carry,
    /// Do not bill it.
    WriteOff,
}

impl DecisionKind {
    pub const ALL: [Self; 3] = [Self::Retry, Self::Carry, Self::WriteOff];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Carry => "carry",
            Self::WriteOff => "write_off",
        }
    }
}

/// A person's decision about a held record, with the amount at stake. It outlives the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub record: RecordId,
    pub product: String,
    pub customer: String,
    pub dimension: String,
    pub hour: Hour,
    /// The amount at stake, in base units.
    pub amount: u128,
    pub held_for: HoldReason,
    pub decision: Decision,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::usage::tags::tests::tag_set;
    use proptest::prelude::*;

    pub(crate) fn sample(id: u64) -> Record {
        Record {
            id: RecordId(id),
            product: "prod".into(),
            customer: "acme".into(),
            dimension: "requests".into(),
            identity: Identity::Account { account_id: "123456789012".into() },
            hour: Hour::from_index(498_000),
            timestamp: Hour::from_index(498_000).start(),
            quantity: "5".parse().unwrap(),
            decimal: false,
            allocations: Vec::new(),
            amounts: Amounts { usage: 5, events: 1, billed: 5, ..Amounts::default() },
        }
    }

    #[test]
    fn an_attempt_is_counted_before_it_is_made() {
        let before = Delivery { attempts: 3, ..Delivery::default() };
        assert_eq!(before.attempted(), Delivery { attempts: 4, outcome_unknown: true, ..before });
    }

    #[test]
    fn what_goes_to_a_later_hour_has_moved_on() {
        let into = Hour::from_index(1);
        assert!(Outcome::RolledForward { into }.moved_on() && Outcome::Carried { into }.moved_on());
        assert!(!Outcome::Expired.moved_on() && !Outcome::WrittenOff.moved_on());
    }

    /// They are on disk.
    #[test]
    fn reasons_and_decisions_keep_their_names() {
        let reasons = [
            "not_subscribed",
            "conflict",
            "refused",
            "not_billable",
            "no_identity",
            "missed",
            "outcome_unknown",
            "before_since",
            "replaced",
            "suspicious",
            "unknown_customer",
        ];
        assert_eq!(HoldReason::ALL.map(HoldReason::name), reasons);
        assert_eq!(DecisionKind::ALL.map(DecisionKind::name), ["retry", "carry", "write_off"]);
    }

    #[test]
    fn a_lost_answer_is_never_rolled_forward() {
        let lost = Delivery::default().attempted();
        let outcome = missed(&sample(1), &lost, MissedPolicy::RollForward, Hour::from_index(1));
        assert!(matches!(outcome, Outcome::Held { reason: HoldReason::OutcomeUnknown, .. }));
    }

    #[test]
    fn a_missed_zero_expires_and_a_missed_amount_follows_the_policy() {
        let mut zero = sample(1);
        zero.amounts = Amounts::default();
        let (fresh, hour) = (Delivery::default(), Hour::from_index(1));
        assert_eq!(missed(&zero, &fresh, MissedPolicy::Hold, hour), Outcome::Expired);
        assert_eq!(
            missed(&sample(1), &fresh, MissedPolicy::RollForward, hour),
            Outcome::RolledForward { into: hour }
        );
        let held = missed(&sample(1), &fresh, MissedPolicy::Hold, hour);
        assert!(matches!(held, Outcome::Held { reason: HoldReason::Missed, .. }));
    }

    #[test]
    fn no_more_is_tagged_of_what_moves_on_than_was_used() {
        let mut rounded = sample(1);
        let part = |team, billed| Allocation {
            tags: Some(tag_set(&[("team", team)])),
            quantity: rounded.quantity,
            billed,
        };
        rounded.allocations = vec![part("a", 1000), part("b", 2000)];
        rounded.amounts = Amounts { usage: 2600, billed: 3000, rounded: 400, ..Amounts::default() };
        let carry = rolled(&rounded);
        let parts: Vec<u128> = carry.tagged.iter().map(|(_, amount)| amount).collect();
        assert_eq!((carry.origins.total(), parts), (2600, vec![1000, 1600]));
        rounded.amounts.usage = 700;
        let parts: Vec<u128> = rolled(&rounded).tagged.iter().map(|(_, amount)| amount).collect();
        assert_eq!(parts, [700], "nothing is left of the larger one");
    }

    proptest! {
        #[test]
        fn rolling_forward_conserves_what_was_billed(usage in 0..1000_u128, carried in 0..1000_u128, share in 0..=100_u128) {
            let mut record = sample(1);
            let billed = (usage + carried) * share / 100;
            record.amounts = Amounts {
                usage, events: 1, carried_in: Carried::from_origin(Hour::from_index(7), carried),
                billed, carried_out: usage + carried - billed, rounded: 0,
            };
            prop_assert_eq!(rolled(&record).origins.total(), billed);
        }
    }
}
