//! The work: count, seal, submit. One owner for each piece of state; others hold a cheap handle.

pub mod audit;
pub mod books;
pub mod committer;
pub mod delta;
#[cfg(test)]
mod desk;
pub mod pace;
pub mod phase;
pub mod roster;
#[cfg(test)]
mod sample;
pub mod sealer;
#[cfg(test)]
mod simulation;
pub mod submitter;
pub mod trusted_clock;
