//! The worlds outside, each behind one trait: the disk and AWS.

pub mod marketplace;
pub mod store;
