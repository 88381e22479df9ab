//! The known customers.

use std::sync::Arc;

use prost::Message;

use crate::{
    domain::{
        customer::{
            identity::{Identity, IdentityFields, IdentityMode},
            standing::{Origin, Verification},
            state::{CustomerState, Subscription},
            tenure::{Replaced, Start},
        },
        time::{Hour, Timestamp},
    },
    store::{TableId, table::Table, value::Protobuf},
};

pub(crate) struct CustomerRows;

impl Table for CustomerRows {
    const ID: TableId = TableId::Customers;
    const WHAT: &'static str = "customer";
    /// The product code and the customer's key.
    type Key<'k> = (&'k str, &'k str);
    type Value = CustomerState;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredIdentity {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(string, tag = "2")]
    account_id: String,
    #[prost(string, tag = "3")]
    license_arn: String,
    #[prost(string, tag = "4")]
    customer_identifier: String,
}

impl From<&Identity> for StoredIdentity {
    fn from(identity: &Identity) -> Self {
        let fields = identity.fields();
        Self {
            mode: mode_number(identity.mode()),
            account_id: fields.account_id.to_owned(),
            license_arn: fields.license_arn.to_owned(),
            customer_identifier: fields.customer_identifier.to_owned(),
        }
    }
}

pub(super) const fn mode_number(mode: IdentityMode) -> u32 {
    match mode {
        IdentityMode::License => 1,
        IdentityMode::Account => 2,
        IdentityMode::CustomerIdentifier => 3,
    }
}

pub(super) fn mode(number: u32) -> Result<IdentityMode, String> {
    match number {
        1 => Ok(IdentityMode::License),
        2 => Ok(IdentityMode::Account),
        3 => Ok(IdentityMode::CustomerIdentifier),
        other => Err(format!("unknown identity mode {other}")),
    }
}

pub(super) fn identity(stored: Option<&StoredIdentity>) -> Result<Identity, String> {
    let stored = stored.ok_or("it has no identity")?;
    let mode = mode(stored.mode)?;
    let fields = IdentityFields {
        account_id: &stored.account_id,
        license_arn: &stored.license_arn,
        customer_identifier: &stored.customer_identifier,
    };
    Identity::from_fields(mode, fields)
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredCustomerState {
    #[prost(message, optional, tag = "1")]
    identity: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "2")]
    since_millis: Option<i64>,
    #[prost(uint32, tag = "3")]
    first_hour: u32,
    #[prost(message, optional, tag = "4")]
    former: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "5")]
    closing_noticed_millis: Option<i64>,
    #[prost(bool, tag = "6")]
    closing_is_sealed: bool,
    #[prost(uint32, optional, tag = "7")]
    sealed_through: Option<u32>,
    #[prost(bool, tag = "8")]
    not_subscribed: bool,
    /// 0 unverified, 1 verified, 2 refused.
    #[prost(uint32, tag = "9")]
    verification: u32,
    /// Absent for a customer that was registered.
    #[prost(message, optional, tag = "10")]
    self_named: Option<StoredNaming>,
    /// Since no one has said since when.
    #[prost(bool, tag = "20")]
    by_arrival: bool,
    #[prost(message, repeated, tag = "21")]
    replaced: Vec<StoredReplaced>,
    #[prost(uint32, optional, tag = "22")]
    doubtful: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredReplaced {
    #[prost(message, optional, tag = "1")]
    identity: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "2")]
    since_millis: Option<i64>,
    #[prost(bool, tag = "3")]
    by_arrival: bool,
    #[prost(uint32, tag = "4")]
    until: u32,
}

impl From<&Replaced> for StoredReplaced {
    fn from(replaced: &Replaced) -> Self {
        let Replaced { identity, start: Start { since, by_arrival }, until } = replaced;
        Self {
            identity: Some(identity.into()),
            since_millis: since.map(Timestamp::millis),
            by_arrival: *by_arrival,
            until: until.index(),
        }
    }
}

/// How usage has named a customer.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredNaming {
    /// The client that sent it; empty for none in particular.
    #[prost(string, tag = "1")]
    by: String,
}

impl From<&Origin> for Option<StoredNaming> {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Registered => None,
            Origin::SelfNamed { by } => {
                Some(StoredNaming { by: by.as_deref().unwrap_or_default().to_owned() })
            }
        }
    }
}

