//! What bytes from outside may do: be taken or be refused, and nothing else.
//!
//! A target takes any bytes, feeds them to one decoder, parser or validator, and panics if that panics or if something
//! does not hold that must hold of all it takes. The targets lie beside what they attack, and are run twice: on
//! mutated seeds by `make test`, and under libFuzzer by `make fuzz`. No release build has them.

mod config;
mod parsers;
#[cfg(test)]
mod tests;

use crate::{api::usage, aws::metering, sandbox, store};

#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// Says whether the input was taken; that it was refused is no fault.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are taken, as they come in real life. Fuzzing begins with them.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: [Target; 7] = [
    Target { name: "answers", run: metering::fuzz::answer, seeds: metering::fuzz::answers },
    Target { name: "config", run: config::config, seeds: config::configs },
    Target { name: "keys", run: store::fuzz::key, seeds: store::fuzz::keys },
    Target { name: "parsers", run: parsers::text, seeds: parsers::texts },
    Target { name: "requests", run: usage::fuzz::request, seeds: usage::fuzz::requests },
    Target { name: "sandbox", run: sandbox::fuzz::call, seeds: sandbox::fuzz::calls },
    Target { name: "values", run: store::fuzz::value, seeds: store::fuzz::values },
];

/// # Panics
///
/// If there is no such target.
pub fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("a target's name")
}
