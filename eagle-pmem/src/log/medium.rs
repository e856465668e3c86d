//! The log's medium: what it is told of writes and syncs, what it asks for, and what it writes about itself.
//!
//! The runtime carries out; the log only says which bytes ([`Log::commit`], [`Log::next_growth`], [`Log::next_punch`]) and is told
//! what became of it. Two records are the log's own, both of [`Kind::Meta`] and dead from the beginning: the *seal* behind the
//! last record of a full extent, which says how many there are, and the *marker*, which says how far the medium was
//! known to be synced. What is invalid before that point is damage, what is invalid behind it was never promised.
//!
//! Where memory is the medium, a commit writes, syncs and invalidates by itself. Records may reach it in any order and in
//! part before the commit's drain, as those of a file do. Headers may not: each is there, drained, before anything else of its
//! extent is stored ([`Log::write_header`]), so whoever finds an extent knows that those opened before it were there too.

use super::{Lane, Log};
use crate::error::PoolError;
use crate::extent::{Extent, ExtentId, ExtentState};
use crate::layout::{
    EXTENT_MAGIC, ExtentHeader, ExtentKind, PAGE_BYTES, RECORD_ALIGN, SEAL_BYTES, extent_header, meta,
};
use crate::offset::{PoolOffset, Position};
use crate::pool::PoolFile;
use crate::record::{Kind, RecordParts, Shape};
use crate::sync::{SyncMark, Synced};
use std::ops::Range;

