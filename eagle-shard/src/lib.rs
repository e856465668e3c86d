//! A shard is the keys that one core owns: a Dash index over a pool of records, the data types, and the commands.
//!
//! Synchronous: no I/O, no clock, no randomness of its own. A command goes in with the time and a reply comes out, so
//! that any handler is tested in five lines.

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod call;
pub mod dash;
pub mod error;
pub mod slot;
pub mod spec;
