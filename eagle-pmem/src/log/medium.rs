//! The log's medium: what it is told of writes and syncs, what it asks for, and what it writes about itself.
//!
//! The runtime carries out; the log only says which bytes ([`Log::commit`], [`Log::next_growth`], [`Log::next_punch`]) and is told
//! what became of it. Two records are the log's own, both of [`Kind::Meta`] and dead from the beginning: the *seal* behind the
//! last record of a full extent, which says how many there are, and the *marker*, which says how far the medium was
//! known to be synced. What is invalid before that point is damage, what is invalid behind it was never promised.

use super::{Lane, Log};
use crate::extent::{Extent, ExtentId, ExtentState};
use crate::layout::{EXTENT_MAGIC, ExtentHeader, PAGE_BYTES, RECORD_ALIGN, SEAL_BYTES, extent_header, meta};
use crate::offset::{PoolOffset, Position};
use crate::pool::PoolFile;
use crate::record::{Kind, RecordParts, Shape};
use crate::sync::{SyncMark, Synced};
use std::ops::Range;

impl Log {
    /// The file that is to be written to; `None` where there is none, or where memory is the medium.
    pub fn file(&self) -> Option<&PoolFile> {
        self.file.as_ref()
    }

    /// The same, to write its superblock.
    pub fn file_mut(&mut self) -> Option<&mut PoolFile> {
        self.file.as_mut()
    }

    /// Whether a commit holds as soon as [`Log::commit`] returns, so that nothing is to be written.
    pub fn commits_at_once(&self) -> bool {
        self.sync.is_none() || self.domain.commits_at_once()
    }

    /// The commit up to `position` is written: it survives the process.
    pub fn written(&mut self, position: Position) {
        if let Some(sync) = &mut self.sync {
            sync.written(position);
        }
    }

    /// A sync begins now. It covers every commit that was reported by [`Log::written`].
    pub fn begin_sync(&mut self) -> SyncMark {
        match &mut self.sync {
            Some(sync) => sync.begin_sync(),
            None => crate::sync::Sync::default().begin_sync(),
        }
    }

    /// A sync is done. If that lets freed extents go on, the position moves: another commit is due.
    pub fn end_sync(&mut self, mark: SyncMark) {
        let Some(sync) = &mut self.sync else {
            return;
        };
        for index in sync.end_sync(mark) {
            self.extents.revive(index);
        }
        let unsynced =
            self.extents.iter().map(|(_, extent)| extent).filter(|extent| !sync.synced.covers(extent.sequence));
        sync.dead_unsynced = unsynced.map(|extent| extent.used - extent.live).sum();
        if sync.has_to_invalidate() {
            self.position.advance(RECORD_ALIGN as u64);
        }
        self.settle();
    }

    /// Whether the log waits for a sync that no reply does.
    pub fn wants_sync(&self) -> bool {
        self.sync.as_ref().is_some_and(|sync| sync.wants_sync())
    }

    /// Bytes that are dead and can only be won when a sync has ended or a commit is written: those of records in extents that are not
    /// synced to their ends, and of freed extents whose memory is not given back.
    #[inline]
    pub fn bytes_awaiting(&self) -> u64 {
        self.sync.as_ref().map_or(0, |sync| sync.dead_unsynced + self.bytes_unreleased())
    }

    /// Bytes of dead records that cannot be compacted before a sync has ended.
    #[inline]
    pub fn bytes_dead_unsynced(&self) -> u64 {
        self.sync.as_ref().map_or(0, |sync| sync.dead_unsynced)
    }

    /// The position up to which the medium is synced.
    pub fn synced_position(&self) -> Position {
        self.sync.as_ref().map_or(self.position, |sync| sync.synced_to)
    }

    /// Bytes by which the medium is to grow next, to be allocated and filled with zeros; then [`Log::grown`] or
    /// [`Log::growth_failed`] is called, and meanwhile `None` is the answer.
    pub fn next_growth(&mut self) -> Option<Range<u64>> {
        self.extents.next_growth()
    }

    /// The growth under way is done.
    pub fn grown(&mut self) {
        self.extents.grown();
    }

    /// The growth under way failed: until one succeeds, there is room only in what the medium has.
    pub fn growth_failed(&mut self) {
        self.extents.growth_failed();
    }

