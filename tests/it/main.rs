//! The real binary, from outside.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests fail by panicking, and start threads and processes as they like"
)]

mod architecture;
mod audit;
mod bench;
mod browser;
mod circles;
mod client;
mod client_alone;
mod clock;
mod contract;
mod customers;
mod deploy;
mod docs;
mod ended_customers;
mod environment;
mod examples;
mod faults;
mod finance;
mod footprint;
mod ingest;
mod layers;
mod licenses;
mod lifecycle;
mod mistakes;
mod moves;
mod pace;
mod peers;
mod security;
mod streams;
mod submission;
mod support;
mod telemetry;
mod unknown_customers;
