//! Customers, and how their products know them.

use prost::Message;

use super::Value;
use crate::domain::{
    customer::{Closing, FormerIdentity, Standing},
    identity::{Identity, IdentityFields, IdentityMode},
    time::{Hour, Timestamp},
};

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

const fn mode_number(mode: IdentityMode) -> u32 {
    match mode {
        IdentityMode::License => 1,
        IdentityMode::Account => 2,
        IdentityMode::CustomerIdentifier => 3,
    }
}

fn mode(number: u32) -> Result<IdentityMode, String> {
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

/// A customer as the roster keeps it; product and key are in the row's key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredStanding {
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
}

impl Value for Standing {
    type Stored = StoredStanding;
    const WHAT: &'static str = "customer";

    fn to_stored(&self) -> StoredStanding {
        StoredStanding {
            identity: Some((&self.identity).into()),
            since_millis: self.since.map(Timestamp::millis),
            first_hour: self.first_hour.index(),
            former: self.former.as_ref().map(Into::into),
            closing_noticed_millis: self.closing.map(|closing| closing.noticed.millis()),
            closing_is_sealed: self.is_closed(),
            sealed_through: self.sealed_through.map(Hour::index),
            not_subscribed: self.not_subscribed,
        }
    }

    fn from_stored(stored: StoredStanding) -> Result<Self, String> {
        let former = stored.former.as_ref().map(|former| identity(Some(former))).transpose()?;
        let closing = |noticed| Closing {
            noticed: Timestamp::from_millis(noticed),
            is_sealed: stored.closing_is_sealed,
        };
        Ok(Self {
            identity: identity(stored.identity.as_ref())?,
            former,
            since: stored.since_millis.map(Timestamp::from_millis),
            first_hour: Hour::from_index(stored.first_hour),
            closing: stored.closing_noticed_millis.map(closing),
            sealed_through: stored.sealed_through.map(Hour::from_index),
            not_subscribed: stored.not_subscribed,
        })
    }
}

/// How a product's customers are known to AWS, and were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductIdentity {
    pub mode: IdentityMode,
    pub former: Option<FormerIdentity>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredProductIdentity {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(uint32, optional, tag = "2")]
    former_mode: Option<u32>,
    #[prost(uint32, tag = "3")]
    until: u32,
}

impl Value for ProductIdentity {
    type Stored = StoredProductIdentity;
    const WHAT: &'static str = "product's identity";

    fn to_stored(&self) -> StoredProductIdentity {
        StoredProductIdentity {
            mode: mode_number(self.mode),
            former_mode: self.former.map(|former| mode_number(former.mode)),
            until: self.former.map_or(0, |former| former.until.index()),
        }
    }

    fn from_stored(stored: StoredProductIdentity) -> Result<Self, String> {
        let until = Hour::from_index(stored.until);
        let former = stored.former_mode.map(mode).transpose()?;
        let former = former.map(|mode| FormerIdentity { mode, until });
        Ok(Self { mode: mode(stored.mode)?, former })
    }
}
