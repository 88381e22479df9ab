//! Registers and closes customers, and plans the last seal of a closing one.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    domain::{
        billing::record::Record,
        customer::{
            identity::Identity,
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

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    #[error("limits.max_customers ({most}) is reached")]
    TooMany { most: u64 },
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
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub index: CustomerIndex,
    /// An identity gave way, and what it used is sealed.
    pub has_sealed: bool,
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
            let replacement = known.state.replacement(&terms, self.seal_cursor())?;
            customers.check_identity(product, &key, &terms.identity).map_err(PutError::Taken)?;
            if let Some(replacement) = replacement {
                self.warn_of_sealed(&known.state, since);
                if let Some(first) = replacement.first_hour(&known.state, self.seal_cursor()) {
                    self.check_carries_nothing(index, &known, (first, txn.now), counting)?;
                }
                if let Some(early) = replacement.early_seal {
                    self.check_fits(index, &known, early, counting)?;
                    self.seal_early(index, &known, early, &customers, counting, txn);
                    has_sealed = true;
                }
            }
            match known.state.register(terms, self.seal_cursor())? {
                Transition::Unchanged => return Ok(Registered { index, has_sealed }),
                Transition::Changed { state, last_seal } => (state, last_seal),
            }
        } else if has_unseen(&key) {
            return Err(PutError::UnseenKey);
        } else if customers.len() >= self.rules.max_customers {
            let most = self.rules.max_customers.try_into().unwrap_or(u64::MAX);
            return Err(PutError::TooMany { most });
        } else {
            (CustomerState::new(identity, since, hour), LastSeal::Keep)
        };
        let (seals_at, changed_in) = (state.seals_at(self.rules.grace), state.changed_in());
        let index = customers.put(Customer { product, key, state }).map_err(PutError::Taken)?;
        self.plan_last_seal(index, last_seal, seals_at);
        self.changed.extend(changed_in.map(|hour| (hour, index)));
        customers.write_row(index, &self.rules.catalog, txn.batch);
        Ok(Registered { index, has_sealed })
    }

    /// An hour is sealed for all: what only the hour of a change had to know of its customers is forgotten.
    pub(super) fn forget_changes(&mut self, hour: Hour, txn: &mut WriteTxn<'_>) {
        while let Some((_, index)) = self.changed.first().copied().filter(|(changed, _)| *changed <= hour) {
            self.changed.pop_first();
            self.change_customer(index, CustomerEvent::HourSealed { hour }, txn);
        }
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
