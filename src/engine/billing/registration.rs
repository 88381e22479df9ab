//! Registers and closes customers, and plans the last seal of a closing one.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    domain::{
        billing::record::Record,
        customer::{
            identity::Identity,
            limits::CustomersFull,
            state::CustomerState,
            transition::{CustomerEvent, LastSeal, NewTerms, RegistrationRefused, SealedSoFar, Transition},
        },
        product::ProductIndex,
        text::has_unseen,
        time::{Hour, Timestamp},
    },
    engine::{
        customers::{Customer, CustomerIndex, IdentityTaken},
        write_txn::WriteTxn,
    },
};

use super::Billing;

/// The terms under which a customer is registered.
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
    #[error("{limit} ({most}) is reached: raise it")]
    TooMany { limit: &'static str, most: usize },
    #[error("the key of a new customer must be of characters that are seen, and turn none around them")]
    UnseenKey,
    #[error(transparent)]
    Taken(IdentityTaken),
    #[error(transparent)]
    Refused(#[from] RegistrationRefused),
}

impl From<CustomersFull> for PutError {
    fn from(CustomersFull { limit, most, .. }: CustomersFull) -> Self {
        Self::TooMany { limit, most }
    }
}

impl Billing {
    /// Adds a customer, or changes the one with its key for the hours that are not sealed yet.
    pub(crate) fn put_customer(
        &mut self,
        registration: Registration,
        txn: &mut WriteTxn<'_>,
    ) -> Result<CustomerIndex, PutError> {
        let Registration { product, key, identity, since, hour, reopens } = registration;
        let directory = self.customers.clone();
        let mut customers = directory.write();
        let known = customers.find(product, &key).and_then(|index| Some((index, customers.get(index)?)));
        let (state, last_seal) = if let Some((index, known)) = known {
            let registered = NewTerms { identity, since, hour, reopens };
            match known.state.register(registered, self.seal_cursor())? {
                Transition::Unchanged => return Ok(index),
                Transition::Changed { state, last_seal } => (state, last_seal),
            }
        } else if has_unseen(&key) {
            return Err(PutError::UnseenKey);
        } else {
            self.rules.customers.check_registered(customers.len())?;
            (CustomerState::new(identity, since, hour), LastSeal::Keep)
        };
        let seals_at = state.seals_at(self.rules.grace);
        let index = customers.put(Customer { product, key, state }).map_err(PutError::Taken)?;
        self.plan_last_seal(index, last_seal, seals_at);
        customers.write_row(index, &self.rules.catalog, txn.batch);
        Ok(index)
    }

    /// Ends a customer's usage; `noticed` is when AWS said so. `None` if there is no such customer.
    pub(crate) fn close_customer(
        &mut self,
        product: ProductIndex,
        key: &str,
        noticed: Timestamp,
        txn: &mut WriteTxn<'_>,
    ) -> Option<Customer> {
        let index = self.customers.read().find(product, key)?;
        self.change_customer(index, CustomerEvent::ClosingNotice { noticed }, txn);
        self.customers.read().get(index)
    }

    /// The first moment at which AWS refuses a record.
    pub(crate) fn deadline(&self, record: &Record) -> Timestamp {
        self.customers.read().deadline(&self.rules.catalog, self.rules.window, record)
    }

    /// Lets an event change a customer, and writes down what comes of it.
    pub(super) fn change_customer(
        &mut self,
        index: CustomerIndex,
        event: CustomerEvent,
        txn: &mut WriteTxn<'_>,
    ) {
        // Most answers of AWS say nothing new. They need not keep others from reading.
        let Some(known) = self.customers.read().get(index) else { return };
        let Transition::Changed { state, last_seal } = known.state.apply(event) else { return };
        self.plan_last_seal(index, last_seal, state.seals_at(self.rules.grace));
        let mut customers = self.customers.write();
        customers.set_state(index, state);
        customers.write_row(index, &self.rules.catalog, txn.batch);
    }

    fn plan_last_seal(&mut self, index: CustomerIndex, last_seal: LastSeal, seals_at: Option<Timestamp>) {
        match last_seal {
            LastSeal::Keep => {}
            LastSeal::Plan => self.closing.extend(seals_at.map(|moment| (moment, index))),
            LastSeal::Cancel => self.closing.retain(|(_, closing)| *closing != index),
        }
    }

    fn seal_cursor(&self) -> SealedSoFar {
        SealedSoFar { watermark: self.watermark.0, is_sealing: self.sealing.is_some() }
    }
}
