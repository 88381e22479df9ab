//! The load generator: sends usage as fast as it is answered, or at a rate, and measures the answers.
//!
//! Most measurements run it on the agent's own cores, so it must cost little. It encodes a few requests once, and makes
//! each later one from a copy, whose event ids it overwrites. Where the application's own work is to be measured too,
//! it encodes every request anew.

mod codec;
mod report;
mod requests;
mod schedule;
mod stream;
mod unary;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

pub use report::Report;
pub use requests::Usage;

use codec::Message;
use report::WorkerReport;
use requests::Requests;
use schedule::Schedule;

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Load {
    pub mode: Mode,
    pub usage: Usage,
    /// Whether each request is built and encoded anew, as an application does it.
    pub encodes_anew: bool,
    /// Events in each request.
    pub batch: u32,
    /// Requests that wait for their answers on each connection.
    pub in_flight: u32,
    pub most_events: u64,
    pub duration: Duration,
    /// Events a second, however long the answers take; 0 for as fast as the answers come.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Calls of `Record`.
    Unary,
    /// One `RecordStream` on each connection.
    Stream,
}

/// The agent under load, with every connection to it open.
#[derive(Clone, Debug)]
pub struct Target {
    pub connections: Vec<Channel>,
    pub authorization: Option<AsciiMetadataValue>,
}

/// Sends all requests. Failures of the agent are part of the report; an error means that the run could not begin.
pub async fn run(load: &Load, target: Target) -> Result<Report, Status> {
    let connections = target.connections.len();
    let workers = match load.mode {
        Mode::Unary => connections.saturating_mul(load.in_flight as usize),
        Mode::Stream => connections,
    };
    let Target { connections, authorization } = target;
    let job =
        Arc::new(Job { requests: Requests::new(load), authorization, in_flight: load.in_flight as usize });
    let mut streams = Vec::new();
    if load.mode == Mode::Stream {
        for channel in &connections {
            streams.push(stream::open(&job, channel.clone(), streams.len()).await?);
        }
    }
    let schedule = Arc::new(Schedule::start(load, workers));
    let mut running = JoinSet::new();
    for stream in streams {
        running.spawn(stream::work(job.clone(), schedule.clone(), stream));
    }
    for worker in 0..workers {
        if load.mode == Mode::Unary {
            let channel = connections[worker % connections.len()].clone();
            running.spawn(unary::work(job.clone(), schedule.clone(), channel));
        }
    }
    let reports: Vec<WorkerReport> = running.join_all().await;
    Ok(Report::new(schedule.began(), reports))
}

/// Upper bound of an answer: one that rejects every event fits.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What all workers share.
struct Job {
    requests: Requests,
    authorization: Option<AsciiMetadataValue>,
    in_flight: usize,
}

impl Job {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}
