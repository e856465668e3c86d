//! A shard is the keys that one core owns: a Dash index over a pool of records, the data types, and the commands.
//!
//! Synchronous: no I/O, no clock, no randomness of its own. A command goes in with the time and a reply comes out, so
//! that any handler is tested in five lines.
//!
//! ```text
//!   command ──▶ keyspace ──▶ dash      hash ─▶ where the record lies
//!      │           │  ▲
//!      │           ▼  │
//!      └──▶ value ──▶ eagle_pmem::Log  the records themselves
//!                     ▲
//!   background: flushed tables swept, expired keys removed, dead records compacted away, heat aged
//! ```

#![forbid(unsafe_op_in_unsafe_fn)]

mod background;
pub mod call;
mod carry;
mod checkpoint;
pub mod command;
mod compact;
pub mod dash;
mod digest;
pub mod error;
mod evict;
mod expire;
mod flush;
pub mod glob;
mod heat;
pub mod keyspace;
mod limit;
mod medium;
mod reload;
mod replay;
mod room;
mod scan;
mod scrub;
pub mod shard;
pub mod slot;
pub mod spec;
pub mod syntax;
mod transfer;
pub mod value;

#[cfg(test)]
mod tests;

pub use background::{Budget, Progress};
pub use carry::{ExportCursor, Exported};
pub use checkpoint::databases_of;
pub use digest::Digest;
pub use evict::{Eviction, Order, Policy};
pub use expire::EXPIRY_ROUND_MS;
pub use heat::IDLE_SECONDS_MAX;
pub use limit::Room;
pub use replay::{Loading, ReplayError};
pub use scrub::ScrubStats;
pub use transfer::Copied;