fn replaced(stored: &StoredReplaced) -> Result<Replaced, String> {
    let since = stored.since_millis.map(Timestamp::from_millis);
    Ok(Replaced {
        identity: identity(stored.identity.as_ref())?,
        start: Start { since, by_arrival: stored.by_arrival },
        until: Hour::from_index(stored.until),
    })
}

impl From<Option<StoredNaming>> for Origin {
    fn from(stored: Option<StoredNaming>) -> Self {
        let by = |by: String| Some(by).filter(|by| !by.is_empty()).map(Arc::from);
        stored.map_or(Self::Registered, |naming| Self::SelfNamed { by: by(naming.by) })
    }
}

const fn verification_number(verification: Verification) -> u32 {
    match verification {
        Verification::Unverified => 0,
        Verification::Verified => 1,
        Verification::Refused => 2,
    }
}

fn verification(number: u32) -> Result<Verification, String> {
    match number {
        0 => Ok(Verification::Unverified),
        1 => Ok(Verification::Verified),
        2 => Ok(Verification::Refused),
        other => Err(format!("unknown verification {other}")),
    }
}

impl Protobuf for CustomerState {
    type Stored = StoredCustomerState;

    fn to_stored(&self) -> StoredCustomerState {
        StoredCustomerState {
            identity: Some((&self.identity).into()),
            since_millis: self.since.map(Timestamp::millis),
            first_hour: self.first_hour.index(),
            former: self.former.as_ref().map(Into::into),
            closing_noticed_millis: self.subscription.noticed().map(Timestamp::millis),
            closing_is_sealed: self.subscription.is_closed(),
            sealed_through: self.sealed_through.map(Hour::index),
            not_subscribed: self.subscription.not_subscribed(),
            by_arrival: self.by_arrival,
            replaced: self.replaced.iter().map(Into::into).collect(),
            doubtful: self.doubtful.map(Hour::index),
            verification: verification_number(self.verification),
            self_named: (&self.origin).into(),
        }
    }

