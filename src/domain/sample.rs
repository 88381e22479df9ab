//! What tests of several layers bill: a product with a dimension of each kind.

use std::time::Duration;

use super::{
    customer::identity::IdentityMode,
    product::{Aggregate, Dimension, Product, QuantityLimits},
    usage::quantity::{Rounding, Unit},
};

/// It bills accounts; `gb` is split by tags.
pub(crate) fn product(code: &str, open: bool) -> Product {
    let dimension = |name: &str, aggregate| Dimension {
        name: name.into(),
        aggregate,
        unit: Unit::default(),
        rounding: Rounding::Down,
        tags: name == "gb",
        limits: QuantityLimits::default(),
    };
    Product {
        code: code.into(),
        identity: IdentityMode::Account,
        former: None,
        open,
        zero_records: true,
        review: Duration::ZERO,
        dimensions: vec![
            dimension("requests", Aggregate::Sum),
            dimension("calls", Aggregate::Count),
            dimension("gb", Aggregate::Sum),
            dimension("peak", Aggregate::Max),
            dimension("seats", Aggregate::Latest { hold: false }),
            dimension("users", Aggregate::Unique),
        ],
    }
}
