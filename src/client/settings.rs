//! What a client is told at its start.

use std::time::Duration;

use thiserror::Error;

use super::{
    MAX_EVENT_BYTES,
    access::{Access, AccessError},
};

/// As long as a producer's name may be.
const MAX_PRODUCER_BYTES: usize = 128;
/// Half of what an agent takes in one message.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// An agent reads no more messages of a stream before it has answered some.
const MAX_IN_FLIGHT: usize = 64;
/// A few GiB of events, at the least.
const MAX_BUFFER: usize = 10_000_000;

/// How a client works. [`Settings::new`] has what suits most; change what does not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The way to the agent.
    pub access: Access,
    /// Under which name the messages are numbered: kept over restarts, and used by one process at a time.
    pub producer_id: String,
    /// Most events in a message; not above the agent's `grpc.max_events_per_request`.
    pub batch_events: usize,
    /// Most bytes in a message.
    pub batch_bytes: usize,
    /// How long an event waits for others to fill its message.
    pub batch_time: Duration,
    /// Messages that may wait for their answers.
    pub in_flight: usize,
    /// Events that are recorded and not acknowledged; when there are so many, `record` waits and `try_record` refuses.
    pub buffer: usize,
    /// Gives each event without an `event_id` a random one, once, when it is recorded.
    pub event_ids: bool,
    /// Gives each event without a time that of its recording, so that usage counts in its hour though it is delivered
    /// later. Off for an agent whose clock is not the real one (`tallyman run --sandbox --clock`).
    pub stamp_time: bool,
    /// How long an answer may take before the client connects anew.
    pub answer_timeout: Duration,
    /// For how long it tries while nothing gets through; then it ends, and reports what it has.
    pub give_up_after: Duration,
}

impl Settings {
    /// The address is `host:port`, `http://host:port`, `https://host:port` or `unix:/path`.
    pub fn new(address: &str, producer_id: &str) -> Result<Self, SettingsError> {
        let address = address.parse().map_err(SettingsError::Address)?;
        Ok(Self {
            access: Access::to(address),
            producer_id: producer_id.to_owned(),
            batch_events: 500,
            batch_bytes: 1 << 20,
            batch_time: Duration::from_millis(50),
            in_flight: 16,
            buffer: 50_000,
            event_ids: true,
            stamp_time: true,
            answer_timeout: Duration::from_secs(30),
            give_up_after: Duration::from_hours(1),
        })
    }

    /// Certificates and token are read once, so that a wrong path shows at the start.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let ranges = [
            ("producer_id, in bytes,", self.producer_id.len(), 1, MAX_PRODUCER_BYTES),
            ("batch_events", self.batch_events, 1, 100_000),
            ("batch_bytes", self.batch_bytes, MAX_EVENT_BYTES, MAX_BATCH_BYTES),
            ("in_flight", self.in_flight, 1, MAX_IN_FLIGHT),
            ("buffer", self.buffer, 1, MAX_BUFFER),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingsError::OutOfRange { name, value, least, most });
            }
        }
        self.access.endpoint()?;
        self.access.authorization()?;
        Ok(())
    }
}

/// Why a client cannot begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    #[error("{0}")]
    Address(String),
    #[error("{name} is {value}; it must be from {least} to {most}")]
    OutOfRange { name: &'static str, value: usize, least: usize, most: usize },
    #[error(transparent)]
    Access(#[from] AccessError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_new_gives_is_right_and_what_could_not_work_is_refused() {
        let good = Settings::new("127.0.0.1:7450", "app").unwrap();
        good.check().unwrap();
        let with = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(with(|settings| settings.producer_id.clear()).contains("producer_id"));
        assert!(with(|settings| settings.batch_events = 0).contains("batch_events"));
        assert!(with(|settings| settings.batch_bytes = 1000).contains("batch_bytes"));
        assert!(with(|settings| settings.in_flight = 65).contains("from 1 to 64"));
        assert!(with(|settings| settings.buffer = 0).contains("buffer"));
        assert!(with(|settings| settings.access.token_file = Some("/no/such".into())).contains("/no/such"));
        assert!(Settings::new("nowhere", "app").unwrap_err().to_string().contains("host:port"));
    }
}
