//! Which products' hours are sealed together, how far each is, and how that is kept.
//!
//! A product with a review has a row of its own from the moment at which the others first go on without it, and keeps it
//! until it has caught up with them after its review was taken out of the configuration.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        billing::schedule::first_watermark,
        product::{Catalog, Product, ProductIndex},
        time::{Hour, Timestamp},
    },
    engine::watermark::Watermarks,
    store::{
        Batch, ReadTable, Store, StoreError,
        tables::sealing::{NextRecord, Sealing, SealingOf, SealingState},
    },
};

use super::{Billing, seal_budget::SealStep};

/// Products in the order of their codes.
pub(super) type ProductsInOrder<'a> = Vec<(ProductIndex, &'a Product)>;

/// The products whose hours are sealed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All that have no watermark of their own.
    Common,
    Product(ProductIndex),
}

/// How far the seal of an hour has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealCursor {
    pub(super) scope: Scope,
    /// The product and the key of the last customer that was looked at.
    pub(super) last_done: Option<(Arc<str>, Arc<str>)>,
}

impl SealCursor {
    pub(super) fn begun(scope: Scope) -> Self {
        Self { scope, last_done: None }
    }

    /// Goes on where an earlier process stopped.
    fn resumed(scope: Scope, done: Option<(String, String)>) -> Self {
        Self { scope, last_done: done.map(|(product, key)| (product.into(), key.into())) }
    }
}

/// How far an earlier process has sealed: the watermarks, and the seal that it left unfinished.
pub(super) fn load(
    store: &dyn Store,
    catalog: &Catalog,
    grace: Duration,
    now: Timestamp,
) -> Result<(Watermarks, Option<SealCursor>), StoreError> {
    let common = match store.find(Sealing, ())? {
        Some(state) => state,
        None => first_state(store, first_watermark(now, grace))?,
    };
    let mut watermarks = Watermarks { common: common.watermark, own: [].into() };
    let mut unfinished = common.unfinished.map(|done| SealCursor::resumed(Scope::Common, done));
    for (index, product) in catalog.products() {
        let Some(own) = store.find(SealingOf, &product.code)? else { continue };
        watermarks.own.insert(index, own.watermark);
        let of_product = own.unfinished.map(|done| SealCursor::resumed(Scope::Product(index), done));
        unfinished = unfinished.or(of_product);
    }
    Ok((watermarks, unfinished))
}

fn first_state(store: &dyn Store, watermark: Hour) -> Result<SealingState, StoreError> {
    let state = SealingState { watermark, unfinished: None };
    let mut batch = Batch::default();
    batch.put(Sealing, (), &state);
    store.commit(batch)?;
    Ok(state)
}

impl Billing {
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> + '_ {
        let own = self.watermarks.own.keys().copied().map(Scope::Product);
        [Scope::Common].into_iter().chain(own)
    }

    pub(super) fn watermark_of(&self, scope: Scope) -> Hour {
        match scope {
            Scope::Common => self.watermarks.common,
            Scope::Product(product) => self.watermarks.of(product),
        }
    }

    pub(super) fn review_of(&self, scope: Scope) -> Duration {
        match scope {
            Scope::Common => Duration::ZERO,
            Scope::Product(index) => {
                self.rules.catalog.product(index).map_or(Duration::ZERO, |known| known.review)
            }
        }
    }

    pub(super) fn products_of<'a>(&self, scope: Scope, catalog: &'a Catalog) -> ProductsInOrder<'a> {
        let is_meant = |index: ProductIndex| match scope {
            Scope::Common => !self.watermarks.own.contains_key(&index),
            Scope::Product(product) => index == product,
        };
        let mut products: Vec<_> = catalog.products().filter(|(index, _)| is_meant(*index)).collect();
        products.sort_unstable_by_key(|(_, product)| &*product.code);
        products
    }

    /// Whether some of a product's customers are sealed, and others of the same hour are not.
    pub(super) fn is_sealing(&self, product: ProductIndex) -> bool {
        self.sealing.as_ref().is_some_and(|cursor| match cursor.scope {
            Scope::Common => !self.watermarks.own.contains_key(&product),
            Scope::Product(index) => index == product,
        })
    }

    pub(super) fn move_watermark(&mut self, scope: Scope) {
        let watermark = match scope {
            Scope::Common => Some(&mut self.watermarks.common),
            Scope::Product(product) => self.watermarks.own.get_mut(&product),
        };
        if let Some(watermark) = watermark {
            *watermark = watermark.next();
        }
    }

    /// Before the common hours go on: products with a review stay behind, with a row of their own; those that have none
    /// any more, and have caught up, go along again.
    pub(super) fn part_and_join(&mut self, step: &mut SealStep<'_, '_>) {
        let catalog = self.rules.catalog.clone();
        for (index, product) in catalog.products() {
            let own = self.watermarks.own.get(&index).copied();
            if product.review.is_zero() && own == Some(self.watermarks.common) {
                self.watermarks.own.remove(&index);
                step.txn.batch.delete(SealingOf, &product.code);
            } else if !product.review.is_zero() && own.is_none() {
                self.watermarks.own.insert(index, self.watermarks.common);
            }
        }
    }

    /// Lets go of the hours that no product has open any more.
    pub(super) fn end_hours_of_all(&mut self, step: &mut SealStep<'_, '_>) {
        while self.ended < self.watermarks.lowest() {
            self.ended = self.ended.next();
            step.counting.end_hour(self.ended, step.txn);
        }
    }

    pub(super) fn write_progress(&self, batch: &mut Batch) {
        let texts = |(product, key): &(Arc<str>, Arc<str>)| (product.to_string(), key.to_string());
        let state = |scope, watermark| {
            let cursor = self.sealing.as_ref().filter(|cursor| cursor.scope == scope);
            let unfinished = cursor.map(|cursor| cursor.last_done.as_ref().map(texts));
            SealingState { watermark, unfinished }
        };
        batch.put(Sealing, (), &state(Scope::Common, self.watermarks.common));
        for (index, watermark) in &self.watermarks.own {
            if let Some(product) = self.rules.catalog.product(*index) {
                batch.put(SealingOf, &product.code, &state(Scope::Product(*index), *watermark));
            }
        }
        batch.put(NextRecord, (), &self.next_record);
    }
}
