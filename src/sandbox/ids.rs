//! Ids that the sandbox gives out.

use fastrand::Rng;

/// Random ids in the form of UUIDs, the same ones for the same seed.
#[derive(Debug)]
pub(super) struct Ids(Rng);

impl Ids {
    pub(super) const fn new(randomness: Rng) -> Self {
        Self(randomness)
    }

    pub(super) fn next(&mut self) -> String {
        let hex = format!("{:032x}", self.0.u128(..));
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}
