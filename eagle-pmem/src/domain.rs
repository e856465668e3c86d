//! The domain: up to where a store must come to outlive what the pool promises, and how it gets
//! there.
//!
//! The words are PMDK's: *flush* starts the write-back of bytes, *drain* waits for all that was
//! flushed. [`crate::Log::commit`] flushes what was appended since the last commit and drains once.
//! The domain is decided when the pool is opened and never changes.
//!
//! Where memory is the medium, a store reaches it at any time between the store and the end of the drain behind its flush, in
//! words of 8 bytes, and no two lines of 64 bytes in any order. So what must not be seen in part is either sealed by a checksum
//! (records) or published by one aligned word that is stored after the rest was drained (headers of extents).

mod cache;
mod region;

pub use cache::WriteBack;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How a pool's file is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MapMode {
    /// As memory that is the medium where the file system can (`MAP_SYNC`), else as an ordinary file.
    #[default]
    Auto,
    /// As memory that is the medium, or not at all.
    Dax,
    /// As an ordinary file.
    File,
}

/// Where a pool's stores become as durable as promised.
#[derive(Debug)]
#[non_exhaustive]
pub enum Domain {
    /// Memory of this process: it promises nothing, so a store is at its goal when it is made.
    Volatile,
    /// A file of which memory is only the image: it is written and synced by whoever drives the log.
    File,
    /// Memory that is the medium: a file mapped with `MAP_SYNC`.
    Dax(WriteBack),
    /// The same, as a test sees it.
    Simulated(Box<dyn Persistence>),
}

/// A simulated medium that is memory: it is told what the processor is told.
pub trait Persistence: Send {
    /// The write-back of the bytes at this place of the pool has begun.
    fn flush(&mut self, range: Range<u64>, bytes: &[u8]);

    /// What was flushed has reached the medium. `pool` is what lies in memory, all of the pool.
    fn drain(&mut self, pool: &[u8]);
}

impl fmt::Debug for dyn Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Persistence")
    }
}

impl Domain {
    /// Whether a commit holds as soon as [`crate::Log::commit`] returns, so that replies need not
    /// wait.
    pub const fn commits_at_once(&self) -> bool {
        match self {
            Self::Volatile | Self::Dax(_) | Self::Simulated(_) => true,
            Self::File => false,
        }
    }

    /// Whether the pool's memory is its medium.
    pub const fn is_in_place(&self) -> bool {
        matches!(self, Self::Dax(_) | Self::Simulated(_))
    }

    /// Starts the write-back of `bytes`, which are those of `range` of the pool.
    #[inline]
    pub(crate) fn flush(&mut self, range: Range<u64>, bytes: &[u8]) {
        match self {
            Self::Volatile | Self::File => {}
            Self::Dax(write_back) => write_back.flush(bytes),
            Self::Simulated(medium) => medium.flush(range, bytes),
        }
    }

    /// Waits for every write-back that was started.
    #[inline]
    pub(crate) fn drain<'p>(&mut self, pool: impl FnOnce() -> &'p [u8]) {
        match self {
            Self::Volatile | Self::File => {}
            Self::Dax(write_back) => write_back.drain(),
            Self::Simulated(medium) => medium.drain(pool()),
        }
    }
}

/// How stores to a mapping of this file are made durable.
///
/// # Errors
/// The file system does not map the file with `MAP_SYNC`, or the processor has no instruction that writes a line back.
pub(crate) fn write_back_of(file: &File) -> io::Result<WriteBack> {
    crate::mapping::probe_sync(file)?;
    if region::outlives_power_loss(file) {
        return Ok(WriteBack::Nothing);
    }
    let none = || io::Error::new(io::ErrorKind::Unsupported, "this processor cannot write a cache line back to memory");
    WriteBack::of_processor().ok_or_else(none)
}

/// How a pool in this folder would be made durable in place; `None` where it would be an ordinary file.
///
/// # Errors
/// No file can be made there.
pub fn write_back_in(folder: &Path) -> io::Result<Option<WriteBack>> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder)?;
    file.set_len(crate::layout::PAGE_BYTES)?;
    Ok(write_back_of(&file).ok())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_how_pools_in_it_would_be_kept() {
        // Ordinary, or with what the processor has; a folder that is not there is an error.
        let folder = tempfile::tempdir().unwrap();
        let found = write_back_in(folder.path()).unwrap();
        assert!(found.is_none_or(|found| Some(found) == WriteBack::of_processor() || found == WriteBack::Nothing));
        assert!(write_back_in(&folder.path().join("none")).is_err());
    }
}
