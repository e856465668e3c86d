//! The elements of a large collection: a table over records that carry the collection's id, not its key.
//!
//! ```text
//!  index entry ─▶ head record: key, id        Collections: id ─▶ Elements: Dash ─┐
//!                                                                                │ hash of id and field
//!                 element record: id, field, value ◀─────────────────────────────┘
//! ```
//!
//! The head says under which key the collection is, and nothing else: renaming rewrites the head, deleting and expiry kill it, whatever
//! the number of elements. The elements of an id whose head is gone are dead; the background counts them so
//! ([`crate::flush`]). Elements carry no database: a flush or a swap of databases is about heads. An id is never used again. A new collection's head is written after its elements, so that after a crash there is
//! all of it or nothing; a change of several elements is a group.
//!
//! What always holds: the collections in the table are those of the heads in the index and of those under way from another shard
//! (`arrivals`).

use eagle_pmem::{
    CheckpointBlocks, CollectionId, Edit, Kind, Log, PoolOffset, Record, RecordParts, layout::record_bytes_max,
};

use super::{Form, by_id::ById};
use crate::{
    call::{DbId, Key, UnixMs},
    checkpoint::{COLLECTIONS_FROM, Cut},
    dash::{Cursor, Dash, Hashed, KeyHash, Located, Place, Remains, Word},
    flush::Dead,
    keyspace::{Found, NewValue, offset_of},
    shard::Shard,
};

/// How many records ahead of the one at hand are asked for where many are gone through, and how many fields are looked up together.
pub(crate) const PREFETCHED: usize = 16;

/// How many records stand for all where their memory is asked for.
const SAMPLED: usize = 64;

/// The elements of one large collection.
pub struct Elements {
    id: CollectionId,
    /// Seed of the hashes of its elements: of the shard's and its id.
    seed: u64,
    dash: Dash,
}

impl Elements {
    fn new(id: CollectionId, seed: u64) -> Self {
        // An odd multiplier: ids that follow each other have nothing in common.
        let seed = seed ^ id.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { id, seed, dash: Dash::new() }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.dash.len()
    }

