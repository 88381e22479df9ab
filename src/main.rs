//! The `tallyman` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tallyman::main()
}
