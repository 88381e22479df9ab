//! What waits for AWS, and what AWS said last, by product code, for all to see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::domain::{
    billing::{
        answer::{Reply, Verdict},
        outbox::Unsent,
        record::Outcome,
    },
    time::Timestamp,
};

#[derive(Clone, Debug, Default)]
pub struct UnsentStatus(Arc<Mutex<BTreeMap<Arc<str>, Line>>>);

#[derive(Debug, Default)]
struct Line {
    unsent: Unsent,
    last_answer: Option<LastAnswer>,
}

/// How the last call for a product ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAnswer {
    pub at: Timestamp,
    pub took: Duration,
    /// The records in the call.
    pub records: usize,
    pub said: Said,
}

/// What AWS said, without what it said about single records: that could name a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Answered {
        accepted: usize,
    },
    Throttled,
    NotDelivered(Arc<str>),
    Lost(Arc<str>),
    /// AWS refused the call for one of its records.
    RefusedRecord,
    Setup(Arc<str>),
}

impl UnsentStatus {
    pub fn get(&self, product: &str) -> Unsent {
        self.lines().get(product).map(|line| line.unsent.clone()).unwrap_or_default()
    }

    /// `None` if there was no call since the start.
    pub fn last_answer(&self, product: &str) -> Option<LastAnswer> {
        self.lines().get(product)?.last_answer.clone()
    }

    pub(super) fn put(&self, product: &Arc<str>, unsent: Unsent) {
        self.lines().entry(product.clone()).or_default().unsent = unsent;
    }

    pub(super) fn note(&self, product: &Arc<str>, answer: LastAnswer) {
        self.lines().entry(product.clone()).or_default().last_answer = Some(answer);
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// What kept AWS from answering, or what it refuses.
    pub fn fault(&self) -> Option<Arc<str>> {
        match self {
            Self::NotDelivered(fault) | Self::Lost(fault) | Self::Setup(fault) => Some(fault.clone()),
            Self::Throttled => Some("AWS throttles".into()),
            Self::Answered { .. } | Self::RefusedRecord => None,
        }
    }

    /// Whether no record of the call could be accepted, whatever it was.
    pub const fn keeps_all_back(&self) -> bool {
        match self {
            Self::Throttled | Self::NotDelivered(_) | Self::Lost(_) | Self::Setup(_) => true,
            Self::Answered { .. } | Self::RefusedRecord => false,
        }
    }

    pub(super) fn of(reply: &Reply, verdicts: &[Verdict]) -> Self {
        let is_accepted = |verdict: &&Verdict| matches!(verdict, Verdict::Settle(Outcome::Accepted { .. }));
        match reply {
            Reply::Answered(_) => Self::Answered { accepted: verdicts.iter().filter(is_accepted).count() },
            Reply::Throttled => Self::Throttled,
            Reply::NotDelivered(error) => Self::NotDelivered(error.clone()),
            Reply::Lost(error) => Self::Lost(error.clone()),
            Reply::BadRecord(_) | Reply::TooOld(_) | Reply::UnknownIdentity(..) => Self::RefusedRecord,
            Reply::Setup(error) => Self::Setup(error.clone()),
        }
    }
}
