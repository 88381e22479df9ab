//! The gRPC interface: messages and clients as `tallyman-client` generates them, and the servers.

pub mod raw;

mod server {
    #![allow(clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    #![allow(
        elided_lifetimes_in_paths,
        unused_qualifications,
        unreachable_pub,
        clippy::use_self,
        reason = "generated"
    )]

    tonic::include_proto!("tallyman.v1");
}

pub use server::*;
pub(crate) use tallyman_client::proto::*;

/// The compiled proto, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tallyman.v1.descriptors.bin"));
