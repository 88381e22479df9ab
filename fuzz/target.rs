//! Every binary is this file, and runs the target that it is named after.
#![no_main]

use std::{env, fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tallyman::testing::fuzz::{self, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| fuzz::target(env!("CARGO_BIN_NAME")));

fuzz_target!(
    init: write_seeds(),
    |data: &[u8]| {
        (TARGET.run)(data);
    }
);

/// Into the corpus, which libFuzzer reads after this.
fn write_seeds() {
    let Some(folder) = env::var_os("TALLYMAN_FUZZ_SEEDS") else { return };
    for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
        fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).expect("the corpus can be written");
    }
}
