//! What an event's names mean: a product, a dimension, and a customer's key.

use super::{
    event::{Names, RejectReason, is_customer_key},
    shortened::shortened,
};
use crate::domain::{
    permission::Permission,
    product::{Catalog, Dimension, DimensionIndex, ProductIndex},
};

/// The dimension that names mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub product: ProductIndex,
    pub index: DimensionIndex,
    pub dimension: &'a Dimension,
}

/// Finds what names mean, or the first reason why they mean nothing to a client with this permission; `None` may
/// everything. A reason names nothing that the permission does not cover.
pub(crate) fn locate<'a>(
    catalog: &'a Catalog,
    names: Names<'_>,
    permission: Option<&Permission>,
) -> Result<Located<'a>, RejectReason> {
    let product =
        catalog.find(names.product).ok_or_else(|| unknown_product(catalog, names.product, permission))?;
    permission.map_or(Ok(()), |permission| permission.check_product(product))?;
    let index = catalog.find_dimension(product, names.dimension);
    let dimension = index.and_then(|index| Some((index, catalog.dimension(product, index)?)));
    let (index, dimension) = dimension.ok_or_else(|| unknown_dimension(catalog, product, names))?;
    if !is_customer_key(names.customer) {
        return Err(RejectReason::InvalidCustomer);
    }
    permission.map_or(Ok(()), |permission| permission.check_customer(names.customer))?;
    Ok(Located { product, index, dimension })
}

/// Why a code means no product, with those that it could mean to a client.
pub(crate) fn unknown_product(
    catalog: &Catalog,
    code: &str,
    permission: Option<&Permission>,
) -> RejectReason {
    let is_shown = |index| permission.is_none_or(|permission| permission.covers_product(index));
    let known = catalog.products().filter(|(index, _)| is_shown(*index)).map(|(_, product)| &*product.code);
    RejectReason::UnknownProduct { code: shortened(code), known: some_names(known) }
}

fn unknown_dimension(catalog: &Catalog, index: ProductIndex, names: Names<'_>) -> RejectReason {
    let product = catalog.product(index);
    let known = product.into_iter().flat_map(|product| &product.dimensions).map(|dimension| &*dimension.name);
    RejectReason::UnknownDimension {
        product: product.map_or_else(String::new, |product| product.code.to_string()),
        name: shortened(names.dimension),
        known: some_names(known),
    }
}

/// Enough names to see what was meant: an answer must stay small, or its client cannot read it.
fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 10;
    let mut names: Vec<&str> = names.take(MOST.saturating_add(1)).collect();
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("...");
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{permission::Role, sample::product};

    #[test]
    fn a_refusal_names_what_there_is_but_stays_short() {
        let names = |count| some_names(["n"; 12].into_iter().take(count)).matches('n').count();
        assert_eq!([1, 10, 12].map(names), [1, 10, 10]);
        assert!(!some_names(["n"; 10].into_iter()).ends_with("..."));
        assert!(some_names(["n"; 11].into_iter()).ends_with("n, ..."));
        assert_eq!(shortened(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(shortened(&"é".repeat(65)), format!("{}...", "é".repeat(64)));
    }

    #[test]
    fn a_refusal_names_nothing_that_the_client_is_not_for() {
        let catalog = Catalog::new(["mine", "secret-launch"].map(|code| product(code, true)).into());
        let permission = Permission {
            client: "app".into(),
            roles: [Role::Meter].into(),
            products: Some([ProductIndex(0)].into()),
            customers: Some(["acme".into()].into()),
        };
        let refused = |product, customer, dimension| {
            let names = Names { product, customer, dimension };
            locate(&catalog, names, Some(&permission)).unwrap_err().to_string()
        };
        let unknown = refused("other", "acme", "requests");
        assert!(unknown.contains("mine") && !unknown.contains("secret-launch"), "{unknown}");
        let foreign = refused("secret-launch", "acme", "nonsense");
        assert!(foreign.contains("`products`") && !foreign.contains("requests"), "{foreign}");
        let dimension = refused("mine", "acme", "nonsense");
        assert!(dimension.contains("requests"), "{dimension}");
        assert!(refused("mine", "globex", "requests").contains("`customers`"));
        let Err(all) =
            locate(&catalog, Names { product: "other", customer: "acme", dimension: "requests" }, None)
        else {
            panic!("it is found")
        };
        assert!(all.to_string().contains("secret-launch"), "whoever is not bound may see it: {all}");
    }
}