    /// Memory of the table in bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.dash.bytes()
    }

    /// Table and seed, for replay.
    pub(crate) fn table(&mut self) -> (&mut Dash, u64) {
        (&mut self.dash, self.seed)
    }

    pub(crate) fn hashed(&self, field: &[u8]) -> Hashed {
        Hashed::of_element(KeyHash::of(self.seed, field))
    }

    fn find(&self, log: &Log, hashed: Hashed, field: &[u8]) -> Option<Place> {
        self.dash.find(hashed, |word| log.read(offset_of(word)).key() == field)
    }

    /// The record of a field.
    #[inline]
    pub(crate) fn get<'l>(&self, log: &'l Log, field: &[u8]) -> Option<Record<'l>> {
        let place = self.find(log, self.hashed(field), field)?;
        Some(log.read(offset_of(self.dash.word(place))))
    }

    /// Asks for what will be read for the next [`PREFETCHED`] of these fields, if there are several: first the fingerprints of all,
    /// then the words, then the records, so that the misses of all overlap.
    pub(crate) fn prefetch<'f>(&self, log: &Log, fields: &mut impl Iterator<Item = &'f [u8]>) {
        let mut located = [None; PREFETCHED];
        let (Some(first), second) = (fields.next(), fields.next()) else {
            return;
        };
        if second.is_none() {
            return;
        }
        let next = std::iter::once(first).chain(second).chain(fields.take(PREFETCHED - 2));
        for (located, field) in located.iter_mut().zip(next) {
            *located = Some(self.dash.locate(self.hashed(field)));
        }
        for at in located.iter().flatten() {
            self.dash.prefetch_words(*at);
        }
        for word in located.iter().flatten().filter_map(|at| self.dash.candidate(*at)) {
            log.prefetch(offset_of(word));
        }
    }

    /// The records of all elements, in no order that means anything.
    pub(crate) fn records<'s>(&'s self, log: &'s Log) -> impl Iterator<Item = Record<'s>> {
        let mut ahead = self.dash.iter().map(|(_, word)| offset_of(word));
        ahead.by_ref().take(PREFETCHED).for_each(|offset| log.prefetch(offset));
        self.dash.iter().map(move |(_, word)| {
            if let Some(offset) = ahead.next() {
                log.prefetch(offset);
            }
            log.read(offset_of(word))
        })
    }

    /// The record of some element, each about as likely as any other.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn random<'l>(&self, log: &'l Log, rng: &mut fastrand::Rng) -> Record<'l> {
        let place = self.dash.random(rng).expect("a collection has elements");
        log.read(offset_of(self.dash.word(place)))
    }

    /// Goes on with a scan: hands out the records of one bucket and returns where to go on.
    pub(crate) fn scan<'l>(&self, log: &'l Log, cursor: Cursor, mut emit: impl FnMut(Record<'l>)) -> Cursor {
        self.dash.scan(cursor, |word, _| emit(log.read(offset_of(word))))
    }

    /// Goes on with a scan for a slice: adds the records of buckets to `slice` until that has `elements` or `bytes` or more. Returns
    /// where to go on, and what a copy of the records takes in the log at most, in bytes.
    pub(crate) fn slice(
        &self,
        log: &Log,
        mut cursor: Cursor,
        (elements, bytes): (usize, usize),
        slice: &mut Vec<PoolOffset>,
    ) -> (Cursor, usize) {
        let mut copy_bytes = 0;
        while slice.len() < elements && copy_bytes < bytes {
            let first = slice.len();
            cursor = self.dash.scan(cursor, |word, _| {
                log.prefetch(offset_of(word));
                slice.push(offset_of(word));
            });
            let records = slice[first..].iter().map(|offset| log.read(*offset));
            copy_bytes += records.map(|record| element_bytes_max(record.key(), record.value())).sum::<usize>();
            if cursor == Cursor::START {
                break;
            }
        }
        (cursor, copy_bytes)
    }

    /// Memory of table and records in bytes, judged by some of the records.
    pub(crate) fn memory_usage(&self, log: &Log) -> usize {
        let (mut sampled, mut bytes) = (0, 0);
        for record in self.records(log).take(SAMPLED) {
            (sampled, bytes) = (sampled + 1, bytes + record.bytes_on_medium());
        }
        self.bytes() + bytes * self.len() / sampled.max(1)
    }

    /// Sets a field to a value. Room for the record must have been made. Returns whether the field is new.
    pub(crate) fn put(&mut self, log: &mut Log, field: &[u8], value: &[u8]) -> bool {
        let value: &[&[u8]] = &[value];
        let parts = RecordParts { id: Some(self.id), ..RecordParts::new(Kind::Element, field, value) };
        let hashed = self.hashed(field);
        let Some(place) = self.find(log, hashed, field) else {
            let offset = log.append(&parts);
            self.insert(log, hashed, offset);
            return true;
        };
        let word = self.dash.word(place);
        if !log.overwrite(offset_of(word), &parts) {
            let offset = log.append(&parts);
            log.kill(offset_of(word));
            self.dash.set(place, word.with_offset(offset.raw()));
        }
        false
    }

    /// Adds copies of elements of another collection, but of those whose fields are here already. Room for them must have been made.
    pub(crate) fn add_copies(&mut self, log: &mut Log, sources: &[PoolOffset]) {
        for batch in sources.chunks(PREFETCHED) {
            for source in batch {
                self.locate(log.read(*source));
            }
            for source in batch {
                let field = log.read(*source).key();
                let hashed = self.hashed(field);
                if self.find(log, hashed, field).is_none() {
                    let offset = log.append_copy(*source, &Edit { id: Some(self.id), ..Edit::default() });
                    self.insert(log, hashed, offset);
                }
            }
        }
    }

    fn insert(&mut self, log: &Log, hashed: Hashed, offset: PoolOffset) {
        let seed = self.seed;
        let rehash = |word| KeyHash::of(seed, log.read(offset_of(word)).key());
        self.dash.insert(hashed, Word::new(offset.raw(), 0), rehash);
    }

    fn reload(&mut self, log: &Log) {
        let before = self.dash.clear();
        for (_, word) in before.iter() {
            let element = log.read(offset_of(word));
            assert_eq!(element.id(), Some(self.id), "an element is of its collection");
            self.insert(log, self.hashed(element.key()), offset_of(word));
        }
    }

    /// Takes a field out, with a tombstone where the log is replayed; room for that must have been made. Returns whether it was there.
    pub(crate) fn remove(&mut self, log: &mut Log, field: &[u8]) -> bool {
        let hashed = self.hashed(field);
        let Some(place) = self.find(log, hashed, field) else {
            return false;
        };
        log.delete(offset_of(self.dash.remove(place, hashed)));
        true
    }

    /// Where the entry of an element's record would be.
    pub(crate) fn locate(&self, element: Record<'_>) -> Located {
        self.dash.locate(self.hashed(element.key()))
    }

    /// Asks for the entry of what was located.
    pub(crate) fn prefetch_words(&self, at: Located) {
        self.dash.prefetch_words(at);
    }

    /// The entry that points at `offset`.
    pub(crate) fn place_of(&self, at: Located, offset: PoolOffset) -> Option<Place> {
        self.dash.find_at(at, |word| word.offset() == offset.raw())
    }

    /// The element at a place lies elsewhere now.
    pub(crate) fn moved(&mut self, place: Place, offset: PoolOffset) {
        let word = self.dash.word(place);
        self.dash.set(place, word.with_offset(offset.raw()));
    }
}

