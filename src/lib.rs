pub mod domain;
pub mod base;
