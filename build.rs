//! Compiles the proto without protoc: protox parses it in Rust.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use prost_types::FileDescriptorSet;

const PROTO: &str = "tallyman/v1/tallyman.proto";

#[expect(clippy::disallowed_methods, reason = "Cargo speaks to build scripts through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tallyman.v1.descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    serve_raw(descriptors.clone(), &out.join("served"))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

/// `UsageService` once more, with requests that stay as they came: `base::proto::raw` says why.
fn serve_raw(mut descriptors: FileDescriptorSet, out: &Path) -> std::io::Result<()> {
    for file in &mut descriptors.file {
        file.service.retain(|service| service.name() == "UsageService");
    }
    fs::create_dir_all(out)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(out)
        .extern_path(".tallyman.v1.RecordRequest", "crate::base::proto::raw::RecordRequest")
        .extern_path(".tallyman.v1.RecordStreamRequest", "crate::base::proto::raw::RecordStreamRequest")
        .extern_path(".tallyman.v1", "crate::base::proto")
        .compile_fds(descriptors)
}
