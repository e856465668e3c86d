//! A large string: a vector of chunk records behind a head, so that a change rewrites a chunk and not the string.
//!
//! ```text
//!  index entry ─▶ head record: key, id, length, sum LargeStrings: id ─▶ [offset, offset, 0, offset, ...]
//!                                                                          │       │     hole: 64 KiB of zeros
//!                 chunk record: id, index, bytes ◀─────────────────────────┘       ▼
//! ```
//!
//! The head tells length and *sum*: what the chunks' contents hash to, all together. So a chunk that was lost to damage is seen, and a
//! string is never shown with an older chunk, or zeros, in its place. (Where nothing is replayed the sum is 0.)
//!
//! A chunk's record holds at most [`CHUNK_BYTES`]; what it holds less, and what has no record, is zeros. So a string that `SETRANGE`
//! makes 512 MB long takes one chunk. The head comes last in its group: it is what makes the chunks count after a
//! crash. An id is never used again; a string that is overwritten gets a new one.
//!
//! What always holds: a string in the table has a head that an index entry points at, or one that was flushed and is not swept.

use eagle_pmem::{
    CheckpointBlocks, CollectionId, Kind, Log, PoolOffset, Record, RecordParts, layout::record_bytes_max,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Form,
    by_id::ById,
    string::{Encoding, splice_value},
};
use crate::{
    call::{DbId, Key, UnixMs},
    checkpoint::{Cut, STRING, words_to_bytes},
    error::Error,
    flush::Dead,
    keyspace::{Found, NewValue},
    shard::Shard,
};

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// What a hole reads as.
pub(crate) static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// A string with more chunks than this leaves them to the background when it goes.
const DROPPED_AT_ONCE_MAX: usize = 16;

/// No record: all of the chunk is zeros.
const HOLE: u64 = 0;

/// The longest string, whatever the configuration says, in bytes: what its table may come to.
pub(crate) const LARGE_BYTES_MAX: usize = 64 << 30;
const CHUNKS_MAX: usize = LARGE_BYTES_MAX / CHUNK_BYTES;

/// Bytes of a head's value: length and sum.
pub(crate) const HEAD_BYTES: usize = 16;

/// Where the chunks of one string lie; [`HOLE`] where there is none.
#[derive(Debug, Default)]
struct LargeString {
    chunks: Vec<u64>,
    /// What each chunk's content hashes to, with its place; 0 for holes, and all where nothing is replayed.
    stamps: Vec<u64>,
    /// The last checkpoint that it was written into.
    imaged: u32,
}

impl LargeString {
    fn extend(&mut self, count: usize) {
        if self.chunks.is_empty() {
            // Zeros from the allocator take no memory until they are touched.
            (self.chunks, self.stamps) = (vec![HOLE; count], vec![0; count]);
        } else {
            self.chunks.resize(count, HOLE);
            self.stamps.resize(count, 0);
        }
    }

    fn sum(&self) -> u64 {
        self.stamps.iter().fold(0, |sum, stamp| sum ^ stamp)
    }
}

/// What the content of a chunk hashes to at its place: never 0.
fn stamp_of(index: usize, content: &[u8]) -> u64 {
    xxh3_64_with_seed(content, index as u64) | 1
}

/// The large strings of a shard by their ids.
#[derive(Debug, Default)]
pub(crate) struct LargeStrings {
    strings: ById<LargeString>,
    chunks: usize,
    /// The checkpoint under way, and what was written into it ahead of its turn.
    cut: Option<Cut>,
    blocks: CheckpointBlocks,
}

impl LargeStrings {
    /// Memory of the table in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let entry = size_of::<(CollectionId, LargeString)>() + 1;
        self.strings.capacity() * entry + self.chunks * 2 * size_of::<u64>()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// A checkpoint begins: from now on each string that there is is written into it as it is now, when its turn comes
    /// ([`LargeStrings::image`]) or before it changes. Returns all of them.
    pub(crate) fn begin_image(&mut self, cut: Cut) -> Vec<CollectionId> {
        self.cut = Some(cut);
        self.strings.keys().copied().collect()
    }

