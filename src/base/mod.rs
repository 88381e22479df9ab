//! Small things that the rest stands on, each usable alone.

#[cfg(feature = "agent")]
pub mod clock;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod disk;
#[cfg(feature = "agent")]
pub mod metrics;
pub mod proto;
#[cfg(feature = "agent")]
pub mod sabotage;
#[cfg(feature = "agent")]
pub mod tasks;
#[cfg(feature = "agent")]
pub mod telemetry;
#[cfg(feature = "agent")]
pub mod x509;
