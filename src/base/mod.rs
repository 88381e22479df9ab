//! Small things that the rest stands on, each usable alone.

pub mod clock;
pub mod config;
pub mod disk;
pub mod metrics;
pub mod proto;
pub mod sabotage;
pub mod tasks;
pub mod x509;
