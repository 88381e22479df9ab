//! tallyman: usage metering for SaaS products sold on AWS Marketplace.
//!
//! ```text
//!  app pods --gRPC--> ingest --> committer --> buckets --(hour over)--> sealer --> records --> submitter --> AWS
//!                      parse      group         open                     freeze     frozen      plan, send,
//!                      and fold   commit, ack   hours                    + zeros    + due       settle
//!                                      \___________ store (RocksDB) __________/
//!  roster: who is billed           admin: metrics, health, summary           sandbox: AWS on a laptop
//! ```
//!
//! Layers, each of which may name only those above it:
//!
//! - [`domain`] decides: time, quantities, buckets, records, batches, answers. Pure.
//! - [`base`] is what the rest stands on: clock, configuration, metrics, tasks, the generated gRPC types.
//! - [`worlds`] are outside: the store and the marketplace, each behind one trait.
//! - [`work`] counts, seals and submits. One owner for each piece of state.
//! - [`faces`] parse, call and answer: gRPC, admin, command line, sandbox.
//! - [`app`] builds, runs and stops it all.
//!
//! [`client`] is for applications. It names nothing but [`base::proto`], and with the feature `client` alone, without
//! `agent`, it is all that is compiled.

#[cfg(feature = "agent")]
pub mod app;
pub mod base;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "agent")]
pub mod domain;
#[cfg(feature = "agent")]
pub mod faces;
#[cfg(all(feature = "agent", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "agent")]
pub mod work;
#[cfg(feature = "agent")]
pub mod worlds;
