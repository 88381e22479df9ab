pub mod base;
pub mod domain;
pub mod work;
pub mod worlds;
