//! The generated gRPC types.
#![allow(clippy::pedantic, clippy::allow_attributes_without_reason, missing_docs, reason = "generated")]
#![allow(
    unreachable_pub,
    elided_lifetimes_in_paths,
    unused_qualifications,
    clippy::use_self,
    reason = "generated"
)]

#[cfg(feature = "agent")]
pub mod raw;

tonic::include_proto!("tallyman.v1");

/// `UsageService`, served without prost building a value for each event.
#[cfg(feature = "agent")]
pub mod served {
    tonic::include_proto!("served/tallyman.v1");
}

/// The compiled proto, for server reflection.
#[cfg(feature = "agent")]
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tallyman.v1.descriptors.bin"));
