pub mod base;
pub mod domain;
pub mod faces;
pub mod work;
pub mod worlds;
