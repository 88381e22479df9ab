//! What a request is held against, and what its names mean there.

use std::{hash::Hasher as _, sync::Arc};

use siphasher::sip128::SipHasher13;

use super::Series;
use crate::{
    domain::{
        identity::Identity,
        permission::Permission,
        product::{Catalog, ProductIndex},
        usage::{Names, Refusal, TimeRange, locate},
    },
    work::{
        delta::{CustomerRef, Newcomer},
        roster::Inner as Roster,
    },
};

/// What is sold, who is billed, and what the client may do.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub catalog: &'a Catalog,
    pub roster: &'a Roster,
    pub range: TimeRange,
    pub hasher: Hasher,
    /// What the client may meter for; `None` for everything.
    pub permission: Option<&'a Permission>,
}

impl<'d> Desk<'d> {
    pub(super) fn series(&self, names: Names<'_>) -> Result<Series<'d>, Refusal> {
        let located = locate(self.catalog, names)?;
        if let Some(permission) = self.permission {
            permission.check(located.product, names.customer)?;
        }
        let customer = self.customer(located.product, names.customer)?;
        Ok(Series { located, customer, plain: None })
    }

    /// Finds the customer, or says why an unknown one cannot be billed.
    fn customer(&self, index: ProductIndex, key: &str) -> Result<CustomerRef, Refusal> {
        if let Some(known) = self.roster.find(index, key) {
            return Ok(CustomerRef::Known(known));
        }
        let unknown = |why: String| Refusal::UnknownCustomer { customer: key.to_owned(), why };
        let product =
            self.catalog.product(index).ok_or_else(|| unknown("its product is not configured".to_owned()))?;
        if !product.open {
            return Err(unknown(
                "register it first (CustomerService.PutCustomer or [[product.customer]])".to_owned(),
            ));
        }
        let identity: Identity = Identity::from_key(product.identity, key).map_err(unknown)?;
        self.roster.check_identity(index, key, &identity).map_err(|taken| unknown(taken.to_string()))?;
        Ok(CustomerRef::New(Arc::new(Newcomer { key: Arc::from(key), identity })))
    }
}

/// Hashes events' identities to 128 bits. Keyed, so that no one can make ids that collide.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    key: u128,
}

impl Hasher {
    pub const fn new(key: u128) -> Self {
        Self { key }
    }

    pub(super) fn of(self, names: [&[u8]; 3]) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.key.to_be_bytes());
        for text in names {
            hasher.write_usize(text.len());
            hasher.write(text);
        }
        hasher
    }
}
