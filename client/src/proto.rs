//! The generated messages and gRPC clients of `proto/tallyman/v1/tallyman.proto`.
//!
//! Hidden rather than behind a feature: tallyman's own command line, server and tests need all of it, and so does the
//! client most of it. What an application needs is exported by name.
#![allow(clippy::pedantic, clippy::allow_attributes_without_reason, missing_docs, reason = "generated")]
#![allow(
    unreachable_pub,
    elided_lifetimes_in_paths,
    unused_qualifications,
    clippy::use_self,
    reason = "generated"
)]

tonic::include_proto!("tallyman.v1");
