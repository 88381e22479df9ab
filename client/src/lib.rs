#![doc = include_str!("../README.md")]
//!
//! # Delivery
//!
//! [`Client::record`] puts an event into a bounded buffer and waits while the buffer is full; [`Client::try_record`]
//! returns an error instead. A background task packs events into messages, numbers the messages, and sends them over one
//! gRPC stream. A message without a response is sent again under its number, over as many connections as it takes, and
//! the agent counts a number once. After a restart of the application the numbers continue where the agent says.
//!
//! **A killed process loses its buffer.** The buffer is memory. An application that must not lose events stores them
//! itself, gives each an `event_id` and a time of its own, and records again what it has not seen
//! [flushed](Client::flush). With both it counts once for as long as the agent takes it; with an id alone, inside the
//! agent's `hour.dedup_window` (by default a day and five minutes).
//!
//! **A producer id belongs to one process at a time.** With two, each would use up numbers of the other. The agent takes the
//! messages of the stream that was opened last. The client of the other ends at once with
//! [`EndReason::ProducerIdInUse`], or with [`EndReason::Diverged`] if the agent has counted other events under one of its
//! numbers, and reports what was not acknowledged. It does not connect again, or the two would end each other's
//! streams without end. [`Client::ended`] tells.
//!
//! **Rejected events** arrive in a [`Report`], each with the reason. When a response is lost, the agent knows the message
//! by its number and does not repeat its rejections. Such events arrive as [`Report::ResponseLost`]: each counts unless it
//! was rejected. Recorded once more with the same event ids, they show which.

#![warn(missing_docs)]

mod address;
mod backoff;
mod batch;
mod client;
mod connection;
mod credentials;
mod error;
mod outbox;
#[doc(hidden)]
pub mod proto;
mod report;
mod settings;
mod worker;

pub use address::{Address, AddressError};
pub use client::Client;
#[doc(hidden)]
pub use credentials::root_cause;
pub use credentials::{Credentials, CredentialsError};
pub use error::{DeliveryError, EndReason, RecordError, RecordErrorKind};
pub use proto::{UsageEvent, rejection::Reason as RejectionReason};
pub use report::{Report, Totals};
pub use settings::{Settings, SettingsError};
