//! The configured limits and durations that counting and billing obey.

use std::{sync::Arc, time::Duration};

use crate::{
    base::config::Config,
    domain::{
        billing::{deadline::Window, record::MissedPolicy, seal::events_late_by},
        customer::limits::CustomerLimits,
        product::Catalog,
    },
};

#[derive(Clone, Debug)]
pub struct Rules {
    pub catalog: Arc<Catalog>,
    pub grace: Duration,
    pub dedup_window: Duration,
    /// An event's id is known for as long as the event is taken: one whose id may be forgotten is refused.
    pub ids_outlive_events: bool,
    pub window: Window,
    /// How long after its time an event may still come.
    pub events_late_by: Duration,
    pub missed: MissedPolicy,
    pub receipts_kept: Duration,
    pub customers: CustomerLimits,
    pub max_open_buckets: usize,
    pub max_open_subjects: u64,
    pub max_open_tag_sets: usize,
}

impl Rules {
    /// As the configuration says; of its catalog the caller may know more, as which identity a product had before.
    pub fn new(config: &Config, catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            grace: config.hour.grace,
            dedup_window: config.hour.dedup_window,
            ids_outlive_events: config.hour.dedup_window >= config.hour.ids_needed_for(),
            window: config.submission.window,
            events_late_by: events_late_by(config.hour.bounds.max_age, config.hour.grace),
            missed: config.submission.missed,
            receipts_kept: config.retention.receipts,
            customers: config.limits.customers,
            max_open_buckets: config.limits.max_open_buckets,
            max_open_subjects: config.limits.max_open_subjects,
            max_open_tag_sets: config.limits.max_open_tag_sets,
        }
    }
}