/// The large collections of a shard by their ids.
#[derive(Default)]
pub(crate) struct Collections {
    by_id: ById<Box<Elements>>,
    /// Memory of their tables in bytes.
    elements_bytes: usize,
    /// The checkpoint under way.
    cut: Option<Cut>,
}

impl Collections {
    /// A checkpoint begins: from now on each collection that there is is written into it as it is now, when its turn comes
    /// ([`Collections::image_slice`]) or before it changes. Returns all of them.
    pub(crate) fn begin_image(&mut self, cut: Cut) -> Vec<CollectionId> {
        self.cut = Some(cut);
        self.by_id.keys().copied().collect()
    }

    /// Writes up to `segments` of a collection's table. As [`Dash::image_slice`]; one that is not there any more has nothing to write.
    pub(crate) fn image_slice(&mut self, id: CollectionId, segments: usize, to: &mut CheckpointBlocks) -> usize {
        self.by_id.get_mut(&id).map_or(0, |elements| {
            begin_image_of(self.cut, elements);
            elements.dash.image_slice(segments, to)
        })
    }

    /// The checkpoint has all that it wants.
    pub(crate) fn end_image(&mut self) {
        self.cut = None;
    }

    /// The checkpoint is given up.
    pub(crate) fn give_up_image(&mut self) {
        self.cut = None;
        self.by_id.values_mut().for_each(|elements| elements.dash.end_image());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Memory of all tables in bytes. O(1).
    pub(crate) fn bytes(&self) -> usize {
        self.elements_bytes + self.by_id.capacity() * (size_of::<(CollectionId, Box<Elements>)>() + 1)
    }

    /// The elements of a collection that is there.
    #[inline]
    pub(crate) fn get(&self, id: CollectionId) -> &Elements {
        &self.by_id[&id]
    }

    /// The elements of a collection, if it is there.
    pub(crate) fn find(&self, id: CollectionId) -> Option<&Elements> {
        self.by_id.get(&id).map(|elements| &**elements)
    }

    /// Adds a collection without elements, under an id that was never used before.
    pub(crate) fn add(&mut self, id: CollectionId, seed: u64) {
        let elements = Elements::new(id, seed);
        self.elements_bytes += elements.bytes();
        let before = self.by_id.insert(id, Box::new(elements));
        assert!(before.is_none(), "an id is used once");
    }

    /// Lets `change` change a collection that is there.
    #[inline]
    pub(crate) fn change<T>(&mut self, id: CollectionId, change: impl FnOnce(&mut Elements) -> T) -> T {
        let elements = self.by_id.get_mut(&id).expect("a head has its collection");
        begin_image_of(self.cut, elements);
        let before = elements.bytes();
        let result = change(elements);
        self.elements_bytes = self.elements_bytes + elements.bytes() - before;
        result
    }

    /// Lets `change` change a collection, which is added without elements if it is not there.
    pub(crate) fn change_or_add(&mut self, id: CollectionId, seed: u64, change: impl FnOnce(&mut Elements)) {
        if self.find(id).is_none() {
            self.add(id, seed);
        }
        self.change(id, change);
    }

    /// The tables of all collections.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (CollectionId, &Dash)> {
        self.by_id.iter().map(|(id, elements)| (*id, &elements.dash))
    }

