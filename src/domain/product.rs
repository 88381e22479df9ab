//! What a seller sells: products and their dimensions.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{
    customer::identity::IdentityMode,
    time::{Hour, Timestamp},
    usage::quantity::{Rounding, Unit},
};

#[derive(Clone, Debug)]
pub struct Product {
    pub code: Arc<str>,
    pub identity: IdentityMode,
    /// The identity before the last change, until the last hour that has it is sealed.
    pub former: Option<FormerIdentity>,
    /// Whether events of unregistered customers register them.
    pub open: bool,
    /// Whether every active customer gets a record each hour, a zero one if it used nothing.
    pub zero_records: bool,
    /// How long an hour waits, after its grace, for people to look at it before it is sealed.
    pub review: Duration,
    pub dimensions: Vec<Dimension>,
}

impl Product {
    /// How AWS is told whose usage an hour's is.
    pub fn identity_for(&self, hour: Hour) -> IdentityMode {
        self.former.filter(|former| hour <= former.until).map_or(self.identity, |former| former.mode)
    }
}

#[derive(Clone, Debug)]
pub struct Dimension {
    pub name: Arc<str>,
    pub aggregate: Aggregate,
    pub unit: Unit,
    /// How a remainder is rounded that no later hour can take.
    pub rounding: Rounding,
    /// Whether usage is split by tags (AWS: vendor-metered tagging).
    pub tags: bool,
    pub limits: QuantityLimits,
}

/// What a dimension's seller takes for a mistake. None of it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantityLimits {
    /// An event above it is rejected, in base units.
    pub max_event_quantity: Option<u64>,
    /// An hour with more is held before it is sent, in base units.
    pub hold_above: Option<u64>,
    /// As is an hour with more than so many times the highest usual one.
    pub hold_above_usual: Option<u64>,
}

/// How the events of an hour become one amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The sum of the events' quantities.
    Sum,
    /// The number of events, whatever their quantities.
    Count,
    /// The highest level that an event told.
    Max,
    /// The level that the latest event told. With `hold` it stands in later hours, until an event changes it.
    Latest { hold: bool },
    /// The number of distinct subjects.
    Unique,
}

impl Aggregate {
    /// Whether amounts of different hours add up, so that a remainder may be billed with the next hour's. A level is
    /// told anew each hour.
    pub const fn adds_up(self) -> bool {
        matches!(self, Self::Sum | Self::Count)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Max => "max",
            Self::Latest { .. } => "latest",
            Self::Unique => "unique",
        })
    }
}

/// A product's place in the configuration. Valid for one run; on disk, products are known by their code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProductIndex(pub u16);

/// A dimension's place in its product. Valid for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimensionIndex(pub u16);

/// Every product that this agent bills.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    products: Vec<Product>,
    by_code: HashMap<Arc<str>, ProductIndex>,
}

impl Catalog {
    /// The caller has made sure that codes, and dimension names within a product, are distinct.
    pub fn new(products: Vec<Product>) -> Self {
        let mut catalog = Self::default();
        for (product, index) in products.iter().zip(0..) {
            catalog.by_code.insert(product.code.clone(), ProductIndex(index));
        }
        catalog.products = products;
        catalog
    }

    pub fn products(&self) -> impl Iterator<Item = (ProductIndex, &Product)> {
        (0..).map(ProductIndex).zip(&self.products)
    }

    pub fn product(&self, index: ProductIndex) -> Option<&Product> {
        self.products.get(usize::from(index.0))
    }

    pub fn dimension(&self, product: ProductIndex, index: DimensionIndex) -> Option<&Dimension> {
        self.product(product)?.dimensions.get(usize::from(index.0))
    }

    /// Looks a product up by its code. No code means the only product.
    pub fn find(&self, code: &str) -> Option<ProductIndex> {
        match (code, self.products.len()) {
            ("", 1) => Some(ProductIndex(0)),
            ("", _) => None,
            _ => self.by_code.get(code).copied(),
        }
    }

    pub fn find_dimension(&self, product: ProductIndex, name: &str) -> Option<DimensionIndex> {
        // A scan, since products have few dimensions and a map would need an owned key.
        let dimensions = &self.product(product)?.dimensions;
        (0..)
            .map(DimensionIndex)
            .zip(dimensions)
            .find(|(_, dimension)| *dimension.name == *name)
            .map(|(index, _)| index)
    }
}

/// How a product's customers were known before its identity changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerIdentity {
    pub mode: IdentityMode,
    /// The last hour that is reported so.
    pub until: Hour,
}

impl FormerIdentity {
    /// What holds once a product's identity changes from `before` to `after` at `now`. The error is the hour that must
    /// be sealed first: a second change would leave the hours of the first one without an end.
    pub fn after_change(
        former: Option<Self>,
        (before, after): (IdentityMode, IdentityMode),
        now: Timestamp,
        watermark: Hour,
    ) -> Result<Option<Self>, Hour> {
        let begun = Hour::containing(now).max(watermark);
        match former {
            former if before == after => Ok(former),
            // Nothing was reported under the identity that is given up again.
            Some(former) if former.mode == after && begun <= former.until => Ok(None),
            Some(former) if watermark < former.until => Err(former.until),
            _ => Ok(Some(Self { mode: before, until: begun })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(code: &str) -> Product {
        Product {
            code: code.into(),
            identity: IdentityMode::Account,
            former: None,
            open: true,
            zero_records: true,
            review: Duration::ZERO,
            dimensions: Vec::new(),
        }
    }

    #[test]
    fn no_code_means_the_only_product() {
        let one = Catalog::new(vec![product("a")]);
        assert_eq!(one.find(""), Some(ProductIndex(0)));
        let two = Catalog::new(vec![product("a"), product("b")]);
        assert_eq!((two.find(""), two.find("b"), two.find("c")), (None, Some(ProductIndex(1)), None));
        let codes: Vec<_> = two.products().map(|(index, product)| (index.0, &*product.code)).collect();
        assert_eq!(codes, [(0, "a"), (1, "b")]);
    }

    /// The store keeps a dimension's aggregate by its name.
    #[test]
    fn aggregates_have_names_of_their_own() {
        let latest = Aggregate::Latest { hold: true };
        let all = [Aggregate::Sum, Aggregate::Count, Aggregate::Max, latest, Aggregate::Unique];
        assert_eq!(all.map(|aggregate| aggregate.to_string()), ["sum", "count", "max", "latest", "unique"]);
    }

    #[test]
    fn a_change_of_identity_takes_hold_with_the_next_hour_and_one_at_a_time() {
        use IdentityMode::{Account, CustomerIdentifier, License};
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let (sealed, until) =
            (Hour::containing(at("2026-11-22T12:00:00Z")), Hour::containing(at("2026-11-22T14:00:00Z")));
        let now = at("2026-11-22T14:30:00Z");
        let change = |former, modes, now| FormerIdentity::after_change(former, modes, now, sealed);
        let former = change(None, (Account, License), now).unwrap();
        assert_eq!(former, Some(FormerIdentity { mode: Account, until }));
        assert_eq!(change(former, (License, License), now), Ok(former));
        assert_eq!(change(former, (License, Account), now), Ok(None), "nothing has happened yet");
        assert_eq!(change(former, (License, CustomerIdentifier), now), Err(until));
        let later = at("2026-11-22T15:10:00Z");
        assert_eq!(change(former, (License, Account), later), Err(until));
        let done = FormerIdentity::after_change(former, (License, Account), later, until).unwrap();
        assert_eq!(done, Some(FormerIdentity { mode: License, until: until.next() }));
    }
}
