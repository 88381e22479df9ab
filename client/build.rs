//! Generates the messages and the clients from the proto, without protoc: protox parses it in Rust.

const PROTO: &str = "tallyman/v1/tallyman.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/{PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
