//! How products' customers are known to AWS, now and before.

use prost::Message;

use super::customers::{mode, mode_number};
use crate::{
    domain::{customer::identity::IdentityMode, product::FormerIdentity, time::Hour},
    store::{TableId, table::Table, value::Protobuf},
};

/// A product has none before its first start.
pub(crate) struct ProductIdentities;

impl Table for ProductIdentities {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "identity/";
    const WHAT: &'static str = "product's identity";
    /// The product code.
    type Key<'k> = &'k str;
    type Value = ProductIdentity;
}

/// How a product's customers are known to AWS, and were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProductIdentity {
    pub mode: IdentityMode,
    pub former: Option<FormerIdentity>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StoredProductIdentity {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(uint32, optional, tag = "2")]
    former_mode: Option<u32>,
    #[prost(uint32, tag = "3")]
    until: u32,
}

impl Protobuf for ProductIdentity {
    type Stored = StoredProductIdentity;

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