    /// Writes a string, if it is still there and was not written; what was written ahead of its turn goes to `to`, too.
    pub(crate) fn image(&mut self, id: CollectionId, to: &mut CheckpointBlocks) {
        if self.strings.contains_key(&id) {
            self.before_change(id);
        }
        to.append(&mut self.blocks);
    }

    /// The checkpoint has all that it wants, or is given up.
    pub(crate) fn end_image(&mut self, to: &mut CheckpointBlocks) {
        self.cut = None;
        to.append(&mut self.blocks);
    }

    /// The string is about to change, or to go.
    #[inline]
    fn before_change(&mut self, id: CollectionId) {
        let Some(cut) = self.cut.filter(|cut| id.raw() <= cut.ids) else {
            return;
        };
        let string = self.strings.get_mut(&id).expect("a string that changes is there");
        if string.imaged != cut.number {
            string.imaged = cut.number;
            self.blocks.block(
                STRING,
                &[&id.raw().to_le_bytes(), &words_to_bytes(&string.chunks), &words_to_bytes(&string.stamps)],
            );
        }
    }

    /// All chunk records.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = PoolOffset> {
        let all = self.strings.values().flat_map(|string| &string.chunks);
        all.filter(|raw| **raw != HOLE).map(|raw| PoolOffset::from_raw(*raw))
    }

    /// The string with this head.
    pub(crate) fn pieces<'a>(&'a self, log: &'a Log, head: Record<'a>) -> Pieces<'a> {
        Pieces { log, chunks: &self.strings[&id_of(head)].chunks, start: 0, end: len_of(head) }
    }

    /// Bytes of the chunks of the string with this head, and of their table.
    pub(crate) fn memory_usage(&self, log: &Log, head: Record<'_>) -> usize {
        let chunks = &self.strings[&id_of(head)].chunks;
        let records = chunks.iter().filter(|raw| **raw != HOLE);
        let bytes: usize = records.map(|raw| log.read(PoolOffset::from_raw(*raw)).bytes_on_medium()).sum();
        bytes + 2 * size_of_val(&chunks[..])
    }

    /// Whether the chunk record at `offset` is what its string has at its place; `to` becomes its new place if given.
    pub(crate) fn owns(&self, chunk: Record<'_>, offset: PoolOffset) -> bool {
        let Some((id, index)) = place_of(chunk) else {
            return false;
        };
        let string = self.strings.get(&id);
        string.and_then(|string| string.chunks.get(index)).is_some_and(|raw| *raw == offset.raw())
    }

    /// The chunk of this string lies elsewhere now.
    pub(crate) fn moved(&mut self, id: CollectionId, index: usize, offset: PoolOffset) {
        self.before_change(id);
        let string = self.strings.get_mut(&id).expect("a chunk that lives has a string");
        string.chunks[index] = offset.raw();
    }

    /// A chunk of this string was written.
    fn set(&mut self, id: CollectionId, index: usize, offset: PoolOffset, stamp: u64) {
        self.before_change(id);
        let string = self.strings.get_mut(&id).expect("a chunk that lives has a string");
        (string.chunks[index], string.stamps[index]) = (offset.raw(), stamp);
    }

    /// A new string of so many chunks, holes all of them.
    fn add(&mut self, id: CollectionId, count: usize) {
        self.chunks += count;
        let mut string = LargeString::default();
        string.extend(count);
        self.strings.insert(id, string);
    }

    fn remove(&mut self, id: CollectionId) -> Vec<u64> {
        self.before_change(id);
        let string = self.strings.remove(&id).expect("a head has its string");
        self.chunks -= string.chunks.len();
        string.chunks
    }

    /// The chunk that a string has at its place so far, for replay; there is room for one there then.
    pub(crate) fn replayed(&mut self, id: CollectionId, index: usize) -> Option<PoolOffset> {
        self.replayed_string(id, index + 1);
        self.offset(id, index)
    }

    /// The newest chunk so far was found.
    pub(crate) fn replayed_chunk(&mut self, id: CollectionId, index: usize, offset: PoolOffset, content: &[u8]) {
        self.set(id, index, offset, stamp_of(index, content));
    }

    /// A head was found: its string is as long as it tells. Returns whether the chunks are those that it was written with.
    pub(crate) fn replayed_head(&mut self, head: Record<'_>) -> bool {
        self.replayed_string(id_of(head), len_of(head).div_ceil(CHUNK_BYTES));
        self.is_whole(head)
    }

    /// Whether the chunks of the string with this head are those that it was written with.
    pub(crate) fn is_whole(&self, head: Record<'_>) -> bool {
        self.strings[&id_of(head)].sum() == sum_of(head)
    }

    fn replayed_string(&mut self, id: CollectionId, chunks: usize) {
        if !self.strings.contains_key(&id) {
            self.add(id, 0);
        }
        self.extend(id, chunks);
    }

    /// The tables of all strings: offsets of chunks, and what these hash to.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (CollectionId, &[u64], &[u64])> {
        self.strings.iter().map(|(id, string)| (*id, &string.chunks[..], &string.stamps[..]))
    }

    /// Adds a string whose chunks lie here, and hash to this.
    pub(crate) fn restore(&mut self, id: CollectionId, chunks: Vec<u64>, stamps: Vec<u64>) {
        self.chunks += chunks.len();
        self.strings.insert(id, LargeString { chunks, stamps, imaged: 0 });
    }

    /// Forgets the strings that are not to be kept; what is returned are their chunks.
    pub(crate) fn retain(&mut self, keep: impl Fn(CollectionId) -> bool) -> Vec<Vec<u64>> {
        let gone: Vec<CollectionId> = self.strings.keys().copied().filter(|id| !keep(*id)).collect();
        gone.into_iter().map(|id| self.remove(id)).collect()
    }

    /// Forgets all strings.
    pub(crate) fn clear(&mut self) {
        self.strings = ById::default();
        self.chunks = 0;
    }

    fn extend(&mut self, id: CollectionId, count: usize) {
        self.before_change(id);
        let string = self.strings.get_mut(&id).expect("a head has its string");
        if count > string.chunks.len() {
            self.chunks += count - string.chunks.len();
            string.extend(count);
        }
    }

    fn offset(&self, id: CollectionId, index: usize) -> Option<PoolOffset> {
        let raw = self.strings[&id].chunks[index];
        (raw != HOLE).then(|| PoolOffset::from_raw(raw))
    }
}

