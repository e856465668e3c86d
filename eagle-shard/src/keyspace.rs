//! The keyspace: databases of keys, each key an index entry that points at a record.
//!
//! What handlers work with. [`Shard::find`] looks a key up and never shows an expired one; [`Found`] is what it gives: good until
//! the next call that changes the shard, so it is used at once or not at all. A record is written by `Shard::put` (the
//! value types' way), removed by [`Shard::remove`]; the index, the expiry bounds and the log's accounts follow.
//!
//! Records carry the number of a *space*, not of a database: `SWAPDB` lets two databases change their spaces, and no record is
//! touched. Space and database are the same until then.

use eagle_pmem::{CollectionId, Edit, Kind, PoolOffset, Record, RecordParts};

use crate::{
    call::{DbId, Key, UnixMs},
    dash::{Dash, Hashed, KeyHash, Place, Word},
    error::Error,
    heat::{self, Measure},
    shard::Shard,
    value::{Form, ValueType, collection_of},
};

/// The keys of one database.
pub(crate) struct Database {
    pub(crate) dash: Dash,
    /// What its records carry as their database.
    pub(crate) space: u16,
    /// Keys with an expiry.
    pub(crate) expires: usize,
    /// The record of its last flush, where the log is replayed.
    pub(crate) flush_mark: Option<PoolOffset>,
}

impl Database {
    pub(crate) fn new(space: u16) -> Self {
        Self { dash: Dash::new(), space, expires: 0, flush_mark: None }
    }
}

/// A key that is there. Good until the next call that changes the shard.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub(crate) place: Place,
    pub(crate) word: Word,
}

impl Found {
    /// Where its record lies.
    #[inline]
    pub(crate) fn offset(self) -> PoolOffset {
        offset_of(self.word)
    }

    #[inline]
    pub(crate) fn form(self) -> Form {
        Form::of_tag(self.word.tag())
    }
}

/// Where the record of an entry lies.
#[inline]
pub(crate) fn offset_of(word: Word) -> PoolOffset {
    PoolOffset::from_raw(word.offset())
}

/// Whether two keys are the same: inline for those of 8 to 32 bytes, which most are.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(last), Some(other_last)) if one.len() <= 32 => {
            let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
            last == other_last && words.into_iter().all(|(word, other)| word == other)
        }
        _ => one == other,
    }
}

/// A value to be put under a key, as its record will have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewValue<'a> {
    pub(crate) form: Form,
    pub(crate) kind: Kind,
    /// The record's tag: encoding of the value.
    pub(crate) tag: u8,
    pub(crate) expiry: Option<UnixMs>,
    /// What the record is the head of, or the base of patches under.
    pub(crate) id: Option<CollectionId>,
    pub(crate) value: &'a [&'a [u8]],
}

impl Shard {
    /// The key, if it is there and has not expired. An expired one is removed and counted, unless the [`Manner`](crate::shard::Manner) keeps it.
    #[inline]
    pub fn find(&mut self, db: DbId, key: Key<'_>, now: UnixMs) -> Option<Found> {
        let found = self.peek(db, key)?;
        if found.word.has_expiry() && self.has_expired(found, now) {
            if self.manner.removes {
                self.expire(db, key.hashed, found);
            }
            return None;
        }
        Some(found)
    }

    /// As [`Shard::find`], for a command that shows the value: counts a hit or a miss, and the key as used.
    #[inline]
    pub fn find_read(&mut self, db: DbId, key: Key<'_>, now: UnixMs) -> Option<Found> {
        let Some(found) = self.find(db, key, now) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        Some(self.touch(db, found, now))
    }

    /// Whether the key is there and has not expired.
    #[inline]
    pub fn exists(&mut self, db: DbId, key: Key<'_>, now: UnixMs) -> bool {
        self.find(db, key, now).is_some()
    }

