//! What tests share, the simulation, and the fuzz targets. No binary has any of it.

pub mod fuzz;
#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod simulation;
