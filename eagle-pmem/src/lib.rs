//! A shard's pool: an append-only log of checksummed records in extents.
//!
//! The log is the truth; every index is a cache of it. A record is written once, at the end of the
//! open extent, and read where it lies; what is behind the end is never changed (but for logs that
//! nobody replays), so on the medium there is a whole record or visibly none. What a new record
//! supersedes is only counted as dead; compaction copies what still lives out of an extent, and the
//! extent is used again.
//!
//! ```text
//!   Log::append ─▶ open extent ─▶ sealed extent ─▶ freed: nothing alive, or all relocated
//!                      │               │                  │
//!                  Log::commit     Log::walk        taken again for appending or compaction
//!                      │
//!                      ▼
//!           pages to be written to the file at the same offsets (`sync`, `log::medium`)
//! ```
//!
//! The log lies in memory; a pool's file is its mirror, written by whoever drives the log. [`Log::of_file`] finds the records
//! again ([`Scan`]).
//!
//! Entry points: [`Log`] is all that a shard sees; [`Record`] is what it reads and [`RecordParts`]
//! what it writes. `layout` is the format with its drawings.
//!
//! What always holds:
//! - a [`PoolOffset`] stays valid, and its record stays in place, until the record is killed,
//!   overwritten or relocated;
//! - live bytes of each extent are exact, so an extent with nothing alive is known at once;
//! - a record's checksum is seeded with pool, extent sequence and offset: bytes left by an extent's
//!   former use never verify.
//!
//! Absent on purpose: clocks, threads, locks, and any idea of what keys and values mean. A log
//! belongs to one shard.

mod checkpoint;
mod checksum;
mod domain;
mod error;
mod extent;
pub mod layout;
mod log;
mod mapping;
mod offset;
mod pool;
mod quarantine;
mod record;
mod superblock;
mod sync;

pub use checkpoint::{Checkpoint, CheckpointBlocks, CheckpointWriter, unfinished as unfinished_checkpoint};
pub use checksum::ExtentSeed;
pub use domain::{Domain, MapMode, Persistence, WriteBack, write_back_in};
pub use error::{Full, PoolError};
pub use extent::{Extent, ExtentId, ExtentState, GROWTH_BYTES_MIN};
pub use layout::ExtentKind;
pub use log::{
    CheckError, Commit, Damage, DamageKind, EXTENT_KINDS, Edit, Found, KINDS, Log, LogConfig, LogState, Policy,
    RecoveryReport, Scan, ScrubPlace, Scrubbed, Stale, Usage, Walk,
};
pub use offset::{CollectionId, PoolOffset, Position};
pub use pool::PoolFile;
pub use quarantine::{Quarantined, read_quarantine};
pub use record::{EXPIRY_MS_MAX, Kind, Record, RecordError, RecordParts};
pub use superblock::{FORMAT_VERSION, SUPERBLOCK_BYTES, SlotMap, Superblock, SuperblockError};
pub use sync::{SyncMark, Synced};
