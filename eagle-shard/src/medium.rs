//! What a shard has to do with the medium of its pool. A first version: bytes are written, nothing is recovered.

use std::{ops::Range, os::fd::BorrowedFd};

use eagle_pmem::{Commit, PoolError, PoolFile, Position};

use crate::{
    call::UnixMs,
    shard::{Shard, ShardConfig},
};

const PAGE: u64 = 4096;
const STEP: u64 = 16 << 20;

/// What a sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncMark(Position);

/// How far loading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loading {
    /// Bytes looked at.
    pub bytes_done: u64,
    /// Bytes to look at.
    pub bytes_total: u64,
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records read.
    pub records: u64,
    /// Keys there are.
    pub keys: u64,
    /// Bytes dropped.
    pub dropped_bytes: u64,
    /// Bytes of the torn tail.
    pub torn_bytes: u64,
}

/// Why a pool cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverError(pub String);

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Medium {
    pool: Option<PoolFile>,
    ranges: Vec<Range<u64>>,
    end: u64,
    grown: u64,
    growing: bool,
    report: RecoveryReport,
    written: Position,
}

impl Medium {
    pub(crate) fn commit<'a>(&'a mut self, position: Position, ranges: &[Range<u64>]) -> Commit<'a> {
        self.ranges.clear();
        for range in ranges {
            let range = range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE);
            self.end = self.end.max(range.end);
            match self.ranges.last_mut() {
                Some(last) if last.end >= range.start && last.start <= range.start => {
                    last.end = last.end.max(range.end)
                }
                _ => self.ranges.push(range),
            }
        }
        Commit { position, ranges: &self.ranges }
    }
}

impl Shard {
    /// A shard on a pool.
    ///
    /// # Errors
    /// Its memory cannot be had.
    pub fn with_pool(config: ShardConfig, pool: PoolFile) -> Result<Self, PoolError> {
        let mut shard = Self::new(config)?;
        shard.medium.pool = Some(pool);
        shard.medium.grown = STEP;
        Ok(shard)
    }

    /// What to write to.
    pub fn pool_file(&self) -> Option<BorrowedFd<'_>> {
        self.medium.pool.as_ref().map(PoolFile::fd)
    }

    /// Whether a commit holds at once.
    pub fn commits_at_once(&self) -> bool {
        self.medium.pool.is_none()
    }

    /// Bytes of a range that a commit named.
    pub fn pool_bytes(&self, range: Range<u64>) -> &[u8] {
        self.log.bytes(range)
    }

    /// The writes of a commit have completed.
    pub fn written(&mut self, position: Position) {
        self.medium.written = position;
    }

    /// A sync begins.
    pub fn begin_sync(&mut self) -> SyncMark {
        SyncMark(self.medium.written)
    }

    /// A sync is done.
    pub fn end_sync(&mut self, mark: SyncMark) {
        let _ = mark;
    }

    /// Whether something waits for a sync.
    pub fn wants_sync(&self) -> bool {
        false
    }

    /// What the file is to grow by.
    pub fn next_growth(&mut self) -> Option<Range<u64>> {
        let due = self.medium.pool.is_some() && !self.medium.growing && self.medium.end + STEP > self.medium.grown;
        self.medium.growing |= due;
        due.then(|| self.medium.grown..self.medium.grown + STEP)
    }

    /// It has grown.
    pub fn grown(&mut self, range: Range<u64>) {
        self.medium.grown = range.end;
        self.medium.growing = false;
    }

    /// It has not.
    pub fn growth_failed(&mut self) {
        self.medium.growing = false;
    }

    /// What to give back.
    pub fn next_punch(&mut self) -> Option<Range<u64>> {
        None
    }

    /// It was given back or not.
    pub fn punched(&mut self, _range: Range<u64>, _ok: bool) {}

    /// How far loading is, if it is under way.
    pub fn loading(&self) -> Option<Loading> {
        None
    }

    /// Loads a slice.
    ///
    /// # Errors
    /// The pool is damaged.
    pub fn load(&mut self, _now: UnixMs, _records: usize) -> Result<Option<Loading>, RecoverError> {
        Ok(None)
    }

    /// What recovery found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.medium.report
    }
}
