//! What goes wrong on purpose.

mod injector;
mod period;
mod rate_limit;
pub(super) mod rules;
mod settings;

pub(super) use self::injector::{DrawnFaults, FaultInjector};
pub(crate) use self::rules::ChosenAnswer;
pub use self::settings::Faults;
#[cfg(any(test, fuzzing))]
pub(crate) use self::{period::Period, rules::Rule};