/// A part of a large string, to be read piece by piece.
#[derive(Clone, Copy)]
pub struct Pieces<'a> {
    log: &'a Log,
    chunks: &'a [u64],
    start: usize,
    end: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn slice(&self, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= self.len(), "a slice lies within its string");
        Self { start: self.start + start, end: self.start + end, ..*self }
    }

    /// Goes through the bytes, a run of record or of zeros at a time.
    pub(crate) fn for_each(&self, mut emit: impl FnMut(&'a [u8])) {
        let mut at = self.start;
        while at < self.end {
            let piece = self.piece(at);
            emit(piece);
            at += piece.len();
        }
    }

    /// The longest piece that begins at byte `at` of the string.
    fn piece(&self, at: usize) -> &'a [u8] {
        let (index, within) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
        let raw = self.chunks.get(index).copied().unwrap_or(HOLE);
        let chunk = if raw == HOLE { &[] } else { self.log.read(PoolOffset::from_raw(raw)).value() };
        let rest = self.end - at;
        match chunk.get(within..) {
            Some(bytes) if !bytes.is_empty() => &bytes[..bytes.len().min(rest)],
            _ => &ZEROS[..(CHUNK_BYTES - within).min(rest)],
        }
    }
}

/// The id that a head carries.
pub(crate) fn id_of(head: Record<'_>) -> CollectionId {
    head.id().expect("a head carries an id")
}

/// The length that a head tells.
fn len_of(head: Record<'_>) -> usize {
    usize::try_from(number_of(head, 0)).expect("a length fits the address space")
}

/// The sum that a head tells.
fn sum_of(head: Record<'_>) -> u64 {
    number_of(head, 1)
}

