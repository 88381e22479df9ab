//! The Python of the tests' virtual environment, which `make test` sets up.

use std::{path::PathBuf, process::Command};

pub(crate) fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Where `make setup` puts what the tests need.
pub(crate) fn cache() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder = of("XDG_CACHE_HOME").unwrap_or_else(|| of("HOME").unwrap().join(".cache"));
    folder.join("tallyman")
}

pub(crate) fn interpreter() -> PathBuf {
    let named = std::env::var_os("TALLYMAN_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| cache().join("venv/bin/python"));
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    python
}

pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(root().join(script));
    command
}
