//! The faces: parse, call, answer. No state of their own.

pub mod admin;

pub mod customers;
pub mod grpc;
pub mod ingest;
pub mod ledger;

mod status;
pub mod summary;
pub mod view;
