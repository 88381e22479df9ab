//! The load generator: sends usage as fast as it is answered, or at a rate, and measures the answers.
//!
//! It shares its cores with the agent in most measurements. So requests are encoded once, and a later one differs only
//! in its event ids, which are written over a copy.

mod codec;
mod pace;
mod report;
mod requests;
mod stream;
mod unary;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

pub use report::Report;
pub use requests::Usage;

use codec::Message;
use pace::Pace;
use report::Tally;
use requests::Requests;

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Load {
    pub mode: Mode,
    pub usage: Usage,
    /// Events in each request.
    pub batch: u32,
    /// Requests of each connection that wait for their answers.
    pub in_flight: u32,
    pub most_events: u64,
    pub duration: Duration,
    /// Events a second, whatever the answers take; 0 for as fast as they come.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Calls of `Record`.
    Unary,
    /// One `RecordStream` on each connection.
    Stream,
}

/// An agent that answered the door, once for each connection.
#[derive(Clone, Debug)]
pub struct Target {
    pub connections: Vec<Channel>,
    pub authorization: Option<AsciiMetadataValue>,
}

/// Sends it all. An agent that fails is part of the report; the error is one that kept it from beginning.
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
    let pace = Arc::new(Pace::start(load, workers));
    let mut running = JoinSet::new();
    for stream in streams {
        running.spawn(stream::work(job.clone(), pace.clone(), stream));
    }
    for worker in 0..workers {
        if load.mode == Mode::Unary {
            let channel = connections[worker % connections.len()].clone();
            running.spawn(unary::work(job.clone(), pace.clone(), channel));
        }
    }
    let tallies: Vec<Tally> = running.join_all().await;
    Ok(Report::new(pace.began(), tallies))
}

/// Room for an answer that rejects every event.
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
