//! The catalog, customers and permissions that a request is validated against.

use std::{hash::Hasher as _, sync::Arc};

use siphasher::sip128::SipHasher13;

use super::Resolved;
use crate::{
    api::usage::message_digest::DigestKey,
    domain::{
        customer::identity::Identity,
        permission::Permission,
        product::{Catalog, ProductIndex},
        time::Timestamp,
        usage::{
            event::{Measured, Names, RejectReason, TimeRange},
            locate::locate,
        },
    },
    engine::{
        counting::request::{CustomerRef, NewCustomer},
        customers::CustomerTable,
        watermark::Watermarks,
    },
};

/// What is sold, who is billed, and what the client may do.
#[derive(Clone, Copy)]
pub struct ValidationContext<'a> {
    pub catalog: &'a Catalog,
    pub customers: &'a CustomerTable,
    pub range: TimeRange,
    /// Up to which hours usage is sealed.
    pub watermarks: &'a Watermarks,
    pub now: Timestamp,
    pub hasher: Hasher,
    /// What the client may meter for; `None` for everything.
    pub permission: Option<&'a Permission>,
}

impl<'d> ValidationContext<'d> {
    pub(super) fn resolved(&self, names: Names<'_>) -> Result<Resolved<'d>, RejectReason> {
        let located = locate(self.catalog, names, self.permission)?;
        let customer = self.customer(located.product, names.customer)?;
        let since = self.since(&customer);
        Ok(Resolved { located, customer, since, latest: None })
    }

    /// When the present time of a customer begins; the beginning of time if that is not known.
    fn since(&self, customer: &CustomerRef) -> Timestamp {
        let CustomerRef::Known(index) = customer else { return Timestamp::MIN };
        self.customers.since(*index).unwrap_or(Timestamp::MIN)
    }

    /// Refuses an event from before the time of the identity that would be billed for it. It is for one that lies before the
    /// present identity's time: an earlier one's hour may be open.
    pub(super) fn check_since(
        &self,
        resolved: &Resolved<'_>,
        measured: &Measured,
    ) -> Result<(), RejectReason> {
        let CustomerRef::Known(index) = &resolved.customer else { return Ok(()) };
        let (product, at) = (resolved.located.product, (measured.hour, self.now));
        let hour = self.watermarks.open_hour(self.customers, product, Some(*index), at);
        match self.customers.since_after(*index, measured.told, hour) {
            Some(since) => Err(RejectReason::BeforeSince { time: measured.told, since }),
            None => Ok(()),
        }
    }

    /// Finds the customer, or says why an unknown one cannot be billed.
    fn customer(&self, index: ProductIndex, key: &str) -> Result<CustomerRef, RejectReason> {
        if let Some(known) = self.customers.find(index, key) {
            return Ok(CustomerRef::Known(known));
        }
        let unknown = |why: String| RejectReason::UnknownCustomer { customer: key.to_owned(), why };
        let product =
            self.catalog.product(index).ok_or_else(|| unknown("its product is not configured".to_owned()))?;
        if !product.open {
            return Err(unknown(
                "register it first (CustomerService.PutCustomer or [[product.customer]])".to_owned(),
            ));
        }
        let identity: Identity = Identity::from_key(product.identity, key).map_err(unknown)?;
        let taken = self.customers.check_identity(index, key, &identity);
        taken.map_err(|taken| unknown(taken.told_to(index, self.permission)))?;
        Ok(CustomerRef::New(Arc::new(NewCustomer { key: Arc::from(key), identity })))
    }
}

/// Hashes events' identities to 128 bits. Keyed, so that no one can make ids that collide.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    key: u128,
    digest_key: DigestKey,
}

impl Hasher {
    pub const fn new(key: u128) -> Self {
        Self { key, digest_key: DigestKey::new(key) }
    }

    pub(super) const fn digest_key(self) -> DigestKey {
        self.digest_key
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
