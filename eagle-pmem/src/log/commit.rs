//! The commit: checksums, what was written since the last commit, and the position that it reaches.

use super::{Cursor, Lane, Log, Place};
use crate::layout::record_header;
use crate::offset::{PoolOffset, Position};
use std::ops::Range;

/// Memory given back to the system at each commit at most: 16 pages, some 5 us.
pub(super) const GIVE_BACK_BYTES: u64 = 64 << 10;

/// What is to be made durable, and the position that then holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit<'a> {
    /// Up to where all holds when that is durable: [`Log::committable`].
    pub position: Position,
    /// The bytes of the pool written since the commit before, in the order in which they were; with a file, whole pages in the
    /// order in which they lie.
    pub ranges: &'a [Range<u64>],
}

impl Log {
    /// How far the log has come, changes not yet committed included.
    #[inline]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Up to where the next commit comes: to [`Log::position`], except that a run whose header no sync has covered yet lets none
    /// beyond where it was opened.
    #[inline]
    pub fn committable(&self) -> Position {
        self.sync.as_ref().map_or(self.position, |sync| sync.committable(self.position))
    }

    /// Ends a batch: starts to make durable what was written since the last commit, and says what
    /// that was and which position it reaches. Also gives some memory of freed extents back.
    ///
    /// # Panics
    /// Within a group: half of one must not be committed.
    pub fn commit(&mut self) -> Commit<'_> {
        assert!(self.group.is_none(), "a group is committed whole");
        self.invalidate_freed();
        self.append_marker();
        self.sum(Lane::Appended);
        self.sum(Lane::Compacted);
        if std::mem::replace(&mut self.handed_out, true) {
            self.written.clear();
        }
        self.begin_commit();
        let position = self.committable();
        for range in &self.written {
            self.domain.flush(range.clone(), self.mapping.bytes(range.clone()));
        }
        self.drain();
        // What the end of it makes due is part of the next.
        self.end_commit();
        self.give_back();
        Commit { position, ranges: &self.written }
    }

    /// The bytes of a range that a commit named, to be written out.
    ///
    /// # Panics
    /// If the range leaves the pool.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        self.mapping.bytes(range)
    }

    /// Gives a slice of the memory of freed extents back to the system, and returns whether there was
    /// one. Each commit does so; an idle shard that commits nothing should.
    pub fn give_back(&mut self) -> bool {
        if self.release() {
            return true;
        }
        match self.extents.next_to_give_back(GIVE_BACK_BYTES) {
            Some(range) => {
                self.mapping.give_back(range);
                true
            }
            None => false,
        }
    }

    /// Changes how many free extents keep their memory for the next use, within the number that is usual.
    pub fn keep_free(&mut self, extents: usize) {
        self.extents.keep_free(extents);
    }

    /// Lets [`Log::give_back`] take all free extents, also those that would be kept for the next use.
    pub fn purge(&mut self) {
        self.extents.purge();
    }

    /// Computes the checksums that a lane's records still lack. Done for many records together, and
    /// not as each is appended, because its bytes would then be read while the processor is
    /// still storing them, which stalls it.
    ///
    /// # Panics
    /// Within a group, of which nobody knows yet whether more follows its last record.
    pub(super) fn sum(&mut self, lane: Lane) {
        let Cursor { next, summed, seed, .. } = self.lanes[lane as usize];
        assert!(lane == Lane::Compacted || self.group.is_none(), "a group is not summed before it ends");
        let mut at = summed;
        while at < next {
            let offset = PoolOffset::from_byte(at);
            let len = self.read(offset).bytes_on_medium();
            self.write_checksum(Place { offset, seed }, len);
            at += len as u64;
        }
        self.note_summed(lane);
    }

    /// Notes that all records of a lane have their checksums.
    pub(super) fn note_summed(&mut self, lane: Lane) {
        let cursor = &mut self.lanes[lane as usize];
        let range = cursor.summed..cursor.next;
        if !range.is_empty() {
            cursor.summed = cursor.next;
            cursor.allow(0);
            self.note_written(range);
        }
    }

    /// Whether a record has its checksum: not before it is committed, or many others after it were
    /// appended.
    #[inline(always)]
    pub(super) fn is_summed(&self, offset: PoolOffset) -> bool {
        let byte = offset.byte();
        self.lanes.iter().all(|cursor| byte < cursor.summed || byte >= cursor.next)
    }

    #[inline(always)]
    pub(super) fn write_checksum(&mut self, place: Place, len: usize) {
        let bytes = self.mapping.bytes_mut(place.range(len));
        let checksum = self.checksum.of(&bytes[record_header::KIND..], place.seed.at(place.offset));
        bytes[record_header::CRC..record_header::KIND].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Notes that bytes are part of the next commit.
    pub(super) fn note_written(&mut self, range: Range<u64>) {
        if std::mem::replace(&mut self.handed_out, false) {
            self.written.clear();
        }
        match self.written.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.written.push(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, LogConfig, RecordError, RecordParts};

    fn log() -> Log {
        Log::anonymous(LogConfig { extent_bytes: 64 << 10, ..LogConfig::new(1, 4 << 20) }).unwrap()
    }

    fn append(log: &mut Log, len: usize) -> PoolOffset {
        log.append_with(&RecordParts::new(Kind::String, b"key", &[]), len, |value| {
            value.fill(1);
        })
    }

    #[test]
    fn a_commit_names_what_was_written_since_the_last() {
        // The header and first record; then the second record only; then nothing.
        let mut log = log();
        let first = append(&mut log, 11);
        let range = first.byte()..first.byte() + 24;
        let start = range.start - crate::layout::extent_header::BYTES as u64;
        let second = range.end..range.end + 16;
        assert_eq!(log.commit().ranges, std::slice::from_ref(&(start..range.end)));
        append(&mut log, 3);
        assert_eq!(log.commit().ranges, std::slice::from_ref(&second));
        assert_eq!(log.commit().ranges, []);
    }

    #[test]
    fn positions_rise_with_every_change() {
        // Appending, overwriting, changing, deleting: who holds a reply for one of them can tell it
        // from the one before.
        let mut log = log();
        let mut last = log.position();
        let mut rises = |log: &mut Log| {
            let position = log.commit().position;
            assert!(position > last);
            last = position;
        };
        let offset =
            log.append(&RecordParts { expiry: Some(1), ..RecordParts::new(Kind::String, b"key", &[b"value"]) });
        rises(&mut log);
        assert!(log.overwrite_value(offset, &[b"other"]));
        rises(&mut log);
        assert!(log.change_value(offset, |value| value[0] = b'a'));
        rises(&mut log);
        assert!(log.set_expiry(offset, 2));
        rises(&mut log);
        log.delete(offset);
        rises(&mut log);
        let before = log.position();
        assert_eq!(log.commit().position, before);
    }

    #[test]
    fn checksums_are_there_by_the_commit() {
        // And earlier where much was appended; until then a record is not found wrong.
        let mut log = log();
        let first = append(&mut log, 1000);
        assert!(!log.is_summed(first));
        log.verify(first).unwrap();
        for _ in 0..200 {
            append(&mut log, 1000);
        }
        assert!(log.is_summed(first));
        let last = append(&mut log, 1000);
        log.commit();
        assert!(log.is_summed(last));
        log.check(|_| true).unwrap();
    }

    #[test]
    fn damage_is_found_and_moving_does_not_hide_it() {
        // A bit flips in memory: the record is wrong, by the same bits of its checksum wherever it
        // is moved.
        for replayed in [false, true] {
            let mut log = Log::anonymous(LogConfig { replayed, ..LogConfig::new(1, 4 << 20) }).unwrap();
            let offset = append(&mut log, 1000);
            log.commit();
            log.mapping.bytes_mut(offset.byte() + 500..offset.byte() + 501)[0] ^= 4;
            assert!(matches!(log.verify(offset), Err(RecordError::Checksum { .. })));
            let moved = log.relocate(offset, 1).unwrap();
            let moved = log.relocate(moved, 1).unwrap();
            assert!(matches!(log.verify(moved), Err(RecordError::Checksum { .. })));
        }
    }

    #[test]
    fn freed_memory_is_given_back_slice_by_slice() {
        // After a clear, as many commits as there are slices return all but four extents to the
        // system.
        let mut log = log();
        let offset = append(&mut log, 1000);
        for _ in 0..2000 {
            append(&mut log, 1000);
        }
        let before = log.usage();
        log.clear();
        assert_eq!((log.usage().extents, log.usage().bytes_live), (0, 0));
        assert_eq!(log.usage().extents_free_resident, before.extents);
        for _ in 0..before.extents {
            log.commit();
        }
        assert_eq!(log.usage().extents_free_resident, 4);
        assert!(!log.give_back());
        let byte = log.mapping.bytes(offset.byte() + 5..offset.byte() + 6);
        assert_eq!(byte, [0], "the first extent freed is the first given back");
    }
}
