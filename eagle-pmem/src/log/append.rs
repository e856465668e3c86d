//! Appending: a record is given its place, written there, and sealed by its checksum.

use super::{Cursor, Lane, Log, Place};
use crate::extent::{ExtentId, ExtentState};
use crate::layout::{ExtentKind, RECORD_ALIGN};
use crate::offset::{CollectionId, PoolOffset};
use crate::record::{Kind, Record, RecordParts, Shape};
use crate::sync::Synced;

/// What is different in a copy of a record. `None` leaves the field as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edit<'a> {
    /// Another key.
    pub key: Option<&'a [u8]>,
    /// Another database.
    pub db: Option<u16>,
    /// Another expiry, or none.
    pub expiry: Option<Option<u64>>,
    /// Another collection.
    pub id: Option<CollectionId>,
}

impl Log {
    /// Appends a record and returns where it lies.
    ///
    /// # Panics
    /// If there is no room: none was reserved. If a field exceeds its bound.
    #[inline]
    pub fn append(&mut self, parts: &RecordParts<'_>) -> PoolOffset {
        self.append_shape(parts, Shape::of(parts, parts.value_len(), None), |value| {
            copy_pieces(parts.value, value);
        })
    }

    /// Appends a record whose value of `value_len` bytes is written where it will lie by `fill`,
    /// which finds arbitrary bytes there. `parts.value` must be empty.
    ///
    /// # Panics
    /// As [`Log::append`].
    #[inline]
    pub fn append_with(
        &mut self,
        parts: &RecordParts<'_>,
        value_len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> PoolOffset {
        debug_assert!(parts.value.is_empty(), "the value is filled in, not given");
        self.append_shape(parts, Shape::of(parts, value_len, None), fill)
    }

    /// Appends a record made from one that lies in the log, which stays as it is: `fill` is given
    /// the source and the place of the new value of `value_len` bytes. `parts.value` must be
    /// empty.
    ///
    /// # Panics
    /// As [`Log::append`].
    pub fn append_from(
        &mut self,
        source: PoolOffset,
        parts: &RecordParts<'_>,
        value_len: usize,
        fill: impl FnOnce(Record<'_>, &mut [u8]),
    ) -> PoolOffset {
        debug_assert!(parts.value.is_empty(), "the value is filled in, not given");
        let shape = Shape::of(parts, value_len, None);
        let place = self.claim(Lane::Appended, shape.len);
        let (source, bytes) = self.record_beside(source, place.offset, shape.len);
        fill(source, shape.write(parts, bytes));
        self.appended(place.offset)
    }

    /// Appends a copy of a record with some fields changed; the source stays as it is.
    ///
    /// # Panics
    /// As [`Log::append`]; [`crate::layout::record_bytes_max`] of the key and value is enough to
    /// reserve.
    pub fn append_copy(&mut self, source: PoolOffset, edit: &Edit<'_>) -> PoolOffset {
        let record = self.read(source);
        let shape = Shape::of(&edit.apply(record.parts()), record.value().len(), None);
        let place = self.claim(Lane::Appended, shape.len);
        let (record, bytes) = self.record_beside(source, place.offset, shape.len);
        shape.write(&edit.apply(record.parts()), bytes).copy_from_slice(record.value());
        self.appended(place.offset)
    }

    /// The record is deleted, expired or evicted, and nothing takes its place: kills it, after a
    /// tombstone where the log is replayed.
    ///
    /// # Panics
    /// If the log is replayed and [`Log::delete_bytes`] were not reserved.
    pub fn delete(&mut self, offset: PoolOffset) {
        if self.replayed {
            self.append_tombstone(offset);
        } else {
            self.position.advance(RECORD_ALIGN as u64);
        }
        self.kill(offset);
    }

    /// Appends the tombstone of a record. It is alive until something is known to need it no more.
    fn append_tombstone(&mut self, offset: PoolOffset) {
        let shape = Shape::of(&tombstone_of(self.read(offset)), 0, None);
        let place = self.claim(Lane::Appended, shape.len);
        let (record, bytes) = self.record_beside(offset, place.offset, shape.len);
        shape.write(&tombstone_of(record), bytes);
        self.note_tombstone(&place, shape.len, None);
        self.appended(place.offset);
    }

    #[inline(always)]
    fn append_shape(&mut self, parts: &RecordParts<'_>, shape: Shape, fill: impl FnOnce(&mut [u8])) -> PoolOffset {
        let place = self.claim(Lane::Appended, shape.len);
        fill(shape.write(parts, self.mapping.bytes_mut(place.range(shape.len))));
        self.appended(place.offset)
    }

    /// The record at `source` and, to be written, `len` bytes elsewhere.
    pub(super) fn record_beside(&mut self, source: PoolOffset, to: PoolOffset, len: usize) -> (Record<'_>, &mut [u8]) {
        let source_len = self.read(source).bytes_on_medium() as u64;
        let to = to.byte()..to.byte() + len as u64;
        let (bytes, to) = self.mapping.split(source.byte()..source.byte() + source_len, to);
        // SAFETY: `bytes` is a whole record, and stays borrowed.
        (unsafe { Record::trusted(bytes.as_ptr(), bytes.len()) }, to)
    }

    /// Takes the next `len` bytes of a lane for a new record and counts it as alive.
    #[inline(always)]
    pub(super) fn claim(&mut self, lane: Lane, len: usize) -> Place {
        if len as u64 > self.lanes[lane as usize].free() {
            self.make_free(lane, len as u64);
        }
        let len = len as u64;
        let cursor = &mut self.lanes[lane as usize];
        let place = Place { offset: PoolOffset::from_byte(cursor.next), seed: cursor.seed };
        cursor.next += len;
        let extent = self.extents.get_mut(cursor.extent);
        extent.used += len;
        extent.live += len;
        extent.records += 1;
        self.bytes_used += len;
        self.bytes_live += len;
        self.position.advance(len);
        place
    }

    /// Makes room for a record: by computing checksums that are due, or by opening an extent or a
    /// run.
    #[cold]
    #[inline(never)]
    fn make_free(&mut self, lane: Lane, len: u64) {
        let in_group = self.group.is_some() && lane == Lane::Appended;
        if len <= self.lanes[lane as usize].room() {
            if !in_group {
                self.sum(lane);
            }
            self.lanes[lane as usize].allow(len);
            return;
        }
        assert!(!in_group, "a group exceeds what it said it would take");
        self.open_next(lane, len);
    }

    /// Seals a lane's extent and opens the next, a run if an extent cannot hold `len` bytes of
    /// records.
    pub(super) fn open_next(&mut self, lane: Lane, len: u64) {
        self.seal(lane);
        let count = self.extents.count_for(len);
        let kind = match lane {
            Lane::Compacted => ExtentKind::Compacted,
            Lane::Appended if count > 1 => ExtentKind::Large,
            Lane::Appended => ExtentKind::Appended,
        };
        let synced = self.sync.as_ref().map_or(Synced::default(), |sync| sync.synced);
        let opened = self.extents.open(count, kind, self.next_version, &synced);
        let id = opened.expect("room is reserved before it is used");
        self.extents.get_mut(id).hint = self.hint;
        if lane == Lane::Appended {
            if !self.domain.is_in_place() {
                self.extents.get_mut(id).before = self.last_appended;
            }
            self.last_appended = (self.extents.get(id).sequence, id.raw());
        }
        self.write_header(id);
        self.announce_run(id);
        let next = self.extents.records_start(id);
        let cursor = &mut self.lanes[lane as usize];
        *cursor = Cursor {
            next,
            stop: next,
            end: self.extents.records_stop(id),
            summed: next,
            seed: self.extents.get(id).seed,
            extent: id,
        };
        cursor.allow(len);
    }

    pub(super) fn write_header(&mut self, id: ExtentId) {
        let header = self.extents.header(id).to_bytes();
        let start = self.extents.start(id);
        if self.domain.is_in_place() {
            return self.write_header_in_place(start, &header);
        }
        let range = start..start + header.len() as u64;
        self.mapping.bytes_mut(range.clone()).copy_from_slice(&header);
        self.note_written(range);
    }

    /// Seals a lane's extent, if one is open; one in which nothing lives is freed.
    pub(super) fn seal(&mut self, lane: Lane) {
        self.sum(lane);
        self.write_seal(lane);
        let cursor = std::mem::replace(&mut self.lanes[lane as usize], Cursor::CLOSED);
        if cursor.is_closed() {
            return;
        }
        let extent = self.extents.get_mut(cursor.extent);
        extent.state = ExtentState::Sealed;
        if lane == Lane::Appended {
            self.next_version = extent.version_base + extent.records;
        }
        if extent.live == 0 {
            self.free(cursor.extent);
        }
    }

    #[inline(always)]
    fn appended(&mut self, offset: PoolOffset) -> PoolOffset {
        if self.group.is_some() {
            self.appended_in_group(offset);
        }
        offset
    }
}

impl Edit<'_> {
    fn apply<'r>(&'r self, parts: RecordParts<'r>) -> RecordParts<'r> {
        RecordParts {
            key: self.key.unwrap_or(parts.key),
            db: self.db.unwrap_or(parts.db),
            expiry: self.expiry.unwrap_or(parts.expiry),
            id: self.id.or(parts.id),
            ..parts
        }
    }
}

/// The tombstone that keeps a record dead.
fn tombstone_of(record: Record<'_>) -> RecordParts<'_> {
    RecordParts {
        db: record.db(),
        id: record.id(),
        tag: record.kind() as u8,
        ..RecordParts::new(Kind::Tombstone, record.key(), &[])
    }
}

/// Puts pieces together in `place`, which is as long as all of them.
#[inline(always)]
pub(super) fn copy_pieces(pieces: &[&[u8]], place: &mut [u8]) {
    let mut at = 0;
    for piece in pieces {
        place[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
}