    /// Adds a collection with a table that was made of images.
    pub(crate) fn restore(&mut self, id: CollectionId, seed: u64, dash: Dash) {
        self.change_or_add(id, seed, |elements| elements.dash = dash);
    }

    /// Forgets the collections that are not to be kept; what is returned are their elements.
    pub(crate) fn retain(&mut self, keep: impl Fn(CollectionId) -> bool) -> Vec<Remains> {
        let gone: Vec<CollectionId> = self.by_id.keys().copied().filter(|id| !keep(*id)).collect();
        gone.into_iter().map(|id| self.remove(id)).collect()
    }

    /// Forgets a collection; what is returned are its elements, which are to be counted as dead.
    pub(crate) fn remove(&mut self, id: CollectionId) -> Remains {
        let mut elements = self.by_id.remove(&id).expect("a head has its collection");
        begin_image_of(self.cut, &mut elements);
        self.elements_bytes -= elements.bytes();
        elements.dash.into_remains()
    }

    /// Builds each table anew from the records that it points at.
    pub(crate) fn reload(&mut self, log: &Log) {
        let ids: Vec<CollectionId> = self.by_id.keys().copied().collect();
        for id in ids {
            self.change(id, |elements| elements.reload(log));
        }
    }

    /// Forgets all collections; nothing of them is alive.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The records of all elements of all collections, each checked to be found by its field: for tests and the scrub.
    pub(crate) fn offsets(&self, log: &Log) -> Vec<PoolOffset> {
        let mut offsets = Vec::new();
        let mut bytes = 0;
        for (id, elements) in &self.by_id {
            bytes += elements.bytes();
            for (place, word) in elements.dash.iter() {
                let record = log.read(offset_of(word));
                assert_eq!((record.kind(), record.id()), (Kind::Element, Some(*id)));
                assert_eq!(elements.find(log, elements.hashed(record.key()), record.key()), Some(place));
                offsets.push(offset_of(word));
            }
        }
        assert_eq!(bytes, self.elements_bytes, "memory of collections is counted");
        offsets
    }
}

/// Begins to write a collection into the checkpoint under way, unless that was done or it was not there at the cut.
#[inline]
fn begin_image_of(cut: Option<Cut>, elements: &mut Elements) {
    if let Some(cut) = cut
        && elements.id.raw() <= cut.ids
        && elements.dash.imaged_for() != cut.number
    {
        elements.dash.begin_image(cut.number, COLLECTIONS_FROM + elements.id.raw());
    }
}

impl Shard {
    /// A new collection without elements, and without a head.
    pub(crate) fn new_collection(&mut self) -> CollectionId {
        let id = self.new_id();
        self.collections.add(id, self.config.seed);
        id
    }

    /// Puts the head of a collection whose elements are written under a key, in place of `old`. Room for it must have been made.
    pub(crate) fn put_collection_head(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        form: Form,
        id: CollectionId,
        expiry: Option<UnixMs>,
    ) {
        let head = NewValue { form, kind: Kind::Head, tag: form.collection_tag(), expiry, id: Some(id), value: &[] };
        let offset = self.log.append(&self.parts(db, key, head));
        self.point(db, key, old, offset, form, expiry);
    }

    /// The elements of the collection are dead; the background will count them so.
    pub(crate) fn drop_elements(&mut self, id: CollectionId) {
        let remains = self.collections.remove(id);
        self.flushed.push(Dead::Table(remains));
    }
}

/// What an element takes in the log at most, in bytes.
#[inline]
pub(crate) fn element_bytes_max(field: &[u8], value: &[u8]) -> usize {
    record_bytes_max(field.len(), value.len())
}
