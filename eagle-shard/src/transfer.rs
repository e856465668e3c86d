//! Transfer: a key's value under another key or in another database of the same shard.
//!
//! A record is copied by the log; what belongs to it beside (chunks, elements) stays where it is if the value only moves, and is
//! copied under a new id otherwise; a packed collection with a patch is folded. To another shard values are carried as bytes: [`crate::carry`].
//!
//! A large collection is copied in slices of some [`SLICE_ELEMENTS`] elements, between which the core does other work while the keys are
//! held; until the last of them the copy is an arrival that nobody sees.

use eagle_pmem::{CollectionId, Edit, Kind, layout::record_bytes_max};

use crate::{
    ExportCursor,
    call::{DbId, Key, UnixMs},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
    value::{Form, collection_of, large::HEAD_BYTES},
};

/// Elements of a collection that are copied in one go, one bucket more at most: some 100 us.
const SLICE_ELEMENTS: usize = 256;
/// Bytes of them, above which a slice ends with the bucket.
const SLICE_BYTES: usize = 64 << 10;

/// What became of a copy, or of a slice of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Nothing: there is no source (any more), or something is in its place and not to be replaced.
    Nothing,
    /// All of the source is copied.
    Whole,
    /// The next slice begins here.
    Until(ExportCursor),
}

impl Shard {
    /// Moves a value to another key or database, with its expiry, in place of what is there: `RENAME`, `MOVE`. `found` is the
    /// source.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    ///
    /// # Panics
    /// If source and destination are the same.
    pub fn move_key(&mut self, from: (DbId, Key<'_>), found: Found, to: (DbId, Key<'_>)) -> Result<(), Error> {
        assert!(from.0 != to.0 || from.1.bytes != to.1.bytes, "a key cannot move onto itself");
        let value_len = self.record(found).value().len() + self.patch_bytes(found);
        let bytes = record_bytes_max(to.1.bytes.len(), value_len) + self.log.delete_bytes(found.offset());
        let found = if self.make_room(bytes)? { self.find_again(from.0, from.1) } else { found };
        let expiry = self.expiry(found);
        self.unlink(from.0, from.1.hashed, found);
        self.log.begin_group(bytes);
        let offset = if self.takes_patches(found) {
            self.append_folded(found, to, expiry)
        } else {
            let space = self.databases[usize::from(to.0.0)].space;
            let edit = Edit { key: Some(to.1.bytes), db: Some(space), ..Edit::default() };
            self.log.append_copy(found.offset(), &edit)
        };
        let old = self.peek(to.0, to.1);
        self.point(to.0, to.1, old, offset, found.form(), expiry);
        self.log.delete(found.offset());
        self.log.end_group();
        Ok(())
    }

    /// Copies a value to another key or database, with its expiry, in place of what is there: `COPY`. `found` is the source.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    ///
    /// # Panics
    /// If source and destination are the same.
    pub fn copy_key(&mut self, from: (DbId, Key<'_>), found: Found, to: (DbId, Key<'_>)) -> Result<(), Error> {
        assert!(from.0 != to.0 || from.1.bytes != to.1.bytes, "a key cannot be copied onto itself");
        let record = self.record(found);
        let bytes = match (found.form(), collection_of(record)) {
            (Form::LargeString, _) => self.copy_bytes(found.offset(), to.1.bytes.len()),
            (_, Some(id)) => return self.copy_collection(found, to, id),
            (Form::Hash, None) if record.id().is_some() => {
                let (old, expiry) = (self.peek(to.0, to.1), self.expiry(found));
                return self.put_folded(found, to, old, expiry);
            }
            (_, None) => record_bytes_max(to.1.bytes.len(), record.value().len()),
        };
        let found = if self.make_room(bytes)? { self.find_again(from.0, from.1) } else { found };
        let expiry = self.expiry(found);
        self.log.begin_group(bytes);
        let offset = match found.form() {
            Form::String | Form::Hash => {
                let space = self.databases[usize::from(to.0.0)].space;
                let edit = Edit { key: Some(to.1.bytes), db: Some(space), ..Edit::default() };
                self.log.append_copy(found.offset(), &edit)
            }
            Form::LargeString => {
                let id = self.copy_chunks(found.offset());
                let record = self.record(found);
                let (tag, head) = (record.tag(), <[u8; HEAD_BYTES]>::try_from(record.value()).expect("a head's bytes"));
                let (form, kind) = (Form::LargeString, Kind::Head);
                let new = NewValue { form, kind, tag, expiry, id: Some(id), value: &[&head] };
                self.log.append(&self.parts(to.0, to.1, new))
            }
        };
        let old = self.peek(to.0, to.1);
        self.point(to.0, to.1, old, offset, found.form(), expiry);
        self.log.end_group();
        Ok(())
    }

