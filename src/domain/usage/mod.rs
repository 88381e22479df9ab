//! Usage: which events are accepted, where they count, and how they add up.

pub(crate) mod bucket;
pub(crate) mod carried;
pub(crate) mod event;
pub(crate) mod locate;
pub(crate) mod quantity;
mod shortened;
pub(crate) mod tags;
