//! The Python of the tests' virtual environment, which `make test` sets up.

use std::{path::PathBuf, process::Command};

pub(crate) fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

pub(crate) fn interpreter() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || of("XDG_CACHE_HOME").unwrap_or_else(|| of("HOME").unwrap().join(".cache"));
    let python = of("TALLYMAN_TEST_PYTHON").unwrap_or_else(|| cache().join("tallyman/venv/bin/python"));
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    python
}

pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(root().join(script));
    command
}
