//! Room in the log: what may be promised, and up to where.

use super::{Lane, Log, RESERVE_EXTENTS};
use crate::error::Full;
use crate::layout::record_bytes_max;
use crate::offset::PoolOffset;

impl Log {
    /// Changes the limit on the bytes of extents in use, within the capacity that addresses were
    /// reserved for; at least three extents. If more is in use, nothing can be reserved until
    /// compaction and deletes have caught up.
    pub fn set_limit(&mut self, bytes: u64) {
        let extents = (bytes / self.extents.bytes()) as usize;
        let most = self.extents.addressable();
        self.extents_max = extents.clamp(RESERVE_EXTENTS + 1, most);
        self.extents_max_privileged = self.extents_max.max(self.extents.in_use() + RESERVE_EXTENTS).min(most);
    }

    /// Makes sure that records of `bytes` in all (as of [`crate::RecordParts::bytes`] or above) can be
    /// appended before the next call of this or of `reserve_privileged`. What was promised
    /// before is not added.
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

    /// As [`Log::reserve`], for what makes room in the end: it may take an extent that is kept for
    /// that.
    ///
    /// # Errors
    /// There is no room even so.
    #[inline]
    pub fn reserve_privileged(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes as u64 <= self.room() {
            Ok(())
        } else {
            self.reserve_extents(bytes as u64, self.extents_max_privileged - 1)
        }
    }

    /// What [`Log::delete`] of this record appends in bytes: 0 if the log is not replayed.
    pub fn delete_bytes(&self, offset: PoolOffset) -> usize {
        if self.replayed { record_bytes_max(self.read(offset).key().len(), 0) } else { 0 }
    }

    #[inline(always)]
    fn room(&self) -> u64 {
        self.lanes[Lane::Appended as usize].room()
    }

    #[cold]
    fn reserve_extents(&mut self, bytes: u64, extents_max: usize) -> Result<(), Full> {
        // What fits one extent takes one more at most. Else, of two neighbouring extents the record
        // that sealed the first lies in the second: together they hold an extent's worth.
        let payload = self.extents.payload();
        let needed = if bytes <= payload { 1 } else { (2 * bytes).div_ceil(payload) as usize + 1 };
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

    /// Whether `count` extents can be opened with at most `extents_max` in use; side by side, if
    /// `bytes` may be one record.
    fn obtainable(&mut self, bytes: u64, count: usize, extents_max: usize) -> Result<(), Full> {
        let free = extents_max.saturating_sub(self.extents.in_use());
        let run = if bytes > self.extents.payload() { count } else { 0 };
        loop {
            let is_held = self.extents.hold_run(run as u32);
            let openable = self.extents.openable();
            if is_held && count <= free.min(openable) {
                return Ok(());
            }
            let missing = if is_held { count.saturating_sub(openable) } else { run };
            if count > free || !self.grow_now(missing) {
                break;
            }
        }
        Err(Full { bytes_wanted: bytes, bytes_free: free as u64 * self.extents.payload() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, LogConfig, PoolError, RecordParts};

    const EXTENT: usize = 64 << 10;

    fn log(extents: u64) -> Log {
        Log::anonymous(LogConfig { extent_bytes: EXTENT, ..LogConfig::new(1, extents * EXTENT as u64) }).unwrap()
    }

    fn fill(log: &mut Log, len: usize, bytes: usize) -> usize {
        let parts = RecordParts::new(Kind::Chunk, b"", &[]);
        let record = record_bytes_max(0, len);
        let count = bytes / record;
        for _ in 0..count {
            log.append_with(&parts, len, |_| {});
        }
        count
    }

    #[test]
    fn what_is_reserved_can_be_appended() {
        // In records of whatever size, the most wasteful included, until the log is full; what is
        // kept back is there even then.
        for len in [1, 88, 1000, EXTENT / 3, EXTENT / 2, EXTENT / 2 + 1000, EXTENT - 200, EXTENT, 3 * EXTENT] {
            let mut log = log(40);
            let bytes = 5 * EXTENT;
            let mut rounds = 0;
            while log.reserve(bytes).is_ok() {
                assert!(fill(&mut log, len, bytes) > 0);
                rounds += 1;
            }
            assert!(rounds >= 2, "{rounds} rounds of records of {len} bytes");
            assert!(log.usage().extents <= 38);
            log.reserve_privileged(1000).unwrap();
            fill(&mut log, 900, 1000);
            log.commit();
            log.check(|_| true).unwrap();
        }
    }

    #[test]
    fn what_is_kept_back_is_bounded_too() {
        // Of two extents kept back, deletes may take one. The other is for moving records.
        let mut log = log(8);
        while log.reserve(1000).is_ok() {
            fill(&mut log, 900, 1000);
        }
        assert_eq!(log.usage().extents, 6);
        while log.reserve_privileged(1000).is_ok() {
            fill(&mut log, 900, 1000);
        }
        assert_eq!(log.usage().extents, 7);
        log.reserve_to_move(1000).unwrap();
    }

    #[test]
    fn the_limit_is_changed_while_running() {
        // Below what is in use nothing more can be reserved; raised again, it can.
        let mut log = log(40);
        log.reserve(10 * EXTENT).unwrap();
        fill(&mut log, 900, 10 * EXTENT);
        log.set_limit(5 * EXTENT as u64);
        assert!(log.reserve(EXTENT).is_err());
        log.set_limit(u64::MAX);
        log.reserve(EXTENT).unwrap();
    }

    #[test]
    fn impossible_logs_are_refused_with_the_facts() {
        // Odd extent sizes, too little and too much capacity.
        let config = LogConfig::new(1, 1 << 30);
        let odd = Log::anonymous(LogConfig { extent_bytes: 100_000, ..config });
        assert!(matches!(odd, Err(PoolError::ExtentSize { bytes: 100_000 })));
        let little = Log::anonymous(LogConfig { capacity_bytes: 1 << 20, extent_bytes: 1 << 20, ..config });
        assert!(matches!(little, Err(PoolError::Capacity { bytes_min: 0x0030_0000, .. })));
        let much = Log::anonymous(LogConfig { capacity_bytes: 1 << 40, ..config });
        assert!(matches!(much, Err(PoolError::Capacity { .. })));
    }
}
