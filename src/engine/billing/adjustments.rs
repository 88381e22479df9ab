//! A person lowers what is not sealed yet. Each adjustment is written down for ever, and counts once.

use std::{collections::HashMap, sync::Arc};

use thiserror::Error;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        billing::{
            adjustment::{Adjustment, Taken, TooMuch, Wanted, plan},
            journal::JournalEvent,
        },
        product::{Aggregate, DimensionIndex, ProductIndex},
        time::Timestamp,
    },
    engine::{
        counting::{Counting, series::Series},
        write_txn::WriteTxn,
    },
    store::{
        Encoded, ReadTable, Rows, StoreError, journal::hash_of_row, key::SeriesKey,
        tables::adjustments::Adjustments,
    },
};

use super::Billing;

/// What a person asks for.
#[derive(Clone, Debug)]
pub(crate) struct AdjustRequest {
    pub product: ProductIndex,
    pub customer: Arc<str>,
    pub dimension: DimensionIndex,
    pub wanted: Wanted,
    /// Under one id it counts once.
    pub id: Arc<str>,
    pub reason: Arc<str>,
    /// The name that was given.
    pub by: Arc<str>,
    /// The client that proved itself; empty where none had to.
    pub client: Arc<str>,
    pub at: Timestamp,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) struct Adjusted {
    pub adjustment: Adjustment,
    /// What is open of the customer and dimension now, in base units.
    pub left_open: u128,
    /// It was done before, and nothing was done now.
    pub is_repeat: bool,
}

/// Why nothing was lowered.
#[derive(Debug, Error)]
pub enum AdjustError {
    #[error("customer `{customer}` is not known: `tallyman customers list` has all keys")]
    UnknownCustomer { customer: String },
    #[error("the product or the dimension is not in the configuration")]
    NotConfigured,
    #[error(
        "only {available} base units of that are open or carried, which is less than {minus}: lower it by at most so much. \
         What is sealed cannot be lowered; a held record can be written off (tallyman held)"
    )]
    TooMuch { minus: u128, available: u128 },
    #[error(
        "dimension `{dimension}` is a level ({aggregate}), and of a level only what is carried above AWS's largest quantity \
         can be lowered, which is {available} base units: {instead}"
    )]
    Level { dimension: String, aggregate: Aggregate, available: u128, instead: &'static str },
    #[error(
        "the adjustment id `{id}` was used on {at} for another one, of {minus} base units: choose another id for a new \
         adjustment"
    )]
    IdTaken { id: String, at: Timestamp, minus: u128 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The number of the next adjustment, and those of the batch in the making: the store does not show them yet.
#[derive(Debug)]
pub(super) struct AdjustmentBook {
    next: u64,
    fresh: HashMap<Arc<str>, Adjustment>,
}

impl AdjustmentBook {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        let mut last = 0;
        store.each(Adjustments, |number, _| {
            last = number;
            Ok(())
        })?;
        Ok(Self { next: last + 1, fresh: HashMap::new() })
    }

    fn by_id(&self, id: &str, store: &dyn Rows) -> Result<Option<Adjustment>, StoreError> {
        match self.fresh.get(id) {
            Some(fresh) => Ok(Some(fresh.clone())),
            None => Adjustments::by_id(store, id),
        }
    }

    /// The batch is written: it is read from the store now.
    pub(super) fn written(&mut self) {
        self.fresh.clear();
    }
}

impl Billing {
    /// Lowers what is open of a customer and dimension: by all that is wanted, or not at all.
    pub(crate) fn adjust(
        &mut self,
        request: &AdjustRequest,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Adjusted, AdjustError> {
        let (catalog, directory) = (self.rules.catalog.clone(), self.customers.clone());
        let product = catalog.product(request.product).ok_or(AdjustError::NotConfigured)?;
        let dimension =
            catalog.dimension(request.product, request.dimension).ok_or(AdjustError::NotConfigured)?;
        let customers = directory.read();
        let unknown = || AdjustError::UnknownCustomer { customer: request.customer.to_string() };
        let customer = customers.find(request.product, &request.customer).ok_or_else(unknown)?;
        let series = Series { customer, dimension: request.dimension };
        let key =
            SeriesKey { product: &product.code, customer: &request.customer, dimension: &dimension.name };
        if let Some(done) = self.adjustments.by_id(&request.id, txn.store)? {
            return repeated(done, request, key, counting.open_total(series));
        }
        let taken = plan(dimension.aggregate, &counting.open_of(series), &request.wanted)
            .map_err(|short| refusal(short, request, &dimension.name, dimension.aggregate))?;
        for Taken { hour, lowered } in &taken {
            counting.lower(*hour, series, lowered, &customers);
            self.outstanding.lowered(series, lowered.carried.total());
        }
        let adjustment = self.write_adjustment(request, key, taken, txn);
        Ok(Adjusted { adjustment, left_open: counting.open_total(series), is_repeat: false })
    }

    fn write_adjustment(
        &mut self,
        request: &AdjustRequest,
        key: SeriesKey<'_>,
        taken: Vec<Taken>,
        txn: &mut WriteTxn<'_>,
    ) -> Adjustment {
        let AdjustRequest { wanted, id, reason, by, client, at, .. } = request.clone();
        let SeriesKey { product, customer, dimension } = key;
        let adjustment = Adjustment {
            number: self.adjustments.next,
            id: id.clone(),
            product: product.to_owned(),
            customer: customer.to_owned(),
            dimension: dimension.to_owned(),
            wanted,
            taken,
            reason,
            by,
            client,
            at,
        };
        self.adjustments.next += 1;
        let (number, row) = (adjustment.number, Encoded::of(&adjustment));
        if !is_sabotaged(Sabotage::ForgetAdjustment) {
            let line = JournalEvent::Adjusted { number, row: hash_of_row(row.bytes()) };
            self.journal.append(line, at, txn.batch);
        }
        txn.batch.put_encoded(Adjustments, number, row);
        Adjustments::put_ways_to_find(txn.batch, &adjustment);
        self.adjustments.fresh.insert(id, adjustment.clone());
        adjustment
    }
}

/// The same again changes nothing, and is answered as it was; another one under its id is a mistake.
fn repeated(
    done: Adjustment,
    request: &AdjustRequest,
    key: SeriesKey<'_>,
    left_open: u128,
) -> Result<Adjusted, AdjustError> {
    if done.is_for(key.product, key.customer, key.dimension, &request.wanted) {
        return Ok(Adjusted { adjustment: done, left_open, is_repeat: true });
    }
    Err(AdjustError::IdTaken { id: done.id.to_string(), at: done.at, minus: done.wanted.minus })
}

fn refusal(
    TooMuch { available }: TooMuch,
    request: &AdjustRequest,
    dimension: &str,
    aggregate: Aggregate,
) -> AdjustError {
    let dimension = dimension.to_owned();
    let instead = match aggregate {
        Aggregate::Sum | Aggregate::Count => {
            return AdjustError::TooMuch { minus: request.wanted.minus, available };
        }
        Aggregate::Latest { .. } => "send an event with the right level, which then stands",
        Aggregate::Max | Aggregate::Unique => {
            "with hold_above the hour is held before it is sent, and its record can be written off"
        }
    };
    AdjustError::Level { dimension, aggregate, available, instead }
}
