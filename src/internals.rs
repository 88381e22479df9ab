//! What the benches and the integration tests use of the agent. It is no interface: it changes with the code.

pub use crate::{
    api::usage::{Hasher, ValidationContext, fold_message, fold_request},
    aws::metering::ScriptedMetering,
    base::{
        clock::{Clock, ClockSpec},
        config::{Config, parse as parse_config},
        proto::{DESCRIPTORS, raw, usage_service_server},
        tasks::Tasks,
    },
    domain::{
        billing::{
            answer::{Answers, Reply},
            deadline::Window,
            outbox::Outbox,
            record::{Amounts, Delivery, Outcome, Record, RecordId, Settled},
            seal::{BilledCustomer, SealContext, seal},
        },
        customer::{
            identity::{Identity, IdentityMode},
            standing::Standing,
            state::CustomerState,
        },
        product::{Aggregate, Catalog, Dimension, DimensionIndex, Product, ProductIndex, QuantityLimits},
        time::{Hour, Timestamp},
        usage::{
            bucket::{Bucket, Carried, Usage},
            event::TimeBounds,
            quantity::{Rounding, Unit},
        },
    },
    engine::{
        billing::{Settlement, record_reader::RecordReader},
        committer::{Committer, Ticket},
        counting::{
            CountError,
            dedup::Dedup,
            request::{CountRequest, Counted, CustomerRef, Identified, NewCustomer, UsageEntry},
        },
        customers::{Customer, CustomerDirectory, CustomerIndex, CustomerTable},
        lifecycle::Lifecycle,
        rules::Rules,
        state::EngineState,
        submitter::{Options as SubmitterOptions, Submitter, UnsentStatus, rate_limiter::RateLimiter},
        trusted_clock::TrustedClock,
        watermark::Watermarks,
        write_txn::WriteTxn,
    },
    load::{Load, Mode, Report, Target, Usage as LoadUsage, run as run_load},
    sandbox::{BilledRecord, Faults, LoggedCall, Sandbox, SandboxOptions},
    store::{
        Batch, ReadTable, RocksStore, Store, Table,
        claim::claim_format,
        tables::{deliveries::Deliveries, meta::Format, sealing::NextRecord, settled::Receipts},
    },
};
