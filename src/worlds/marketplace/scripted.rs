//! A marketplace that answers as a test tells it to.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use super::{Marketplace, Records, Response};
use crate::domain::{
    answer::{Line, Reply},
    record::Record,
};

type Script = Box<dyn FnMut(&Records) -> Response + Send>;

/// Asks its script for each reply, and keeps what was sent.
pub struct ScriptedMarketplace {
    script: Mutex<Script>,
    sent: Mutex<Vec<Vec<Record>>>,
}

impl ScriptedMarketplace {
    pub fn new<R: Into<Response>>(mut script: impl FnMut(&Records) -> R + Send + 'static) -> Self {
        let script = move |records: &Records| script(records).into();
        Self { script: Mutex::new(Box::new(script)), sent: Mutex::default() }
    }

    /// Every record of every call, in order.
    pub fn sent(&self) -> Vec<Vec<Record>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reply in which AWS accepts everything.
    pub fn accept(records: &Records) -> Reply {
        let success = |record: &Record| Line::Success { receipt: format!("receipt-{}", record.id).into() };
        Reply::Answered(records.iter().map(|record| (record.slot(), success(record))).collect())
    }
}

impl Marketplace for ScriptedMarketplace {
    fn send(&self, records: Records) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        let copies = records.iter().map(|record| (**record).clone()).collect();
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(copies);
        let response = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&records);
        Box::pin(std::future::ready(response))
    }
}
