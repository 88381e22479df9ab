//! tallyman: usage metering for SaaS products sold on AWS Marketplace.
//!
//! ARCHITECTURE.md has the picture, the words and the reasons. Layers, each of which may name only those above it:
//!
//! - `domain` decides: time, quantities, buckets, records, batches, answers. Pure.
//! - `base` is what the rest stands on: clock, configuration, metrics, tasks, the generated gRPC types.
//! - `store` keeps everything on disk, and `aws` reaches AWS, each behind one trait.
//! - `engine` counts, seals and submits. One owner for each piece of state.
//! - `api` is the gRPC interface, `admin` the port for operators: status page, metrics, probes.
//! - `sandbox` is AWS Marketplace on a laptop, and `load` the load generator.
//! - `cli` is the command line.
//! - `app` builds, runs and stops it all.
//!
//! The client for applications is a crate of its own, `tallyman-client`. It generates the messages that `base::proto`
//! has, too.

mod admin;
mod api;
mod app;
mod aws;
mod base;
mod cli;
mod domain;
mod engine;
#[doc(hidden)]
pub mod internals;
mod load;
mod sandbox;
mod store;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod testing;

pub use app::main;
