//! Who is billed, and until when.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    domain::{
        customer::{Closing, Standing},
        identity::Identity,
        product::ProductIndex,
        record::Record,
        time::{Hour, Timestamp},
    },
    work::roster::{Customer, CustomerIndex, IdentityTaken, Inner},
    worlds::store::{Batch, Table, keys, values::encode},
};

use super::Books;

/// What a registration says of a customer.
#[derive(Clone, Debug)]
pub struct Registration {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub identity: Identity,
    pub since: Option<Timestamp>,
    /// The hour in which it registers.
    pub hour: Hour,
    /// Whether a closing or ended customer subscribes again.
    pub reopens: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    #[error("limits.max_customers ({most}) is reached")]
    TooMany { most: u64 },
    #[error(transparent)]
    Taken(IdentityTaken),
    /// Half of the hour's customers are sealed already: an identity that moves between customers now could fill one
    /// slot twice.
    #[error("an hour is being sealed: change the identity in a moment")]
    Sealing,
    #[error(
        "the customer's hours were sealed early, since it was closing: change its identity once the present hour is sealed"
    )]
    SealedEarly,
}

impl Books {
    /// Adds a customer, or changes the one with its key for the hours that are not sealed yet.
    pub fn put_customer(
        &mut self,
        registration: Registration,
        batch: &mut Batch,
    ) -> Result<CustomerIndex, PutError> {
        let Registration { product, key, identity, since, hour, reopens } = registration;
        let roster = self.roster.clone();
        let mut roster = roster.write();
        let known = roster.find(product, &key).and_then(|index| roster.get(index));
        let standing = match known.map(|customer| customer.standing) {
            Some(known) if known.identity != identity && self.sealing.is_some() => {
                return Err(PutError::Sealing);
            }
            // Another customer could take the identity over, and fill a slot that this one's early seal has filled.
            Some(known) if known.identity != identity && known.watermark(self.watermark) > self.watermark => {
                return Err(PutError::SealedEarly);
            }
            Some(known) if reopens => known.renewed(identity, since).reopened(hour),
            Some(known) => known.renewed(identity, since),
            None if roster.len() >= self.rules.max_customers => {
                let most = self.rules.max_customers.try_into().unwrap_or(u64::MAX);
                return Err(PutError::TooMany { most });
            }
            None => Standing::new(identity, since, hour),
        };
        let is_closing = standing.closing.is_some();
        let index = roster.put(Customer { product, key, standing }).map_err(PutError::Taken)?;
        if !is_closing {
            self.closing.retain(|(_, closing)| *closing != index);
        }
        self.put_roster_row(&roster, index, batch);
        Ok(index)
    }

    /// Ends a customer's usage; `noticed` is when AWS said so. `None` if there is no such customer. One that is closing
    /// already keeps its first notice.
    pub fn close_customer(
        &mut self,
        product: ProductIndex,
        key: &str,
        noticed: Timestamp,
        batch: &mut Batch,
    ) -> Option<Customer> {
        let roster = self.roster.clone();
        let mut roster = roster.write();
        let index = roster.find(product, key)?;
        let closing = Closing { noticed, is_sealed: false };
        let customer = roster.update(index, |standing| _ = standing.closing.get_or_insert(closing))?;
        self.closing.extend(customer.standing.seals_at(self.rules.grace).map(|moment| (moment, index)));
        self.put_roster_row(&roster, index, batch);
        Some(customer)
    }

    /// The first moment at which AWS refuses a record.
    pub fn deadline(&self, record: &Record) -> Timestamp {
        self.roster.read().deadline(&self.rules.catalog, self.rules.window, record)
    }

    /// Notes whether AWS knows a record's customer.
    pub(super) fn note_subscription(&self, record: &Record, is_subscribed: bool, batch: &mut Batch) {
        let roster = self.roster.read();
        let Some(index) = roster.of_record(&self.rules.catalog, record) else { return };
        if roster.is_subscribed(index).is_none_or(|known| known == is_subscribed) {
            return;
        }
        drop(roster);
        let mut roster = self.roster.write();
        roster.update(index, |standing| standing.not_subscribed = !is_subscribed);
        self.put_roster_row(&roster, index, batch);
    }

    pub(super) fn put_roster_row(&self, roster: &Inner, index: CustomerIndex, batch: &mut Batch) {
        let Some(customer) = roster.get(index) else { return };
        let Some(product) = self.rules.catalog.product(customer.product) else { return };
        batch.put(Table::Roster, keys::roster(&product.code, &customer.key), encode(&customer.standing));
    }
}
