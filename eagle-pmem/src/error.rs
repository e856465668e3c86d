//! What can go wrong with a pool: the world's faults, with their facts as fields.

use crate::superblock::SuperblockError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A pool that cannot be made or opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The extent size is no power of two between 64 KiB and 1 GiB.
    ExtentSize {
        /// What was asked for.
        bytes: usize,
    },
    /// The capacity is too small for the extents that a log needs at least, or too large for a pool
    /// offset.
    Capacity {
        /// What was asked for.
        bytes: u64,
        /// The least that works with the extent size.
        bytes_min: u64,
        /// The most that an offset can address.
        bytes_max: u64,
    },
    /// A pool file cannot be made, read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no pool that this program can open; it is left as it is.
    Superblock {
        /// Which.
        path: PathBuf,
        /// What is wrong with its superblock.
        source: SuperblockError,
    },
    /// A file is to be mapped as memory that is the medium, and cannot be.
    NotDax {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses the address range.
    Map {
        /// How much was asked for.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExtentSize { bytes } => {
                write!(f, "extent size of {bytes} bytes is no power of two between 64 KiB and 1 GiB")
            }
            Self::Capacity { bytes, bytes_min, bytes_max } => {
                write!(f, "pool capacity of {bytes} bytes is not between {bytes_min} and {bytes_max} bytes")
            }
            Self::File { path, doing, source } => write!(f, "cannot {doing} the pool {}: {source}", path.display()),
            Self::Superblock { path, source } => write!(f, "cannot open the pool {}: {source}", path.display()),
            Self::NotDax { path, source } => write!(
                f,
                "the pool {} cannot be mapped as persistent memory (MAP_SYNC): {source}; its file system must be mounted with DAX",
                path.display()
            ),
            Self::Map { bytes, source } => write!(
                f,
                "cannot reserve {bytes} bytes of address space for a pool: {source} (see ulimit -v and vm.overcommit_memory)"
            ),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Map { source, .. } | Self::File { source, .. } | Self::NotDax { source, .. } => Some(source),
            Self::Superblock { source, .. } => Some(source),
            Self::ExtentSize { .. } | Self::Capacity { .. } => None,
        }
    }
}

/// There is no room in the log for what was to be written. Nothing was changed; compaction or
/// eviction may make room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Bytes that were wanted.
    pub bytes_wanted: u64,
    /// Bytes of the extents that may still be taken.
    pub bytes_free: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log is full: {} bytes wanted, {} bytes free", self.bytes_wanted, self.bytes_free)
    }
}

impl std::error::Error for Full {}