    /// Notes that the key is used now.
    #[inline]
    pub fn touch(&mut self, db: DbId, found: Found, now: UnixMs) -> Found {
        if !self.manner.touches {
            return found;
        }
        let heat = self.evictor.measure().used(found.word.heat(), now, &mut self.rng);
        if found.word.heat() == heat {
            return found;
        }
        let word = found.word.with_heat(heat);
        self.databases[usize::from(db.0)].dash.set_heat(found.place, word);
        Found { word, ..found }
    }

    /// Where the key's record lies in the log, for `DEBUG OBJECT`.
    #[must_use]
    pub fn place(&self, found: Found) -> u64 {
        found.offset().raw()
    }

    /// Bytes that the value would take in a snapshot of Redis, uncompressed, for `DEBUG OBJECT`; of what is no string, the
    /// memory that it takes here.
    #[must_use]
    pub fn serialized_bytes(&self, found: Found) -> usize {
        let Ok(string) = self.string(found) else {
            return self.memory_usage(found);
        };
        // An integer that fits is a byte that says how wide it is, and itself; a string has its length in front.
        match string.integer() {
            Some(-128..=127) => 2,
            Some(-32_768..=32_767) => 3,
            Some(-2_147_483_648..=2_147_483_647) => 5,
            _ => match string.len() {
                len @ ..64 => 1 + len,
                len @ ..16_384 => 2 + len,
                len => 5 + len,
            },
        }
    }

