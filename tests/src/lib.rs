//! Test harness.

pub mod transcript;
