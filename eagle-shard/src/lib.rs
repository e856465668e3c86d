//! Placeholder.

pub mod dash;
pub mod slot;