    /// The key's record.
    #[inline]
    #[must_use]
    pub fn record(&self, found: Found) -> Record<'_> {
        self.log.read(found.offset())
    }

    /// What the key holds.
    #[inline]
    #[must_use]
    pub fn value_type(&self, found: Found) -> ValueType {
        found.form().value_type()
    }

    /// When the key expires.
    #[inline]
    #[must_use]
    pub fn expiry(&self, found: Found) -> Option<UnixMs> {
        if found.word.has_expiry() { self.record(found).expiry().map(UnixMs) } else { None }
    }

    /// Time since the key was last used, in milliseconds: whole seconds for two minutes, then in ever larger steps, an eighth of the
    /// time at most, up to [`crate::IDLE_SECONDS_MAX`]. `None` while it is counted how often keys are used instead.
    #[must_use]
    pub fn idle_ms(&self, found: Found, now: UnixMs) -> Option<u64> {
        match self.evictor.measure() {
            Measure::Recency => Some(heat::idle_seconds(found.word.heat(), now) * 1000),
            Measure::Frequency { .. } => None,
        }
    }

    /// How often the key was used, on Redis' logarithmic scale; `None` while it is noted when keys are used instead.
    #[must_use]
    pub fn frequency(&self, found: Found, now: UnixMs) -> Option<u8> {
        match self.evictor.measure() {
            Measure::Recency => None,
            Measure::Frequency { decay_minutes, .. } => Some(heat::decayed(found.word.heat(), now, decay_minutes)),
        }
    }

    /// Memory that the key takes, in bytes: records with what belongs to them, and its share of the index. Of a large collection some
    /// elements are read and the others taken for like them.
    #[must_use]
    pub fn memory_usage(&self, found: Found) -> usize {
        let entry = size_of::<Word>() + size_of::<u8>();
        let record = self.record(found);
        let beside = match (found.form(), collection_of(record)) {
            (Form::String, _) => 0,
            (Form::LargeString, _) => self.large.memory_usage(&self.log, record),
            (Form::Hash, Some(id)) => self.collections.get(id).memory_usage(&self.log),
            (Form::Hash, None) => self.patch_bytes(found),
        };
        entry + record.bytes_on_medium() + beside
    }

    /// How many keys the database has; expired ones count until they are removed.
    #[must_use]
    pub fn len(&self, db: DbId) -> usize {
        self.databases[usize::from(db.0)].dash.len()
    }

    /// How many keys of the database have an expiry.
    #[must_use]
    pub fn expires(&self, db: DbId) -> usize {
        self.databases[usize::from(db.0)].expires
    }

    /// Whether no database has a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.iter().all(|database| database.dash.is_empty())
    }

    /// Removes the key.
    pub fn remove(&mut self, db: DbId, key: Key<'_>, found: Found) {
        self.unlink(db, key.hashed, found);
        self.bury(found);
    }

    /// Gives the key another expiry, or none.
    ///
    /// # Errors
    /// Out of memory: the record has to be written anew, and there is no room.
    ///
    /// # Panics
    /// If the expiry exceeds 48 bits.
    pub fn set_expiry(&mut self, db: DbId, key: Key<'_>, found: Found, expiry: Option<UnixMs>) -> Result<(), Error> {
        if expiry.is_none() && !found.word.has_expiry() {
            return Ok(());
        }
        if let Some(at) = expiry
            && self.log.set_expiry(found.offset(), at.0)
        {
            self.databases[usize::from(db.0)].dash.note_expiry(found.place, at.0);
            return Ok(());
        }
        if self.takes_patches(found) {
            return self.put_folded(found, (db, key), Some(found), expiry);
        }
        let record = self.record(found);
        let bytes = eagle_pmem::layout::record_bytes_max(record.key().len(), record.value().len());
        let found = if self.make_privileged_room(bytes)? { self.find_again(db, key) } else { found };
        let edit = Edit { expiry: Some(expiry.map(|at| at.0)), ..Edit::default() };
        let offset = self.log.append_copy(found.offset(), &edit);
        self.log.kill(found.offset());
        self.repoint(db, found, found.word.with_offset(offset.raw()), expiry);
        Ok(())
    }

    /// Lets an entry point at a copy of its record.
    #[inline]
    pub(crate) fn replace_offset(&mut self, db: DbId, found: Found, offset: PoolOffset) {
        self.databases[usize::from(db.0)].dash.set(found.place, found.word.with_offset(offset.raw()));
    }

    /// The key's entry, expired or not.
    #[inline]
    pub(crate) fn peek(&self, db: DbId, key: Key<'_>) -> Option<Found> {
        let dash = &self.databases[usize::from(db.0)].dash;
        let place = dash.find(key.hashed, |word| is_same(self.log.read(offset_of(word)).key(), key.bytes))?;
        Some(Found { place, word: dash.word(place) })
    }

    /// The key's entry after something may have moved it.
    #[cold]
    pub(crate) fn find_again(&self, db: DbId, key: Key<'_>) -> Found {
        self.peek(db, key).expect("making room removes no key")
    }

    /// Puts a value under a key, in place of `old` if that is not `None`. `old` must be what is there now.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    #[inline]
    pub(crate) fn put(&mut self, db: DbId, key: Key<'_>, old: Option<Found>, new: NewValue<'_>) -> Result<(), Error> {
        self.put_in_room(db, key, old, new, Self::make_room)
    }

    /// As [`Shard::put`], for a value that takes no more room than the old one: it may take from the reserve.
    ///
    /// # Errors
    /// Out of memory even so. Nothing was changed.
    pub(crate) fn put_privileged(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        new: NewValue<'_>,
    ) -> Result<(), Error> {
        self.put_in_room(db, key, old, new, Self::make_privileged_room)
    }

    #[inline]
    fn put_in_room(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        new: NewValue<'_>,
        make_room: impl FnOnce(&mut Self, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let parts = self.parts(db, key, new);
        if let Some(found) = old
            && self.is_one_record(found)
            && self.log.overwrite(found.offset(), &parts)
        {
            self.repoint(db, found, found.word.with_tag(new.form.tag()), new.expiry);
            return Ok(());
        }
        let moved = make_room(self, parts.bytes())?;
        let old = if moved { old.map(|_| self.find_again(db, key)) } else { old };
        let offset = self.log.append(&parts);
        self.point(db, key, old, offset, new.form, new.expiry);
        Ok(())
    }

    /// The record of a value.
    #[inline]
    pub(crate) fn parts<'a>(&self, db: DbId, key: Key<'a>, new: NewValue<'a>) -> RecordParts<'a> {
        RecordParts {
            kind: new.kind,
            tag: new.tag,
            db: self.databases[usize::from(db.0)].space,
            expiry: new.expiry.map(|at| at.0),
            id: new.id,
            key: key.bytes,
            value: new.value,
        }
    }

    /// Lets the key's entry point at a record just appended; what `old` points at is dead.
    #[inline]
    pub(crate) fn point(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        offset: PoolOffset,
        form: Form,
        expiry: Option<UnixMs>,
    ) {
        let word = Word::new(offset.raw(), form.tag());
        if let Some(found) = old {
            self.supersede(found);
            self.repoint(db, found, word, expiry);
            return;
        }
        let word = word.with_heat(self.evictor.measure().fresh(self.now)).with_expiry(expiry.is_some());
        let (log, seed) = (&self.log, self.config.seed);
        let rehash = |word: Word| KeyHash::of(seed, log.read(offset_of(word)).key());
        let database = &mut self.databases[usize::from(db.0)];
        let place = database.dash.insert(key.hashed, word, rehash);
        if let Some(at) = expiry {
            database.expires += 1;
            database.dash.note_expiry(place, at.0);
        }
    }

    /// Gives an entry another word, used now, with this expiry.
    #[inline]
    fn repoint(&mut self, db: DbId, found: Found, word: Word, expiry: Option<UnixMs>) {
        let measure = self.evictor.measure();
        let used = self.manner.touches;
        let heat = if used { measure.used(found.word.heat(), self.now, &mut self.rng) } else { found.word.heat() };
        let word = word.with_heat(heat).with_expiry(expiry.is_some());
        if word == found.word && expiry.is_none() {
            return;
        }
        let database = &mut self.databases[usize::from(db.0)];
        database.dash.set(found.place, word);
        database.expires += usize::from(expiry.is_some());
        database.expires -= usize::from(found.word.has_expiry());
        if let Some(at) = expiry {
            database.dash.note_expiry(found.place, at.0);
        }
    }

    /// Takes the key's entry out of the index.
    pub(crate) fn unlink(&mut self, db: DbId, hashed: Hashed, found: Found) {
        let database = &mut self.databases[usize::from(db.0)];
        let word = database.dash.remove(found.place, hashed);
        debug_assert_eq!(word.offset(), found.word.offset(), "a place was used after a change");
        database.expires -= usize::from(found.word.has_expiry());
    }

    /// What was found is dead, and nothing takes its place.
    pub(crate) fn bury(&mut self, found: Found) {
        self.disown(found.form(), found.offset());
        let room = self.log.reserve_privileged(self.log.delete_bytes(found.offset()));
        room.expect("room for tombstones was made before the command began");
        self.log.delete(found.offset());
    }

    /// What was found is dead: a record appended since took its place.
    #[inline]
    fn supersede(&mut self, found: Found) {
        self.disown(found.form(), found.offset());
        self.log.kill(found.offset());
    }

    /// What belongs to a value beside its record is dead.
    #[inline]
    pub(crate) fn disown(&mut self, form: Form, record: PoolOffset) {
        match form {
            Form::String => {}
            Form::LargeString => self.drop_large(record),
            Form::Hash => match collection_of(self.log.read(record)) {
                Some(id) => self.drop_elements(id),
                None => self.drop_patch(record),
            },
        }
    }

    /// Whether a value is its record and nothing else.
    #[inline]
    fn is_one_record(&self, found: Found) -> bool {
        match found.form() {
            Form::String => true,
            Form::LargeString => false,
            Form::Hash => self.record(found).id().is_none(),
        }
    }

    #[inline]
    pub(crate) fn has_expired(&self, found: Found, now: UnixMs) -> bool {
        self.record(found).expiry().is_some_and(|at| at <= now.0)
    }

    /// Removes a key whose time has come.
    #[cold]
    pub(crate) fn expire(&mut self, db: DbId, hashed: Hashed, found: Found) {
        self.stats.expired += 1;
        self.unlink(db, hashed, found);
        self.bury(found);
    }
}
