//! Generates the server's code from the proto, without protoc: protox parses it in Rust. The messages are those of
//! `tallyman-client`.

use std::{env, fs, path::PathBuf};

const PROTO: &str = "tallyman/v1/tallyman.proto";

#[expect(clippy::disallowed_methods, reason = "Cargo speaks to build scripts through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/{PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tallyman.v1.descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .build_client(false)
        // Requests that bring usage stay as they came: `base::proto::raw` says why.
        .extern_path(".tallyman.v1.RecordRequest", "crate::base::proto::raw::RecordRequest")
        .extern_path(".tallyman.v1.RecordStreamRequest", "crate::base::proto::raw::RecordStreamRequest")
        .extern_path(".tallyman.v1", "::tallyman_client::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
