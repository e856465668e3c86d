//! Room in the log: what may be promised, and up to where.

use super::{Lane, Log, RESERVE_EXTENTS};
use crate::error::Full;
use crate::layout::record_bytes_max;
use crate::offset::PoolOffset;

impl Log {
    /// Changes the limit on the bytes of extents in use, within the capacity that addresses were reserved for; at least three extents.
    /// If more is in use, nothing can be reserved until compaction and deletes have caught up.
    pub fn set_limit(&mut self, bytes: u64) {
        let extents = (bytes / self.extents.bytes()) as usize;
        let most = self.extents.openable() + self.extents.in_use();
        self.extents_max = extents.clamp(RESERVE_EXTENTS + 1, most);
        self.extents_max_privileged = self
            .extents_max
            .max(self.extents.in_use() + RESERVE_EXTENTS)
            .min(most);
    }

    /// Makes sure that records of `bytes` in all (as of [`RecordParts::bytes`] or above) can be appended before the next call of this or
    /// of `reserve_privileged`. What was promised before is not added.
    ///
    /// # Errors
    /// There is no room; nothing was changed.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes as u64 <= self.room() {
            Ok(())
        } else {
            self.reserve_extents(bytes as u64, self.extents_max - RESERVE_EXTENTS)
        }
    }

    /// As [`Log::reserve`], for what makes room in the end: it may take what is kept for that.
    ///
    /// # Errors
    /// There is no room even so.
    #[inline]
    pub fn reserve_privileged(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes as u64 <= self.room() {
            Ok(())
        } else {
            self.reserve_extents(bytes as u64, self.extents_max_privileged)
        }
    }

    /// What [`Log::delete`] of this record appends in bytes: 0 if the log is not replayed.
    pub fn delete_bytes(&self, offset: PoolOffset) -> usize {
        if self.replayed {
            record_bytes_max(self.read(offset).key().len(), 0)
        } else {
            0
        }
    }

    #[inline(always)]
    fn room(&self) -> u64 {
        self.lanes[Lane::Appended as usize].room()
    }

    #[cold]
    fn reserve_extents(&mut self, bytes: u64, extents_max: usize) -> Result<(), Full> {
        // Of two neighbouring extents, the record that sealed the first lies in the second: together they hold an extent's worth.
        let needed = (2 * bytes).div_ceil(self.extents.payload()) as usize + 1;
        self.obtainable(bytes, needed, extents_max)
    }

    /// Makes sure that a record of `len` bytes can be moved, with all that is kept for that.
    pub(super) fn reserve_to_move(&mut self, len: usize) -> Result<(), Full> {
        if len as u64 <= self.lanes[Lane::Compacted as usize].room() {
            return Ok(());
        }
        let count = self.extents.count_for(len as u64) as usize;
        self.obtainable(len as u64, count, self.extents_max_privileged)
    }

    /// Whether `count` extents can be opened with at most `extents_max` in use; side by side, if `bytes` may be one record.
    fn obtainable(&mut self, bytes: u64, count: usize, extents_max: usize) -> Result<(), Full> {
        let free = extents_max.saturating_sub(self.extents.in_use());
        let held = self.extents.hold_run(if bytes > self.extents.payload() {
            count as u32
        } else {
            0
        });
        if held && count <= free.min(self.extents.openable()) {
            return Ok(());
        }
        Err(Full {
            bytes_wanted: bytes,
            bytes_free: free as u64 * self.extents.payload(),
        })
    }
}
