//! A marketplace that answers as a test tells it to.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{MeteringService, RecordBatch, Response};
use crate::domain::billing::{
    answer::{RecordAnswer, Reply},
    record::Record,
};

type Script = Box<dyn FnMut(&RecordBatch) -> Response + Send>;

/// Asks its script for each reply, and keeps what was sent.
pub struct ScriptedMetering {
    script: Mutex<Script>,
    sent: Mutex<Vec<Vec<Record>>>,
    asked: AtomicUsize,
}

impl ScriptedMetering {
    pub fn new<R: Into<Response>>(mut script: impl FnMut(&RecordBatch) -> R + Send + 'static) -> Self {
        let script = move |records: &RecordBatch| script(records).into();
        Self { script: Mutex::new(Box::new(script)), sent: Mutex::default(), asked: AtomicUsize::new(0) }
    }

    /// How often it was asked for the time alone.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Every record of every call, in order.
    pub fn sent(&self) -> Vec<Vec<Record>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reply in which AWS accepts everything.
    pub fn accept(records: &RecordBatch) -> Reply {
        let success =
            |record: &Record| RecordAnswer::Success { receipt: format!("receipt-{}", record.id).into() };
        Reply::Answered(records.iter().map(|record| (record.slot(), success(record))).collect())
    }
}

impl MeteringService for ScriptedMetering {
    fn send(&self, records: RecordBatch) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        let copies = records.iter().map(|record| (**record).clone()).collect();
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(copies);
        let response = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&records);
        Box::pin(std::future::ready(response))
    }

    /// What the script answers to no records.
    fn time(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let response = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&RecordBatch::new());
        Box::pin(std::future::ready(response))
    }
}
