//! EagleDB node.

pub mod config;
pub mod log;

/// The version of Redis that this server answers as.
pub const REDIS_VERSION: &str = "7.2.4";
