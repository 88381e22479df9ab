//! The software bill of materials: valid, whole, and the same each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::support::python::{interpreter, python, root};

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn write(file: &Path) -> Value {
    output(Command::new(interpreter()).arg(root().join("scripts/sbom")).arg(file));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What Cargo itself says is in the binary, by name and version.
fn crates_of_the_binary() -> BTreeSet<(String, String)> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root())
        .args(["tree", "--locked", "--features", "otlp", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"]);
    let lines = output(&mut tree);
    let named = lines.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    });
    named.collect()
}

#[test]
fn the_bill_of_materials_is_valid_and_has_every_crate_of_the_binary() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sbom.cdx.json");
    let bill = write(&file);
    output(python("tests/python/sbom.py").arg(&file));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = &bill["metadata"]["component"];
    assert_eq!(own["name"], "tallyman");
    let listed: BTreeMap<_, _> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ((text(&one["name"]), text(&one["version"])), one))
        .collect();
    let mut wanted = crates_of_the_binary();
    assert!(wanted.remove(&("tallyman".to_owned(), text(&own["version"]))) && wanted.len() > 100);
    for key in &wanted {
        let one = listed.get(key).unwrap_or_else(|| panic!("{key:?} is missing"));
        assert_eq!(one["scope"], "required", "{key:?}");
        // Our own are in no registry, which would know their checksum.
        let is_own = key.0.starts_with("tallyman-");
        assert_eq!(text(&one["hashes"][0]["content"]).len(), if is_own { 0 } else { 64 }, "{key:?}");
        assert!(one["licenses"][0]["expression"].is_string(), "{key:?}");
    }
    let required = listed.values().filter(|one| one["scope"] == "required").count();
    assert_eq!(required, wanted.len(), "and nothing that is not there");
    let again = write(&folder.path().join("again.json"));
    assert_eq!(again, bill);
}
