//! The faces: parse, call, answer. No state of their own.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod client;
pub mod customers;
pub mod grpc;
pub mod ingest;
pub mod ledger;
pub mod load;
mod page;
pub mod pulse;
pub mod sandbox;

mod status;
pub mod summary;
pub mod view;
