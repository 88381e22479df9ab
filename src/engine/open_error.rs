//! Why a configuration cannot go on from what is on disk. What is wrong with the folder itself is a `StoreError`.

use thiserror::Error;

use crate::{domain::time::Hour, store::StoreError};

#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{what} of product `{product}` is on disk, but the configuration does not know it any more: \
         put it back until everything is billed; to end it at once, close its customers (docs/changing.md)"
    )]
    NotConfigured { what: String, product: String },
    #[error(
        "product `{product}` goes to {now} now, and {records} of its records may have been billed in {before}: put `region` \
         and `endpoint_url` back until AWS has accepted them; or let a person decide that they are held until it is \
         known: {command}"
    )]
    Moved { product: String, before: String, now: String, records: u64, command: String },
    #[error(
        "product `{product}` has usage that was taken for {before}, where nothing is billed, and the configuration names \
         {now}: take a new data_dir, or a test would be billed there; if the usage is real, let a person decide: {command}"
    )]
    OnlyATest { product: String, before: String, now: String, command: String },
    #[error(
        "product `{product}` has usage that is to be billed in {before}, and the configuration names {now}, where nothing \
         is billed: put `endpoint_url` back, or take a new data_dir for a test; if the usage may end in a test, let a \
         person decide: {command}"
    )]
    NeverBilled { product: String, before: String, now: String, command: String },
    #[error(
        "dimension `{dimension}` of product `{product}` has open usage of aggregate `{before}`, and the configuration \
         says `{now}`: put it back until it is billed, or give the new aggregate a dimension of its own; to end it at \
         once, close its customers (docs/changing.md)"
    )]
    AggregateChanged { product: String, dimension: String, before: String, now: String },
    #[error(
        "product `{product}` changed to identity `{before}` a moment ago, and the hour from {until} is not sealed yet: put \
         `{before}` back until it is, since one hour under two identities is billed twice"
    )]
    IdentityChangedTwice { product: String, before: String, until: Hour },
    #[error("customer `{customer}` of product `{product}`: {why}")]
    Customer { product: String, customer: String, why: String },
}