    /// Copies a large collection: its elements under a new id, then a head.
    fn copy_collection(&mut self, found: Found, to: (DbId, Key<'_>), source: CollectionId) -> Result<(), Error> {
        let (form, expiry) = (found.form(), self.expiry(found));
        let mut next = Some(ExportCursor::START);
        while let Some(cursor) = next {
            next = self.copy_elements(source, (form, expiry), to, cursor)?;
        }
        Ok(())
    }

    /// Whether a copy of this key's value takes more than one slice.
    #[must_use]
    pub fn is_copied_in_slices(&self, db: DbId, key: Key<'_>) -> bool {
        let collection = self.peek(db, key).and_then(|found| collection_of(self.record(found)));
        collection.is_some_and(|id| self.collections.get(id).len() > SLICE_ELEMENTS)
    }

    /// Copies a value to another key or database, with its expiry, as [`Shard::copy_key`] but the slice at `cursor` only: the first is
    /// at [`ExportCursor::START`]. The keys must be held until the last.
    ///
    /// # Errors
    /// Out of memory. Slices that were copied before are abandoned.
    ///
    /// # Panics
    /// If source and destination are the same.
    pub fn copy_slice(
        &mut self,
        from: (DbId, Key<'_>),
        to: (DbId, Key<'_>),
        replace: bool,
        cursor: ExportCursor,
        now: UnixMs,
    ) -> Result<Copied, Error> {
        assert!(from.0 != to.0 || from.1.bytes != to.1.bytes, "a key cannot be copied onto itself");
        let is_first = cursor == ExportCursor::START;
        let is_free = replace || !self.exists(to.0, to.1, now);
        let found = if is_first { self.find_read(from.0, from.1, now) } else { self.find(from.0, from.1, now) };
        let Some(found) = found.filter(|_| is_free) else {
            self.abandon(to.0, to.1);
            return Ok(Copied::Nothing);
        };
        let source = collection_of(self.record(found));
        if !is_first && (source.is_none() || self.arrival(to.0, to.1, source).is_none()) {
            // The source went, and another came to its key: databases were swapped.
            self.abandon(to.0, to.1);
            return Ok(Copied::Nothing);
        }
        let Some(source) = source else {
            return self.copy_key(from, found, to).map(|()| Copied::Whole);
        };
        let next = self.copy_elements(source, (found.form(), self.expiry(found)), to, cursor)?;
        Ok(next.map_or(Copied::Whole, Copied::Until))
    }

    /// Copies the elements of the slice at `cursor`, and behind the last writes the head. Returns where the next slice begins.
    fn copy_elements(
        &mut self,
        source: CollectionId,
        (form, expiry): (Form, Option<UnixMs>),
        to: (DbId, Key<'_>),
        cursor: ExportCursor,
    ) -> Result<Option<ExportCursor>, Error> {
        if cursor == ExportCursor::START {
            self.begin_arrival(to.0, to.1, Some(source));
        }
        let mut slice = Vec::with_capacity(2 * SLICE_ELEMENTS);
        let most = (SLICE_ELEMENTS, SLICE_BYTES);
        let (_, bytes) = self.collections.get(source).slice(&self.log, cursor.cursor(), most, &mut slice);
        let room = self.make_room(bytes + record_bytes_max(to.1.bytes.len(), 0));
        if room.is_err() {
            self.abandon(to.0, to.1);
        }
        room?;
        // Records may have moved.
        slice.clear();
        let (next, _) = self.collections.get(source).slice(&self.log, cursor.cursor(), most, &mut slice);
        let id = self.arrival(to.0, to.1, Some(source)).expect("its first slice was copied before");
        let log = &mut self.log;
        self.collections.change(id, |copy| copy.add_copies(log, &slice));
        let next = ExportCursor::behind(next);
        if next.is_none() {
            self.end_arrival(to.0, to.1, form, expiry);
        }
        Ok(next)
    }
}