fn number_of(head: Record<'_>, nth: usize) -> u64 {
    u64::from_le_bytes(head.value().as_chunks().0[nth])
}

/// Whether a record can be a head.
pub(crate) fn is_head(record: Record<'_>) -> bool {
    record.id().is_some()
        && record.value().len() == HEAD_BYTES
        && number_of(record, 0) <= LARGE_BYTES_MAX as u64
        && Encoding::from_byte(record.tag()).is_some()
}

/// Whether a record can be a chunk.
pub(crate) fn is_chunk(record: Record<'_>) -> bool {
    place_of(record).is_some_and(|(_, index)| index < CHUNKS_MAX) && record.value().len() <= CHUNK_BYTES
}

/// The string and the place in it that a chunk's record names.
pub(crate) fn place_of(chunk: Record<'_>) -> Option<(CollectionId, usize)> {
    let index = u32::from_le_bytes(chunk.key().try_into().ok()?);
    Some((chunk.id()?, index as usize))
}

/// What a string of this length takes in the log at most, in chunks and head.
pub(super) fn large_bytes_max(key_len: usize, chunks: usize) -> usize {
    chunks * record_bytes_max(size_of::<u32>(), CHUNK_BYTES) + record_bytes_max(key_len, HEAD_BYTES)
}

impl Shard {
    /// Puts a string above one record's size under a key.
    pub(crate) fn put_large(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        value: &[u8],
        expiry: Option<UnixMs>,
    ) -> Result<(), Error> {
        let count = value.len().div_ceil(CHUNK_BYTES);
        let bytes = large_bytes_max(key.bytes.len(), count);
        let moved = self.make_room(bytes)?;
        let old = if moved { old.map(|_| self.find_again(db, key)) } else { old };
        self.log.begin_group(bytes);
        self.put_large_of_group(db, key, old, value, expiry);
        self.log.end_group();
        Ok(())
    }

    /// The same within a group that has room for it.
    pub(super) fn put_large_of_group(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        value: &[u8],
        expiry: Option<UnixMs>,
    ) {
        let id = self.add_large(value.len().div_ceil(CHUNK_BYTES));
        for (index, chunk) in value.chunks(CHUNK_BYTES).enumerate() {
            let key = (index as u32).to_le_bytes();
            let parts = RecordParts { id: Some(id), ..RecordParts::new(Kind::Chunk, &key, &[]) };
            let offset = self.log.append_with(&parts, chunk.len(), |place| place.copy_from_slice(chunk));
            self.set_chunk(id, index, offset);
        }
        self.put_head(db, key, old, id, value.len(), expiry);
    }

    /// Writes `bytes` at `at` of the string under a key, which is then `len` long and in chunks. What is one record (or nothing)
    /// before becomes chunks.
    pub(crate) fn splice_large(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        len: usize,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let touched = at / CHUNK_BYTES..(at + bytes.len()).div_ceil(CHUNK_BYTES);
        let room = large_bytes_max(key.bytes.len(), touched.len() + 1);
        let moved = self.make_room(room)?;
        let old = if moved { old.map(|_| self.find_again(db, key)) } else { old };
        let expiry = old.and_then(|found| self.expiry(found));
        self.log.begin_group(room);
        let id = match old {
            Some(found) if found.form() == Form::LargeString => id_of(self.record(found)),
            _ => self.add_large(0),
        };
        self.large.extend(id, len.div_ceil(CHUNK_BYTES));
        // The one record that the string was is the source of its first chunk, which may be one that `bytes` touch.
        let small = old.filter(|found| found.form() == Form::String).map(Found::offset);
        if let Some(source) = small
            && touched.start > 0
        {
            self.write_chunk(id, 0, Some(source), 0, &[]);
        }
        for index in touched {
            let start = index * CHUNK_BYTES;
            let (from, to) = (at.max(start), (at + bytes.len()).min(start + CHUNK_BYTES));
            let source = if index == 0 { small } else { None };
            self.write_chunk(id, index, source, from - start, &bytes[from - at..to - at]);
        }
        self.put_head(db, key, old, id, len, expiry);
        self.log.end_group();
        Ok(())
    }