    fn from_stored(stored: StoredCustomerState) -> Result<Self, String> {
        let former = stored.former.as_ref().map(|former| identity(Some(former))).transpose()?;
        let not_subscribed = stored.not_subscribed;
        let subscription = match stored.closing_noticed_millis.map(Timestamp::from_millis) {
            Some(noticed) if stored.closing_is_sealed => Subscription::Closed { noticed, not_subscribed },
            Some(noticed) => Subscription::Closing { noticed, not_subscribed },
            None if not_subscribed => Subscription::NotSubscribed,
            None => Subscription::Active,
        };
        Ok(Self {
            identity: identity(stored.identity.as_ref())?,
            former,
            since: stored.since_millis.map(Timestamp::from_millis),
            by_arrival: stored.by_arrival,
            replaced: stored.replaced.iter().map(replaced).collect::<Result<_, _>>()?,
            doubtful: stored.doubtful.map(Hour::from_index),
            first_hour: Hour::from_index(stored.first_hour),
            sealed_through: stored.sealed_through.map(Hour::from_index),
            subscription,
            verification: verification(stored.verification)?,
            origin: stored.self_named.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::value::Value;

    /// Version 1; field 1: the account 123456789012; field 3: hour 498 704, which is 2026-11-22T08:00:00Z.
    const ACCOUNT: &[u8] = b"\x01\x0a\x10\x08\x02\x12\x0c123456789012\x18\x90\xb8\x1e";
    /// Field 5: 2026-11-22T09:50:00Z in milliseconds.
    const NOTICED: &[u8] = b"\x28\xc0\xba\xa6\x95\xa0\x34";
    const IS_SEALED: &[u8] = b"\x30\x01";
    /// Field 7: hour 498 705.
    const SEALED_THROUGH_NINE: &[u8] = b"\x38\x91\xb8\x1e";
    const NOT_SUBSCRIBED: &[u8] = b"\x40\x01";

    fn account() -> Identity {
        Identity::Account { account_id: "123456789012".into() }
    }

    fn customer() -> CustomerState {
        CustomerState::new(account(), None, Hour::from_index(498_704))
    }

    fn is_stored_as(state: &CustomerState, row: &[&[u8]]) {
        let row = row.concat();
        assert_eq!(state.encode(), row, "{state:?}");
        assert_eq!(CustomerState::decode(&row).unwrap(), *state);
    }

    #[test]
    fn each_state_of_a_subscription_has_its_bytes() {
        let (noticed, nine) = ("2026-11-22T09:50:00Z".parse().unwrap(), Hour::from_index(498_705));
        let unsealed = |subscription| CustomerState { subscription, ..customer() };
        let sealed = |subscription| CustomerState { subscription, sealed_through: Some(nine), ..customer() };
        let closing = |not_subscribed| Subscription::Closing { noticed, not_subscribed };
        let closed = |not_subscribed| Subscription::Closed { noticed, not_subscribed };

        is_stored_as(&unsealed(Subscription::Active), &[ACCOUNT]);
        is_stored_as(&unsealed(Subscription::NotSubscribed), &[ACCOUNT, NOT_SUBSCRIBED]);
        is_stored_as(&unsealed(closing(false)), &[ACCOUNT, NOTICED]);
        is_stored_as(&unsealed(closing(true)), &[ACCOUNT, NOTICED, NOT_SUBSCRIBED]);

        let row = [ACCOUNT, NOTICED, IS_SEALED, SEALED_THROUGH_NINE];
        is_stored_as(&sealed(closed(false)), &row);
        is_stored_as(&sealed(closed(true)), &[&row[..], &[NOT_SUBSCRIBED]].concat());
        is_stored_as(&sealed(Subscription::Active), &[ACCOUNT, SEALED_THROUGH_NINE]);
        is_stored_as(&sealed(closing(false)), &[ACCOUNT, NOTICED, SEALED_THROUGH_NINE]);
    }

    #[test]
    fn each_identity_has_its_bytes() {
        let license_arn = "arn:aws:license-manager::123456789012:license:l-1".into();
        let license = CustomerState {
            identity: Identity::License { account_id: "123456789012".into(), license_arn },
            former: Some(account()),
            since: Some("2026-11-22T08:10:00Z".parse().unwrap()),
            ..customer()
        };
        let row: &[u8] = b"\x01\x0a\x43\x08\x01\x12\x0c123456789012\
            \x1a\x31arn:aws:license-manager::123456789012:license:l-1\
            \x10\xc0\x9f\xb8\x92\xa0\x34\x18\x90\xb8\x1e\x22\x10\x08\x02\x12\x0c123456789012";
        is_stored_as(&license, &[row]);
        let identity = Identity::CustomerIdentifier { customer_identifier: "abc".into() };
        is_stored_as(
            &CustomerState { identity, ..customer() },
            &[b"\x01\x0a\x07\x08\x03\x22\x03abc\x18\x90\xb8\x1e"],
        );
    }

    /// A row of a folder that is older than these fields says nothing of them: the customer was registered, for all that
    /// is known, and AWS has yet to answer.
    #[test]
    fn what_aws_said_of_a_customer_and_who_has_named_it_have_their_bytes() {
        let verified = |verification| CustomerState { verification, ..customer() };
        is_stored_as(&verified(Verification::Unverified), &[ACCOUNT]);
        is_stored_as(&verified(Verification::Verified), &[ACCOUNT, b"\x48\x01"]);
        is_stored_as(&verified(Verification::Refused), &[ACCOUNT, b"\x48\x02"]);
        let named = |by: Option<&str>| CustomerState {
            origin: Origin::SelfNamed { by: by.map(Arc::from) },
            ..customer()
        };
        is_stored_as(&named(None), &[ACCOUNT, b"\x52\x00"]);
        is_stored_as(&named(Some("app")), &[ACCOUNT, b"\x52\x05\x0a\x03app"]);
        let unknown = CustomerState::decode(&[ACCOUNT, b"\x48\x03"].concat());
        assert_eq!(unknown, Err("unknown verification 3".to_owned()));
    }

    #[test]
    fn an_identity_that_gave_way_has_its_bytes_and_one_that_did_not_has_none() {
        let start = Start { since: Some(Timestamp::from_millis(300)), by_arrival: true };
        let replaced = vec![Replaced { identity: account(), start, until: Hour::from_index(498_705) }];
        let state = CustomerState { replaced, ..customer() };
        let row: &[u8] =
            b"\xaa\x01\x1b\x0a\x10\x08\x02\x12\x0c123456789012\x10\xac\x02\x18\x01\x20\x91\xb8\x1e";
        is_stored_as(&state, &[ACCOUNT, row]);
        let doubtful = Some(Hour::from_index(498_705));
        is_stored_as(
            &CustomerState { by_arrival: true, doubtful, ..customer() },
            &[ACCOUNT, b"\xa0\x01\x01", b"\xb0\x01\x91\xb8\x1e"],
        );
    }

    #[test]
    fn a_seal_without_a_notice_closes_nothing() {
        assert_eq!(CustomerState::decode(&[ACCOUNT, IS_SEALED].concat()).unwrap(), customer());
    }
}
