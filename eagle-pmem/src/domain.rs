//! The domain: up to where a store must come to outlive what the pool promises, and how it gets
//! there.
//!
//! The words are PMDK's: *flush* starts the write-back of bytes, *drain* waits for all that was
//! flushed. [`crate::Log::commit`] flushes what was appended since the last commit and drains once.
//! The domain is decided when the pool is opened and never changes.

/// Where a pool's stores become as durable as promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Domain {
    /// Memory of this process: it promises nothing, so a store is at its goal when it is made.
    Volatile,
    /// A file of which memory is only the image: it is written and synced by whoever drives the log.
    File,
}

impl Domain {
    /// Whether a commit holds as soon as [`crate::Log::commit`] returns, so that replies need not
    /// wait.
    pub const fn commits_at_once(self) -> bool {
        match self {
            Self::Volatile => true,
            Self::File => false,
        }
    }

    /// Starts the write-back of `bytes`.
    #[inline]
    pub(crate) fn flush(self, bytes: &[u8]) {
        match self {
            Self::Volatile | Self::File => {
                let _at_its_goal = bytes;
            }
        }
    }

    /// Waits for every write-back that was started.
    #[inline]
    pub(crate) fn drain(self) {
        match self {
            Self::Volatile | Self::File => {}
        }
    }
}