    /// Writes `bytes` at `at` of a chunk, which begins as `source` if that is given, else as what it is.
    fn write_chunk(&mut self, id: CollectionId, index: usize, source: Option<PoolOffset>, at: usize, bytes: &[u8]) {
        let current = self.large.offset(id, index);
        let end = at + bytes.len();
        if let Some(offset) = current
            && self.log.read(offset).value().len() >= end
            && self.log.change_value(offset, |value| value[at..end].copy_from_slice(bytes))
        {
            return;
        }
        let number = (index as u32).to_le_bytes();
        let parts = RecordParts { id: Some(id), ..RecordParts::new(Kind::Chunk, &number, &[]) };
        let source = source.or(current);
        let len = end.max(source.map_or(0, |source| self.log.read(source).value().len()));
        let offset = match source {
            Some(source) => self.log.append_from(source, &parts, len, |old, value| {
                splice_value(old, value, at, bytes);
            }),
            None => self.log.append_with(&parts, len, |value| {
                value[..at].fill(0);
                value[at..].copy_from_slice(bytes);
            }),
        };
        self.set_chunk(id, index, offset);
        if let Some(current) = current {
            self.log.kill(current);
        }
    }

    /// A chunk of a string was written.
    fn set_chunk(&mut self, id: CollectionId, index: usize, offset: PoolOffset) {
        let is_replayed = self.log.is_replayed();
        let stamp = if is_replayed { stamp_of(index, self.log.read(offset).value()) } else { 0 };
        self.large.set(id, index, offset, stamp);
    }

    /// A new string of so many chunks, holes all of them.
    fn add_large(&mut self, count: usize) -> CollectionId {
        let id = self.new_id();
        self.large.add(id, count);
        id
    }

    /// Writes the head of a string whose chunks are written.
    fn put_head(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        id: CollectionId,
        len: usize,
        expiry: Option<UnixMs>,
    ) {
        let sum = self.large.strings[&id].sum();
        let value: &[&[u8]] = &[&(len as u64).to_le_bytes(), &sum.to_le_bytes()];
        let form = Form::LargeString;
        let new = NewValue { form, kind: Kind::Head, tag: Encoding::Raw as u8, expiry, id: Some(id), value };
        let parts = self.parts(db, key, new);
        let is_same = |found: &Found| found.form() == form && id_of(self.record(*found)) == id;
        if let Some(found) = old.filter(is_same) {
            if !self.log.overwrite(found.offset(), &parts) {
                let offset = self.log.append(&parts);
                self.log.kill(found.offset());
                self.replace_offset(db, found, offset);
            }
            return;
        }
        let offset = self.log.append(&parts);
        self.point(db, key, old, offset, form, expiry);
    }

    /// Copies the chunks of the string with this head under a new id. Room for them must have been made.
    pub(crate) fn copy_chunks(&mut self, head: PoolOffset) -> CollectionId {
        let source = id_of(self.log.read(head));
        let count = self.large.strings[&source].chunks.len();
        let id = self.add_large(count);
        for index in 0..count {
            if let Some(offset) = self.large.offset(source, index) {
                self.write_chunk(id, index, Some(offset), 0, &[]);
            }
        }
        id
    }

    /// What copying the string with this head takes in the log.
    pub(crate) fn copy_bytes(&self, head: PoolOffset, key_len: usize) -> usize {
        let chunks = &self.large.strings[&id_of(self.log.read(head))].chunks;
        large_bytes_max(key_len, chunks.iter().filter(|raw| **raw != HOLE).count())
    }

    /// The chunks of a string that goes are dead: a few at once, many in the background.
    #[cold]
    pub(crate) fn drop_large(&mut self, head: PoolOffset) {
        let id = id_of(self.log.read(head));
        let chunks = self.large.remove(id);
        if chunks.len() > DROPPED_AT_ONCE_MAX {
            self.flushed.push(Dead::Chunks(chunks));
            return;
        }
        for raw in chunks.into_iter().filter(|raw| *raw != HOLE) {
            self.log.kill(PoolOffset::from_raw(raw));
        }
    }
}