impl Log {
    /// The file; `None` where there is none. Commits are to be written to it unless they hold at once.
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
            if sync.take_kept(index) { self.extents.revive_resident(index) } else { self.extents.revive(index) }
        }
        let unsynced =
            self.extents.iter().map(|(_, extent)| extent).filter(|extent| !sync.synced.covers(extent.sequence));
        sync.dead_unsynced = unsynced.map(|extent| extent.used - extent.live).sum();
        if sync.has_to_invalidate() {
            self.position.advance(RECORD_ALIGN as u64);
        }
        self.settle();
    }

    /// Whether a commit that is written lets the log no further before a sync that begins now has ended.
    pub fn needs_sync(&self) -> bool {
        self.sync.as_ref().is_some_and(|sync| sync.wants_to_announce())
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

    /// Bytes by which the medium is to grow next, or holes of it to be filled: to be allocated and filled with zeros; then [`Log::grown`] or
    /// [`Log::growth_failed`] is called, and meanwhile `None` is the answer.
    pub fn next_growth(&mut self) -> Option<Vec<Range<u64>>> {
        // Before what recovery found is durably told apart from what it dropped, nothing is written over.
        let may_fill = self.extents.hole_count() == 0 || self.is_settled();
        if may_fill { self.extents.next_growth() } else { None }
    }

    /// Bytes of the medium whose space is to be given back to the file system, because more is free than will be needed soon; then
    /// [`Log::punched`] is called, and meanwhile `None` is the answer. They are of extents whose headers are durably invalid, and not
    /// used before they are filled with zeros again ([`Log::next_growth`]).
    pub fn next_punch(&mut self) -> Option<Vec<Range<u64>>> {
        if self.is_settled() { self.extents.next_punch() } else { None }
    }

    /// What was to be given back is, or else the file system cannot, which it is then not asked for any more.
    pub fn punched(&mut self, is_done: bool) {
        self.extents.punched(is_done);
    }

    /// The growth under way is done: the file has these bytes, zeros that are written and, where memory is the medium, synced.
    ///
    /// # Errors
    /// Where memory is the medium, the file's new bytes cannot be mapped: the growth has failed.
    pub fn grown(&mut self) -> Result<(), PoolError> {
        let range = self.extents.growing().expect("a growth is under way");
        let mapped = self.map_growth(range);
        match mapped {
            Ok(()) => self.extents.grown(),
            Err(_) => self.extents.growth_failed(),
        }
        mapped
    }

    /// The growth under way failed: until one succeeds, there is room only in what the medium has.
    pub fn growth_failed(&mut self) {
        self.extents.growth_failed();
    }

    /// Lets a medium in place grow by `count` extents at once. That waits for the file system, and happens only when more is
    /// appended than the growth in the background makes room for: it is that or to refuse what there is room for.
    pub(super) fn grow_now(&mut self, count: usize) -> bool {
        let Some(range) = self.extents.urgent_growth(count) else {
            return false;
        };
        let is_there = self.file.as_ref().is_none_or(|file| file.extend(range.clone()).is_ok());
        let has_grown = is_there && self.map_growth(range).is_ok();
        if has_grown {
            self.extents.grown_urgently(count);
        }
        has_grown
    }

    /// Maps what the file has grown by, where memory is the medium.
    fn map_growth(&mut self, range: Range<u64>) -> Result<(), PoolError> {
        if let (Some(file), true) = (&self.file, self.domain.is_in_place()) {
            let fault =
                |source| PoolError::File { path: file.path().to_owned(), doing: "map what was added to", source };
            let len = file.file().metadata().map_err(fault)?.len();
            if len < range.end {
                return Err(fault(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.mapping.map_shared(file.file(), range, self.sharing).map_err(fault)?;
        }
        Ok(())
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

    /// Memory that freed extents keep although they are not clean yet, in bytes.
    pub(super) fn bytes_kept(&self) -> u64 {
        self.sync.as_ref().map_or(0, |sync| sync.kept() as u64 * self.extents.bytes())
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

    /// Gives a slice of the memory of freed extents back, or forgets it where memory is the medium, or lets it be kept.
    pub(super) fn release(&mut self) -> bool {
        let extent_bytes = self.extents.bytes();
        let in_place = self.domain.is_in_place();
        let Some(sync) = self.sync.as_mut() else {
            return false;
        };
        // Memory that is mapped from the file is not worth keeping: a store to it copies the page that is there. Nor is that of a
        // place without space, which is to be filled before it is used again.
        let is_worth_keeping = |index: u32| {
            let start = self.extents.start(ExtentId::from_index(index));
            !in_place
                && !self.extents.was_hole(index)
                && (!self.mapping.is_of_file(start) || self.replaced.contains(&index))
        };
        if sync.next_whole().is_some_and(is_worth_keeping) && self.extents.may_keep(sync.kept()) {
            sync.keep_next();
            return true;
        }
        let slice = if in_place { extent_bytes } else { super::commit::GIVE_BACK_BYTES };
        let Some((index, range)) = sync.next_to_release(extent_bytes, slice) else {
            return false;
        };
        let start = self.extents.start(ExtentId::from_index(index));
        // The first page stays: it is written once more, with nothing of it changed but the header.
        let range = start + range.start.max(PAGE_BYTES)..start + range.end;
        if !in_place {
            if self.mapping.is_of_file(range.start) && range.end == start + extent_bytes {
                self.replaced.insert(index);
            }
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
                Some(sequence) => self.write_invalid_header(id, sequence),
                None => self.invalidate_header(self.extents.start(id)),
            }
        }
    }

    /// Gives an extent that nobody uses any more a header of this sequence, made invalid: it tells that the place was used.
    pub(super) fn write_invalid_header(&mut self, id: ExtentId, sequence: u64) {
        self.write_former(id, &ExtentHeader { sequence, ..self.extents.header_of_body() });
    }

    /// Writes a header, made invalid.
    fn write_former(&mut self, id: ExtentId, header: &ExtentHeader) {
        let start = self.extents.start(id);
        if self.domain.is_in_place() {
            self.unname_in_place(start);
        }
        let place = start + extent_header::POOL_ID as u64..start + extent_header::BYTES as u64;
        self.mapping.bytes_mut(place.clone()).copy_from_slice(&header.to_bytes()[extent_header::POOL_ID..]);
        self.note_written(place);
        self.invalidate_header(start);
    }

    /// Makes the header of an extent invalid that recovery drops. It still tells of the extents of its run; it names none before it, which
    /// may never have come to be.
    pub(super) fn invalidate_dropped(&mut self, id: ExtentId, kind: ExtentKind) {
        if self.domain.is_in_place() {
            // It names none. It is not told anew: whoever finds half of that would know nothing of the run.
            return self.unname_in_place(self.extents.start(id));
        }
        let &Extent { sequence, run, .. } = self.extents.get(id);
        self.write_former(id, &ExtentHeader { sequence, run, kind, ..self.extents.header_of_body() });
    }

    /// Writes the header of an extent where memory is the medium: its first word last, so that it is there whole or not at
    /// all, and before it returns.
    pub(super) fn write_header_in_place(&mut self, start: u64, header: &[u8; extent_header::BYTES]) {
        let (word, rest) = header.split_at(extent_header::POOL_ID);
        self.unname_in_place(start);
        self.persist(start + extent_header::POOL_ID as u64, rest);
        self.persist(start, word);
    }

    /// Lets a run be announced before its body reaches a file.
    pub(super) fn announce_run(&mut self, id: ExtentId) {
        let run = self.extents.get(id).run;
        if run > 1
            && !self.domain.is_in_place()
            && let Some(sync) = &mut self.sync
        {
            // Beyond the position of every commit that was begun before.
            self.position.advance(RECORD_ALIGN as u64);
            sync.open_run(id.raw(), run, self.position);
        }
    }

    /// Lets what lies at `start` be no header, before it returns.
    fn unname_in_place(&mut self, start: u64) {
        let word = [0; extent_header::POOL_ID];
        if self.mapping.bytes(start..start + word.len() as u64) != word {
            self.persist(start, &word);
        }
    }

    /// Stores bytes and waits until they are durable, where memory is the medium.
    fn persist(&mut self, at: u64, bytes: &[u8]) {
        let range = at..at + bytes.len() as u64;
        self.mapping.bytes_mut(range.clone()).copy_from_slice(bytes);
        self.domain.flush(range.clone(), self.mapping.bytes(range));
        self.drain();
    }

    /// Waits until all that was flushed is durable.
    pub(super) fn drain(&mut self) {
        let end = self.medium_bytes();
        self.domain.drain(|| self.mapping.bytes(0..end));
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

    /// Rounds what is to be written to pages, and leaves out what waits for a run to be announced.
    pub(super) fn begin_commit(&mut self) {
        let state = self.state();
        let Some(sync) = &mut self.sync else {
            return;
        };
        sync.begin_commit(state);
        if self.domain.is_in_place() {
            return;
        }
        let extents = &self.extents;
        let first_page = |index: u32| {
            let start = extents.start(ExtentId::from_index(index));
            start..start + PAGE_BYTES
        };
        self.written.extend(std::mem::take(&mut sync.announced).into_iter().map(first_page));
        to_pages(&mut self.written);
        for run in sync.unannounced() {
            (run.head + 1..run.head + run.run).for_each(|body| leave_out(&mut self.written, first_page(body)));
        }
    }

    /// Where memory is the medium, the commit is durable now, and freed extents go on as far as that lets them.
    pub(super) fn end_commit(&mut self) {
        if self.domain.is_in_place() {
            self.written(self.position);
            while self.release() {}
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

/// Takes a range out of others, which lie in order.
fn leave_out(ranges: &mut Vec<Range<u64>>, out: Range<u64>) {
    let first = ranges.partition_point(|range| range.end <= out.start);
    let end = ranges.partition_point(|range| range.start < out.end);
    let left: Vec<Range<u64>> = ranges[first..end]
        .iter()
        .flat_map(|range| [range.start..out.start, out.end..range.end])
        .filter(|range| range.start < range.end)
        .collect();
    ranges.splice(first..end, left);
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(miri))]
    use crate::{LogConfig, Scan, SlotMap, Superblock, WriteBack, mapping::Sharing};

    /// The log of a file that is mapped as memory that is the medium would be, and everything that it holds.
    #[cfg(not(miri))]
    fn log_in_place(file: PoolFile) -> (Log, Vec<Vec<u8>>) {
        let config = LogConfig { capacity_bytes: 32 << 20, ..LogConfig::new(0, 32 << 20) };
        let log = Log::of_memory(file, config, WriteBack::Nothing, Sharing::Plain).unwrap();
        let (mut log, mut scan) = log.begin_scan(None);
        let mut values = Vec::new();
        while let Some(found) = next(&mut log, &mut scan) {
            values.push(found);
        }
        assert_eq!(log.end_scan(scan).0.damage, []);
        while !log.is_settled() {
            log.commit();
        }
        (log, values)
    }

    #[cfg(not(miri))]
    fn next(log: &mut Log, scan: &mut Scan) -> Option<Vec<u8>> {
        let found = log.scan_next(scan)?;
        let (offset, version, value) = (found.offset, found.version, found.record.value().to_vec());
        log.found_live(offset, version);
        Some(value)
    }

    #[test]
    #[cfg(not(miri))]
    fn what_is_stored_is_in_the_file_and_the_file_grows_under_it() {
        // Nobody writes: records of more bytes than the file began with, single and in runs, are there when it is opened again.
        // Growth in the background maps what the file has, and only if it has it.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00.pool");
        let superblock = Superblock {
            generation: 0,
            pool_id: 5,
            shard: 0,
            shards: 1,
            slot_map: SlotMap::Modulo,
            extent_bytes: 64 << 10,
            hash_seed: 6,
            boot_id: [7; 16],
            checkpoint: 0,
        };
        let (mut log, none) = log_in_place(PoolFile::create(&path, &superblock).unwrap());
        assert!(none.is_empty() && log.commits_at_once());
        let values: Vec<Vec<u8>> = (0..300).map(|i| vec![i as u8; if i % 9 == 0 { 200_000 } else { 20_000 }]).collect();
        for value in &values {
            let value: &[&[u8]] = &[value];
            let parts = RecordParts::new(Kind::String, b"key", value);
            log.reserve(parts.bytes()).unwrap();
            log.append(&parts);
            log.commit();
        }
        let len = std::fs::metadata(&path).unwrap().len();
        assert!(len > 8192 + (10 << 20) && len == log.medium_bytes());
        while log.next_growth().is_none() {
            log.reserve(60_000).unwrap();
            log.append_with(&RecordParts::new(Kind::Chunk, b"", &[]), 60_000, |value| value.fill(1));
        }
        assert!(log.grown().is_err(), "the file is as long as before");
        let range = log.next_growth().expect("it is tried again");
        log.file().unwrap().extend(range[0].clone()).unwrap();
        log.grown().unwrap();
        assert_eq!(log.medium_bytes(), range[0].end);
        drop(log);
        let (_, found) = log_in_place(PoolFile::open(&path).unwrap());
        assert!(found.starts_with(&values));
    }

    #[test]
    fn ranges_become_whole_pages_in_order() {
        // Two in one page are one; neighbours join; what lies apart stays apart.
        let mut ranges = vec![100_000..100_010, 5000..5001, 8192..8200, 4096..4100];
        to_pages(&mut ranges);
        assert_eq!(ranges, [4096..12_288, 98_304..102_400]);
    }

    #[test]
    fn a_range_is_left_out_of_others_wherever_it_lies() {
        // In the midst of one, at its ends, over several, beside all.
        let left = |out| {
            let mut ranges = vec![10..20, 30..40, 50..60];
            leave_out(&mut ranges, out);
            ranges
        };
        assert_eq!(left(12..15), [10..12, 15..20, 30..40, 50..60]);
        assert_eq!(left(10..15), [15..20, 30..40, 50..60]);
        assert_eq!(left(35..40), [10..20, 30..35, 50..60]);
        assert_eq!(left(15..55), [10..15, 55..60]);
        assert_eq!(left(10..60), []);
        assert_eq!(left(20..30), [10..20, 30..40, 50..60]);
        assert_eq!(left(70..80), [10..20, 30..40, 50..60]);
    }
}
