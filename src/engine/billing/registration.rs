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
        counting::Counting,
        customers::{Customer, CustomerIndex, CustomerTable, IdentityTaken},
        write_txn::WriteTxn,
    },
    store::StoreError,
};

use super::{
    Billing,
    early_seal::{CarriesOver, DoesNotFit},
};

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

impl Registration {
    /// Whether an identity gives way to it as of the moment at which it is carried out: a clock in doubt does not know
    /// that moment.
    pub(crate) fn replaces_now(&self, customers: &CustomerTable) -> bool {
        let known = customers.find(self.product, &self.key).and_then(|index| customers.get(index));
        self.since.is_none() && known.is_some_and(|known| known.state.gives_way_to(&self.identity))
    }
}

#[derive(Debug, Error)]
pub enum PutError {
    #[error("{limit} ({most}) is reached: raise it")]
    TooMany { limit: &'static str, most: usize },
    #[error("the key of a new customer must be of characters that are seen, and turn none around them")]
    UnseenKey,
    #[error(transparent)]
    Taken(IdentityTaken),
    #[error(transparent)]
    Refused(#[from] RegistrationRefused),
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    #[error(transparent)]
    CarriesOver(#[from] CarriesOver),
    /// It ends all writing, and nobody is answered with it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub index: CustomerIndex,
    /// An identity gave way, and what it used is sealed.
    pub has_sealed: bool,
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
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Registered, PutError> {
        let directory = self.customers.clone();
        let mut customers = directory.write();
        if txn.is_clock_doubted && registration.replaces_now(&customers) {
            return Err(RegistrationRefused::ClockInDoubt.into());
        }
        let Registration { product, key, identity, since, hour, reopens } = registration;
        let known = customers.find(product, &key).and_then(|index| Some((index, customers.get(index)?)));
        let mut has_sealed = false;
        let (state, last_seal) = if let Some((index, known)) = known {
            let is_used =
                since.is_some_and(|since| self.is_used(index, &known, Hour::containing(since), counting));
            let terms = NewTerms { identity, since, hour, now: txn.now, reopens, is_used };
            let replacement = known.state.replacement(&terms, self.sealed_so_far(product))?;
            customers.check_identity(product, &key, &terms.identity).map_err(PutError::Taken)?;
            if let Some(replacement) = replacement {
                self.warn_of_sealed(&known, since);
                if let Some(first) = replacement.first_hour(&known.state, self.sealed_so_far(product)) {
                    self.check_carries_nothing(index, &known, (first, txn.now), counting)?;
                }
                if let Some(early) = replacement.early_seal {
                    self.check_fits(index, &known, early, counting)?;
                    self.seal_early(index, &known, early, &customers, counting, txn)?;
                    has_sealed = true;
                }
            }
            match known.state.register(terms, self.sealed_so_far(product))? {
                Transition::Unchanged => return Ok(Registered { index, has_sealed }),
                Transition::Changed { state, last_seal } => (state, last_seal),
            }
        } else if has_unseen(&key) {
            return Err(PutError::UnseenKey);
        } else {
            self.rules.customers.check_registered(customers.len())?;
            (CustomerState::new(identity, since, hour), LastSeal::Keep)
        };
        let (seals_at, changed_in) = (state.seals_at(self.rules.grace), state.changed_in());
        self.reschedule_decisions(product, &key, state.deadline());
        let index = customers.put(Customer { product, key, state }).map_err(PutError::Taken)?;
        self.plan_last_seal(index, last_seal, seals_at);
        self.changed.extend(changed_in.map(|hour| (hour, index)));
        customers.write_row(index, &self.rules.catalog, txn.batch);
        Ok(Registered { index, has_sealed })
    }

    /// An hour is sealed: what only the hour of a change had to know of its customers is forgotten.
    pub(super) fn forget_changes(&mut self, txn: &mut WriteTxn<'_>) {
        let highest = self.watermarks.highest();
        let changed = self.changed.iter().copied().take_while(|(hour, _)| *hour <= highest);
        let sealed: Vec<_> =
            changed.filter(|(hour, index)| *hour <= self.watermark_of_customer(*index)).collect();
        for change in sealed {
            self.changed.remove(&change);
            let hour = self.watermark_of_customer(change.1);
            self.change_customer(change.1, CustomerEvent::HourSealed { hour }, txn);
        }
    }

    /// The last sealed hour of the product that a customer is of.
    fn watermark_of_customer(&self, index: CustomerIndex) -> Hour {
        let customers = self.customers.read();
        customers.name(index).map_or(Hour::FIRST, |(product, _)| self.watermarks.of(product))
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
        self.reschedule_decisions(known.product, &known.key, state.deadline());
        let mut customers = self.customers.write();
        customers.set_state(index, state);
        customers.write_row(index, &self.rules.catalog, txn.batch);
    }

    /// The last hour of a closing customer ends the time for decisions about its records.
    fn reschedule_decisions(&mut self, product: ProductIndex, customer: &str, by_closing: Option<Timestamp>) {
        if let Some(product) = self.rules.catalog.product(product) {
            self.suspicious.reschedule(&product.code, customer, by_closing, self.rules.window);
        }
    }

    fn plan_last_seal(&mut self, index: CustomerIndex, last_seal: LastSeal, seals_at: Option<Timestamp>) {
        match last_seal {
            LastSeal::Keep => {}
            LastSeal::Plan => self.closing.extend(seals_at.map(|moment| (moment, index))),
            LastSeal::Cancel => self.closing.retain(|(_, closing)| *closing != index),
        }
    }

    fn sealed_so_far(&self, product: ProductIndex) -> SealedSoFar {
        SealedSoFar { watermark: self.watermarks.of(product), is_sealing: self.is_sealing(product) }
    }
}
