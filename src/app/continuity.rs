//! Whether this configuration may go on from what an earlier one left on disk.

use crate::{
    base::config::{Config, Connection},
    domain::{
        customer::FormerIdentity,
        identity::IdentityMode,
        product::{Catalog, Product},
        time::{Hour, Timestamp},
    },
    work::books::OpenError,
    worlds::store::{
        Batch, Store, StoreError, Table, keys, load,
        values::{ProductIdentity, Text, encode},
    },
};

/// Refuses what would bill twice, bill nonsense, or never bill; then writes down what this configuration says. Returns
/// its products, with what they were before where that still matters.
pub(super) fn check(store: &dyn Store, config: &Config, now: Timestamp) -> Result<Catalog, OpenError> {
    let watermark = load::sealing(store)?.map_or(Hour::FIRST, |state| state.watermark);
    let (mut batch, mut products) = (Batch::default(), Vec::new());
    for ((_, product), connection) in config.catalog.products().zip(&config.connections) {
        check_destination(store, product, connection, &mut batch)?;
        check_aggregates(store, product, &mut batch)?;
        let former = check_identity(store, product, now, watermark, &mut batch)?;
        products.push(Product { former, ..product.clone() });
    }
    if !batch.is_empty() {
        store.commit(batch)?;
    }
    Ok(Catalog::new(products))
}

/// One customer-hour under two identities is billed twice: a change takes hold with the next hour.
fn check_identity(
    store: &dyn Store,
    product: &Product,
    now: Timestamp,
    watermark: Hour,
    batch: &mut Batch,
) -> Result<Option<FormerIdentity>, OpenError> {
    let known = load::product_identity(store, &product.code)?;
    let before = match known {
        Some(before) => before,
        None => ProductIdentity { mode: first_mode(store, product)?, former: None },
    };
    let modes = (before.mode, product.identity);
    let former = FormerIdentity::after_change(before.former, modes, now, watermark).map_err(|until| {
        let (product, before) = (product.code.to_string(), before.mode.to_string());
        OpenError::IdentityChangedTwice { product, before, until }
    })?;
    let after = ProductIdentity { mode: product.identity, former };
    if known != Some(after) {
        batch.put(Table::Meta, keys::identity(&product.code), encode(&after));
    }
    Ok(former)
}

/// The identity of a product of which nothing is written down: that of its customers, if it has any.
fn first_mode(store: &dyn Store, product: &Product) -> Result<IdentityMode, StoreError> {
    let mut mode = product.identity;
    load::customers(store, |code, _, standing| {
        if *code == *product.code {
            mode = standing.identity.mode();
        }
        Ok(())
    })?;
    Ok(mode)
}

/// AWS removes duplicates only within one region: a record that may have been billed in one must not go to another. And
/// what was used against a test server is not billed to anyone.
fn check_destination(
    store: &dyn Store,
    product: &Product,
    connection: &Connection,
    batch: &mut Batch,
) -> Result<(), OpenError> {
    let (key, now) = (keys::destination(&product.code), destination(connection));
    let before = load::text(store, &key)?;
    if before.as_ref() == Some(&now) {
        return Ok(());
    }
    match before {
        Some(before) if load::pending_by_product(store)?.contains_key(&*product.code) => {
            Err(OpenError::Moved { product: product.code.to_string(), before, now })
        }
        Some(before) if before == THIS_MACHINE && has_unbilled_usage(store, product)? => {
            Err(OpenError::OnlyATest { product: product.code.to_string(), now })
        }
        _ => {
            batch.put(Table::Meta, key, encode(&Text(now)));
            Ok(())
        }
    }
}

const THIS_MACHINE: &str = "an endpoint on this machine";

/// Test servers on this machine may change their ports.
fn destination(connection: &Connection) -> String {
    match &connection.endpoint_url {
        Some(_) if connection.is_loopback() => THIS_MACHINE.to_owned(),
        Some(url) => url.clone(),
        None => connection.region.clone(),
    }
}

/// A total of one kind sealed as another would bill nonsense, such as bytes as calls.
fn check_aggregates(store: &dyn Store, product: &Product, batch: &mut Batch) -> Result<(), OpenError> {
    for dimension in &product.dimensions {
        let key = keys::aggregate(&product.code, &dimension.name);
        let now = dimension.aggregate.to_string();
        let before = load::text(store, &key)?;
        if before.as_ref() == Some(&now) {
            continue;
        }
        if let Some(before) = before
            && has_open_usage(store, &product.code, |name| *name == *dimension.name)?
        {
            let (product, dimension) = (product.code.to_string(), dimension.name.to_string());
            return Err(OpenError::AggregateChanged { product, dimension, before, now });
        }
        batch.put(Table::Meta, key, encode(&Text(now)));
    }
    Ok(())
}

/// In open hours, or held: what a person may still have carried into one.
fn has_unbilled_usage(store: &dyn Store, product: &Product) -> Result<bool, StoreError> {
    let mut is_held = false;
    load::all_settled(store, Table::Held, |held| is_held |= held.record.product == product.code)?;
    Ok(is_held || has_open_usage(store, &product.code, |_| true)?)
}

fn has_open_usage(
    store: &dyn Store,
    product: &str,
    is_dimension: impl Fn(&str) -> bool,
) -> Result<bool, StoreError> {
    let mut found = false;
    load::buckets(store, |key, _| {
        found |= key.product == product && is_dimension(key.dimension);
        Ok(())
    })?;
    Ok(found)
}