    /// Bytes of the medium, as far as it has grown.
    pub fn medium_bytes(&self) -> u64 {
        self.extents.start(ExtentId::from_index(self.extents.len() as u32))
    }

    /// Lets the headers of extents opened from now on carry a number for who opens the pool next ([`crate::Scan::hint`]).
    #[inline]
    pub fn set_hint(&mut self, hint: u64) {
        self.hint = hint;
    }

    /// Whether an extent may be compacted.
    pub(super) fn may_compact(&self, extent: &Extent) -> bool {
        extent.state == ExtentState::Sealed && self.sync.as_ref().is_none_or(|sync| sync.synced.covers(extent.sequence))
    }

    /// The oldest dead record of extents that were freed and are not clean.
    pub(super) fn dying_version_min(&self) -> u64 {
        self.sync.as_ref().map_or(u64::MAX, |sync| sync.dead_version_min())
    }

    /// Memory of freed extents that is not given back yet, in bytes.
    pub(super) fn bytes_unreleased(&self) -> u64 {
        self.sync.as_ref().map_or(0, |sync| sync.unreleased() as u64 * self.extents.bytes() - sync.released())
    }

    /// Notes that an extent or run was freed. What is still to be written of it is part of the next commit, so it waits for a
    /// position beyond the one under way.
    pub(super) fn bury(&mut self, freed: Range<u32>, extent: &Extent) {
        let &Extent { sequence, dead_version_min, used: bytes_used, .. } = extent;
        if let Some(sync) = &mut self.sync {
            self.position.advance(RECORD_ALIGN as u64);
            if !sync.synced.covers(sequence) {
                sync.dead_unsynced = sync.dead_unsynced.saturating_sub(bytes_used);
            }
            let head = freed.start;
            for index in freed {
                let body_of = (index != head).then_some((sequence, head));
                sync.free(index, body_of, dead_version_min, self.position);
            }
        }
    }

    /// Extents that were opened and not written to are free again.
    pub(super) fn unopen(&mut self, freed: Range<u32>) {
        if self.sync.is_some() {
            freed.for_each(|index| self.extents.revive(index));
        }
    }

    /// Gives a slice of the memory of freed extents back, or forgets it where memory is the medium.
    pub(super) fn release(&mut self) -> bool {
        let extent_bytes = self.extents.bytes();
        let in_place = self.domain.commits_at_once();
        let Some(sync) = self.sync.as_mut() else {
            return false;
        };
        let slice = if in_place { extent_bytes } else { super::commit::GIVE_BACK_BYTES };
        let Some((index, range)) = sync.next_to_release(extent_bytes, slice) else {
            return false;
        };
        let start = self.extents.start(ExtentId::from_index(index));
        // The first page stays: it is written once more, with nothing of it changed but the header.
        let range = start + range.start.max(PAGE_BYTES)..start + range.end;
        if !in_place {
            self.mapping.give_back(range);
        }
        true
    }

    /// Makes the headers of freed extents invalid, as far as they are due.
    pub(super) fn invalidate_freed(&mut self) {
        let Some(sync) = &mut self.sync else {
            return;
        };
        let position = &mut self.position;
        let due = sync.invalidate(|| {
            position.advance(RECORD_ALIGN as u64);
            *position
        });
        for (index, body_of) in due {
            let id = ExtentId::from_index(index);
            match body_of {
                Some(sequence) => self.write_invalid_header(id, sequence, 1),
                None => self.invalidate_header(self.extents.start(id)),
            }
        }
    }

    /// Gives an extent, or run, that nobody uses any more a header of this sequence, made invalid: it tells that the place was used.
    pub(super) fn write_invalid_header(&mut self, id: ExtentId, sequence: u64, run: u32) {
        let start = self.extents.start(id);
        let place = start..start + extent_header::BYTES as u64;
        let header = ExtentHeader { sequence, run, ..self.extents.header_of_body() };
        self.mapping.bytes_mut(place.clone()).copy_from_slice(&header.to_bytes());
        self.note_written(place);
        self.invalidate_header(start);
    }

    /// Makes the header at `start` invalid by its first word, which is written whole whatever happens.
    pub(super) fn invalidate_header(&mut self, start: u64) {
        let word = start..start + size_of_val(&EXTENT_MAGIC) as u64;
        self.mapping.bytes_mut(word.clone()).fill(0);
        self.note_written(word);
    }

