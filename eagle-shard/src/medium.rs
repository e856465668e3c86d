//! The medium as the runtime sees it through the shard: what is to be written, synced, grown; and what became of it.
//!
//! All of it is the log's ([`eagle_pmem`]); the shard only passes it on.

use std::ops::Range;

use eagle_pmem::{Domain, PoolError, PoolFile, Position, SyncMark};

use crate::shard::Shard;

impl Shard {
    /// Where records become as durable as they are to be.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.log.domain()
    }

    /// The pool's file, that commits are to be written to unless they hold at once; `None` where there is none.
    #[must_use]
    pub fn pool_file(&self) -> Option<&PoolFile> {
        self.log.file()
    }

    /// Whether a commit holds as soon as [`Shard::commit`] returns, so that nothing is to be written.
    #[must_use]
    pub fn commits_at_once(&self) -> bool {
        self.log.commits_at_once()
    }

    /// The bytes of a range that a commit named. They stay in their place until the commit is reported as written; bytes behind its
    /// end may change meanwhile.
    ///
    /// # Panics
    /// If the range leaves the pool.
    #[must_use]
    pub fn pool_bytes(&self, range: Range<u64>) -> &[u8] {
        self.log.bytes(range)
    }

    /// The commit up to `position` is written: it survives the process.
    pub fn written(&mut self, position: Position) {
        self.log.written(position);
    }

    /// A sync is begun now. It covers every commit that was reported by [`Shard::written`].
    pub fn begin_sync(&mut self) -> SyncMark {
        self.log.begin_sync()
    }

    /// A sync is done. Another commit may be due then: [`Shard::position`] tells.
    pub fn end_sync(&mut self, mark: SyncMark) {
        self.log.end_sync(mark);
        if self.replay.is_none() && self.log.is_settled() && !self.lost_heads.is_empty() {
            self.bury_lost_heads();
        }
    }

    /// Whether a commit that is written lets the log no further before a sync that begins now has ended.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.log.needs_sync()
    }

    /// Whether something waits for a sync although no reply does: freed extents, to be used again, and
    /// dead records whose memory is wanted.
    #[must_use]
    pub fn wants_sync(&self) -> bool {
        self.log.wants_sync() || self.awaits_room()
    }

    /// Bytes of the file to be allocated and then filled with zeros, in the background; then [`Shard::grown`] or
    /// [`Shard::growth_failed`] is called, and until then `None` is the answer.
    pub fn next_growth(&mut self) -> Option<Vec<Range<u64>>> {
        self.log.next_growth()
    }

    /// Bytes of the file whose space is to be given back to the file system, in the background; then [`Shard::punched`] is called, and until
    /// then `None` is the answer.
    pub fn next_punch(&mut self) -> Option<Vec<Range<u64>>> {
        self.log.next_punch()
    }

    /// What was to be given back is, or else the file system cannot: then it is not asked again.
    pub fn punched(&mut self, is_done: bool) {
        self.log.punched(is_done);
    }

    /// The growth under way is done: the zeros are written and, where commits hold at once, synced.
    ///
    /// # Errors
    /// The new bytes cannot be mapped: the growth has failed.
    pub fn grown(&mut self) -> Result<(), PoolError> {
        self.log.grown()
    }

    /// The growth under way failed: until one succeeds, writers that need more than there is are refused.
    pub fn growth_failed(&mut self) {
        self.log.growth_failed();
    }

    /// Memory that counts as taken ([`Shard::memory`]) and goes with the next sync or two, in bytes.
    #[must_use]
    pub fn memory_awaiting(&self) -> u64 {
        self.log.bytes_awaiting()
    }

    /// Bytes of the pool's file, as far as it has grown.
    #[must_use]
    pub fn pool_file_bytes(&self) -> u64 {
        self.log.medium_bytes()
    }
}
