//! The settings of a client.

use std::time::Duration;

use thiserror::Error;

use crate::{
    address::{Address, AddressError},
    credentials::{Credentials, CredentialsError},
};

/// Above the size of any event that an agent takes.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 10;
/// The longest producer id that an agent takes.
const MAX_PRODUCER_ID_BYTES: usize = 128;
const MAX_BATCH_EVENTS: usize = 100_000;
/// Half of what an agent takes in one message.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// An agent reads no more messages of a stream before it has responded to some.
const MAX_IN_FLIGHT: usize = 64;
/// The largest buffer: at least a few GiB of events.
const MAX_BUFFER: usize = 10_000_000;

/// The settings of a [`Client`](crate::Client). [`Settings::new`] gives the defaults, and each field may be changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The agent's address.
    pub address: Address,
    /// The files that identify the client to the agent and the agent to the client. Default: none.
    pub credentials: Credentials,
    /// The name that the messages are numbered under, 1 to 128 bytes. A process keeps it across restarts, and no two
    /// processes use it at a time.
    pub producer_id: String,
    /// The most events in a message: 1 to 100 000, and no more than the agent's `grpc.max_events_per_request`. Default:
    /// 500.
    pub batch_events: usize,
    /// The most bytes in a message: 16 KiB to 8 MiB. Default: 1 MiB.
    pub batch_bytes: usize,
    /// How long an event waits for others to fill its message. Default: 50 ms.
    pub batch_time: Duration,
    /// The most messages without a response: 1 to 64. Default: 16.
    pub in_flight: usize,
    /// The most events that are recorded and not acknowledged: 1 to 10 000 000. At that number
    /// [`record`](crate::Client::record) waits and [`try_record`](crate::Client::try_record) fails. Default: 50 000.
    pub buffer: usize,
    /// Whether an event without an `event_id` gets a random one when it is recorded. Default: `true`.
    pub event_ids: bool,
    /// Whether an event without a time gets that of its recording, so that it counts in its hour when it is delivered
    /// later. Default: `true`. Set `false` for an agent whose clock is not the real one (`tallyman run --sandbox
    /// --clock`).
    pub stamp_time: bool,
    /// How long the agent may take for a response before the client connects anew. Default: 30 s.
    pub response_timeout: Duration,
    /// How long the client retries while nothing is acknowledged. Then it ends, and reports the events that it has.
    /// Default: 1 h.
    pub give_up_after: Duration,
}

impl Settings {
    /// The defaults for an agent at `address`: `host:port`, `http://host:port`, `https://host:port` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Address`] if the address has another form. The other fields are checked by
    /// [`Client::open`](crate::Client::open).
    pub fn new(address: &str, producer_id: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            address: address.parse()?,
            credentials: Credentials::default(),
            producer_id: producer_id.to_owned(),
            batch_events: 500,
            batch_bytes: 1 << 20,
            batch_time: Duration::from_millis(50),
            in_flight: 16,
            buffer: 50_000,
            event_ids: true,
            stamp_time: true,
            response_timeout: Duration::from_secs(30),
            give_up_after: Duration::from_hours(1),
        })
    }

    /// Checks the ranges, and reads the files once, so that a wrong path shows at the start.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let ranges = [
            ("producer_id, in bytes,", self.producer_id.len(), 1, MAX_PRODUCER_ID_BYTES),
            ("batch_events", self.batch_events, 1, MAX_BATCH_EVENTS),
            ("batch_bytes", self.batch_bytes, MAX_EVENT_BYTES, MAX_BATCH_BYTES),
            ("in_flight", self.in_flight, 1, MAX_IN_FLIGHT),
            ("buffer", self.buffer, 1, MAX_BUFFER),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingsError::OutOfRange { name, value, least, most });
            }
        }
        self.credentials.endpoint(&self.address)?;
        self.credentials.authorization()?;
        Ok(())
    }
}

/// Settings that no client can start with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address has none of the valid forms.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A field is out of its range.
    #[error("{name} is {value}; it must be from {least} to {most}")]
    OutOfRange {
        /// The field's name.
        name: &'static str,
        /// The field's value.
        value: usize,
        /// The least valid value.
        least: usize,
        /// The greatest valid value.
        most: usize,
    },
    /// A file of the credentials cannot be read or used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
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
        let no_file = |settings: &mut Settings| settings.credentials.token_file = Some("/no/such".into());
        assert!(with(no_file).contains("/no/such"));
        assert!(Settings::new("nowhere", "app").unwrap_err().to_string().contains("host:port"));
    }
}