    /// What holds when all that is appended now is durable.
    fn state(&self) -> Synced {
        let open = self.lanes.map(|cursor| match cursor.is_closed() {
            true => (0, 0),
            false => {
                let extent = self.extents.get(cursor.extent);
                (extent.sequence, extent.used)
            }
        });
        Synced { next_sequence: self.extents.next_sequence(), open }
    }

    /// Rounds what is to be written to pages.
    pub(super) fn begin_commit(&mut self) {
        let state = self.state();
        let Some(sync) = &mut self.sync else {
            return;
        };
        sync.begin_commit(state);
        if !self.domain.commits_at_once() {
            to_pages(&mut self.written);
        }
    }

    /// Where memory is the medium, the commit is durable now.
    pub(super) fn end_commit(&mut self) {
        if self.sync.is_some() && self.domain.commits_at_once() {
            self.written(self.position);
            let mark = self.begin_sync();
            self.end_sync(mark);
        }
    }

    /// Says how far the medium is synced, if that has changed and there is room in the open extent.
    pub(super) fn append_marker(&mut self) {
        let Some(sync) = self.sync.as_ref().filter(|sync| !sync.marked) else {
            return;
        };
        let bytes = sync.synced.to_bytes();
        let value: &[&[u8]] = &[&bytes];
        let parts = RecordParts { tag: meta::MARKER, ..RecordParts::new(Kind::Meta, &[], value) };
        let cursor = &self.lanes[Lane::Appended as usize];
        if cursor.is_closed() || cursor.room() < parts.bytes() as u64 {
            return;
        }
        let offset = self.append(&parts);
        let len = parts.bytes() as u64;
        let id = self.extent_of(offset);
        self.extents.get_mut(id).live -= len;
        self.bytes_live -= len;
        if let Some(sync) = &mut self.sync {
            sync.marked = true;
        }
    }

    /// Writes the seal of a lane's extent behind its last record.
    pub(super) fn write_seal(&mut self, lane: Lane) {
        let cursor = self.lanes[lane as usize];
        if self.sync.is_none() || cursor.is_closed() {
            return;
        }
        self.write_seal_at(cursor.extent, cursor.next);
    }

    /// Writes the seal of an extent at `at`, where its records end.
    pub(super) fn write_seal_at(&mut self, id: ExtentId, at: u64) {
        let extent = self.extents.get(id);
        // Only what stands for damaged records can be said to be more than fit.
        let count = u32::try_from(extent.records).unwrap_or(u32::MAX).to_le_bytes();
        let seed = extent.seed;
        let value: &[&[u8]] = &[&count];
        let parts = RecordParts { tag: meta::SEAL, ..RecordParts::new(Kind::Meta, &[], value) };
        let shape = Shape::of(&parts, count.len(), None);
        debug_assert!(
            shape.len == SEAL_BYTES && at + SEAL_BYTES as u64 <= self.extents.records_stop(id) + SEAL_BYTES as u64
        );
        let place = super::Place { offset: PoolOffset::from_byte(at), seed };
        shape.write(&parts, self.mapping.bytes_mut(place.range(shape.len))).copy_from_slice(&count);
        self.write_checksum(place, shape.len);
        self.note_written(place.range(shape.len));
    }
}

/// Rounds ranges to whole pages, in order, those that touch as one.
fn to_pages(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut kept = 0;
    for at in 0..ranges.len() {
        let start = ranges[at].start / PAGE_BYTES * PAGE_BYTES;
        let end = ranges[at].end.next_multiple_of(PAGE_BYTES);
        if kept > 0 && ranges[kept - 1].end >= start {
            ranges[kept - 1].end = ranges[kept - 1].end.max(end);
        } else {
            ranges[kept] = start..end;
            kept += 1;
        }
    }
    ranges.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_whole_pages_in_order() {
        // Two in one page are one; neighbours join; what lies apart stays apart.
        let mut ranges = vec![100_000..100_010, 5000..5001, 8192..8200, 4096..4100];
        to_pages(&mut ranges);
        assert_eq!(ranges, [4096..12_288, 98_304..102_400]);
    }
}
