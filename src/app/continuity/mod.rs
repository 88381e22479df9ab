//! Whether this configuration may go on from what an earlier one left on disk.

mod destination;

use crate::{
    base::config::Config,
    domain::{
        product::{Catalog, FormerIdentity, Product},
        time::{Hour, Timestamp},
    },
    engine::open_error::OpenError,
    store::{
        Batch, ReadTable, Rows, Store, StoreError,
        tables::{
            buckets::Buckets,
            meta::AggregateRows,
            product_identities::{ProductIdentities, ProductIdentity},
            sealing::SealingOf,
        },
    },
};

pub(super) use destination::AllowedChange;

/// A configuration that may go on from what is on disk.
#[derive(Debug)]
pub(super) struct Continuity {
    /// Its products, with what they were before where that still matters.
    pub catalog: Catalog,
    /// Products that go to another destination by a person's word, which is still to be carried out.
    pub moves: Vec<AllowedChange>,
}

/// Refuses what would bill twice, bill nonsense, or never bill; then writes down what this configuration says.
pub(super) fn check(store: &dyn Store, config: &Config, now: Timestamp) -> Result<Continuity, OpenError> {
    let (mut batch, mut products, mut moves) = (Batch::default(), Vec::new(), Vec::new());
    for ((_, product), connection) in config.catalog.products().zip(&config.connections) {
        let place = destination::Place { product, connection, data_dir: &config.agent.data_dir };
        moves.extend(destination::check(store, place, &mut batch)?);
        check_aggregates(store, product, &mut batch)?;
        let watermark = SealingOf::watermark(store, &product.code)?;
        let former = check_identity(store, product, now, watermark, &mut batch)?;
        products.push(Product { former, ..product.clone() });
    }
    if !batch.is_empty() {
        store.commit(batch)?;
    }
    Ok(Continuity { catalog: Catalog::new(products), moves })
}

/// One customer-hour under two identities is billed twice: a change takes hold with the next hour.
fn check_identity(
    store: &dyn Store,
    product: &Product,
    now: Timestamp,
    watermark: Hour,
    batch: &mut Batch,
) -> Result<Option<FormerIdentity>, OpenError> {
    let known = store.find(ProductIdentities, &product.code)?;
    let before = known.unwrap_or(ProductIdentity { mode: product.identity, former: None });
    let modes = (before.mode, product.identity);
    let former = FormerIdentity::after_change(before.former, modes, now, watermark).map_err(|until| {
        let (product, before) = (product.code.to_string(), before.mode.to_string());
        OpenError::IdentityChangedTwice { product, before, until }
    })?;
    let after = ProductIdentity { mode: product.identity, former };
    if known != Some(after) {
        batch.put(ProductIdentities, &product.code, &after);
    }
    Ok(former)
}

/// A total of one kind sealed as another would bill nonsense, such as bytes as calls.
fn check_aggregates(store: &dyn Store, product: &Product, batch: &mut Batch) -> Result<(), OpenError> {
    for dimension in &product.dimensions {
        let key = (&*product.code, &*dimension.name);
        let now = dimension.aggregate.to_string();
        let before = store.find(AggregateRows, key)?;
        if before.as_ref() == Some(&now) {
            continue;
        }
        if let Some(before) = before
            && has_open_usage(store, &product.code, |name| *name == *dimension.name)?
        {
            let (product, dimension) = (product.code.to_string(), dimension.name.to_string());
            return Err(OpenError::AggregateChanged { product, dimension, before, now });
        }
        batch.put(AggregateRows, key, &now);
    }
    Ok(())
}

fn has_open_usage(
    store: &dyn Rows,
    product: &str,
    is_dimension: impl Fn(&str) -> bool,
) -> Result<bool, StoreError> {
    let mut found = false;
    store.each(Buckets, |key, _| {
        found |= key.product == product && is_dimension(key.dimension);
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::config::parse,
        domain::{product::Aggregate, usage::bucket::Bucket},
        store::{MemoryStore, key::BucketKey},
    };

    /// Starts with a product that has these keys; the error says why not.
    pub(super) fn start(store: &MemoryStore, keys: &str) -> Result<Continuity, String> {
        let text = format!("[[product]]\ncode = \"prod\"\n{keys}");
        let config = parse(&text, "tallyman.toml", std::iter::empty()).unwrap();
        let now = "2026-11-29T21:30:00Z".parse().unwrap();
        check(store, &config, now).map_err(|fault| format!("{fault:?}"))
    }

    pub(super) fn use_some(store: &MemoryStore, dimension: &str) {
        let key = BucketKey { hour: Hour::FIRST, product: "prod", customer: "acme", dimension };
        let mut batch = Batch::default();
        batch.put(Buckets, key, &Bucket::new(Aggregate::Sum));
        store.commit(batch).unwrap();
    }

    #[test]
    fn a_dimension_changes_its_aggregate_only_while_nothing_of_it_is_open() {
        let store = MemoryStore::default();
        let aggregate = |name: &str| {
            format!("dimension = [{{ name = \"gb\", aggregate = \"{name}\" }}, {{ name = \"calls\" }}]")
        };
        start(&store, &aggregate("sum")).unwrap();
        use_some(&store, "calls");
        start(&store, &aggregate("max")).unwrap();
        use_some(&store, "gb");
        start(&store, &aggregate("max")).unwrap();
        let fault = start(&store, &aggregate("sum")).unwrap_err();
        assert!(fault.contains("AggregateChanged") && fault.contains("gb"), "{fault}");
    }
}
