//! Transfer: a key's value under another key or in another database of the same shard.
//!
//! A record is copied by the log; what belongs to it beside (chunks, elements) stays where it is if the value only moves, and is
//! copied under a new id otherwise. To another shard values are carried as bytes: [`crate::carry`].

use eagle_pmem::{CollectionId, Edit, layout::record_bytes_max};

use crate::{
    call::{DbId, Key},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
    value::{Form, large::HEAD_BYTES},
};

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
        let record = self.record(found);
        let bytes = record_bytes_max(to.1.bytes.len(), record.value().len()) + self.log.delete_bytes(found.offset());
        let found = if self.make_room(bytes)? { self.find_again(from.0, from.1) } else { found };
        let expiry = self.expiry(found);
        self.unlink(from.0, from.1.hashed, found);
        self.log.begin_group(bytes);
        let space = self.databases[usize::from(to.0.0)].space;
        let edit = Edit { key: Some(to.1.bytes), db: Some(space), ..Edit::default() };
        let offset = self.log.append_copy(found.offset(), &edit);
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
        let bytes = match (found.form(), record.id()) {
            (Form::LargeString, _) => self.copy_bytes(found.offset(), to.1.bytes.len()),
            (_, Some(id)) => return self.copy_collection(found, to, id),
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
                let new = NewValue { form: Form::LargeString, tag, expiry, id: Some(id), value: &[&head] };
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
        let bytes = self.collections.get(source).copy_bytes_max(&self.log) + record_bytes_max(to.1.bytes.len(), 0);
        self.make_room(bytes)?;
        let id = self.new_id();
        self.collections.copy(&mut self.log, source, id, self.config.seed);
        let old = self.peek(to.0, to.1);
        self.put_collection_head(to.0, to.1, old, form, id, expiry);
        Ok(())
    }
}
