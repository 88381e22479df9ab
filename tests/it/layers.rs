//! The layers of the house: each may name only those above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

const LAYERS: [&str; 11] =
    ["domain", "base", "store", "aws", "engine", "api", "admin", "sandbox", "load", "cli", "app"];
/// What the domain may not name: it is pure.
const IMPURE: [&str; 9] =
    ["tokio", "tracing", "std::fs", "std::net", "std::io", "std::env", "SystemTime", "Instant", "metrics"];

#[test]
fn each_layer_names_only_those_above_it() {
    let mut faults = Vec::new();
    for (rank, layer) in LAYERS.iter().enumerate() {
        for (file, line, text) in lines(layer) {
            for lower in &LAYERS[rank + 1..] {
                if text.contains(&format!("crate::{lower}")) || starts_crate_group(&text, lower) {
                    faults.push(format!("{}:{line}: {layer} names {lower}: {}", file.display(), text.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The messages have one name in the agent, `base::proto`, and the client for applications one user, the command line.
#[test]
fn the_clients_crate_is_named_in_two_places() {
    for (file, line, text) in LAYERS.into_iter().flat_map(lines) {
        let is_there =
            ["src/base/proto/", "src/cli/"].iter().any(|part| file.to_string_lossy().contains(part));
        assert!(is_there || !text.contains("tallyman_client"), "{}:{line}: {}", file.display(), text.trim());
    }
}

#[test]
fn the_domain_is_pure() {
    let mut faults = Vec::new();
    for (file, line, text) in lines("domain") {
        for name in IMPURE {
            if text.contains(name) && !text.trim_start().starts_with("//") {
                faults.push(format!("{}:{line}: {name}: {}", file.display(), text.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Only the engine, and the check of a configuration against a data folder, read and write tables.
#[test]
fn only_the_engine_knows_tables() {
    for (file, line, text) in ["api", "admin", "cli", "sandbox", "load"].into_iter().flat_map(lines) {
        let is_table = ["store::tables", "TableId", "ReadTable"].iter().any(|name| text.contains(name));
        assert!(!is_table, "{}:{line}: {}", file.display(), text.trim());
    }
}

#[test]
fn foreign_types_stay_in_their_room() {
    let owners = [
        ("rocksdb::", "src/store/rocks/"),
        ("aws_sdk_", "src/aws/"),
        ("aws_config", "src/aws/"),
        ("aws_credential_types", "src/aws/"),
        ("aws_smithy_http_", "src/aws/"),
        ("aws_smithy_runtime_", "src/aws/"),
    ];
    for layer in LAYERS {
        for (file, line, text) in lines(layer) {
            for (name, owner) in owners {
                let is_test =
                    file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
                let is_owner = file.to_string_lossy().contains(owner) || is_test;
                assert!(
                    is_owner || !text.contains(name),
                    "{}:{line}: {name} belongs to {owner}",
                    file.display()
                );
            }
        }
    }
}

/// `use crate::{ ... }` puts each layer at the start of a line of its own.
fn starts_crate_group(text: &str, layer: &str) -> bool {
    text.strip_prefix("    ").is_some_and(|rest| rest.starts_with(&format!("{layer}::")))
}

/// Every line of a layer's code: (file, number, text).
fn lines(layer: &str) -> Vec<(PathBuf, usize, String)> {
    let mut files = Vec::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(layer), &mut files);
    assert!(!files.is_empty(), "no files in {layer}");
    let numbered = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> =
            text.lines().zip(1..).map(|(line, number)| (file.clone(), number, line.to_owned())).collect();
        lines
    };
    files.into_iter().flat_map(numbered).collect()
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
