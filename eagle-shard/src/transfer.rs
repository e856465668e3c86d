//! Transfer: a key's value under another key, in another database, on another shard.
//!
//! Within a shard a record is copied by the log, and a large string that only moves keeps its chunks. To another shard a value goes as
//! bytes:
//!
//! ```text
//!  0      1          2          10
//!  ├──────┼──────────┼──────────┼──────────┤
//!  │ form │ encoding │ expiry   │ value    │    expiry: unix milliseconds, all ones for none
//!  └──────┴──────────┴──────────┴──────────┘
//! ```

use eagle_pmem::{Edit, layout::record_bytes_max};

use crate::{
    call::{DbId, Key, UnixMs},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
    value::{Encoding, Form},
};

/// Bytes before the value.
const HEADER_BYTES: usize = 10;
/// The expiry of a value that does not expire.
const NO_EXPIRY: u64 = u64::MAX;

/// A value with its expiry, on its way to another shard of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported(Vec<u8>);

impl Exported {
    /// Takes over bytes of [`Exported::as_bytes`]; `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let is_one = bytes.len() >= HEADER_BYTES && bytes[0] == 0 && Encoding::from_byte(bytes[1]).is_some();
        is_one.then_some(Self(bytes))
    }

    /// The bytes to be carried.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
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
        let bytes = match found.form() {
            Form::String => record_bytes_max(to.1.bytes.len(), record.value().len()),
            Form::LargeString => self.copy_bytes(found.offset(), to.1.bytes.len()),
        };
        let found = if self.make_room(bytes)? { self.find_again(from.0, from.1) } else { found };
        let expiry = self.expiry(found);
        self.log.begin_group(bytes);
        let offset = match found.form() {
            Form::String => {
                let space = self.databases[usize::from(to.0.0)].space;
                let edit = Edit { key: Some(to.1.bytes), db: Some(space), ..Edit::default() };
                self.log.append_copy(found.offset(), &edit)
            }
            Form::LargeString => {
                let id = self.copy_chunks(found.offset());
                let record = self.record(found);
                let (tag, len) = (record.tag(), <[u8; 8]>::try_from(record.value()).expect("a head is 8 bytes"));
                let new = NewValue { form: Form::LargeString, tag, expiry, id: Some(id), value: &[&len] };
                self.log.append(&self.parts(to.0, to.1, new))
            }
        };
        let old = self.peek(to.0, to.1);
        self.point(to.0, to.1, old, offset, found.form(), expiry);
        self.log.end_group();
        Ok(())
    }

    /// A key's value and expiry, to be carried to another shard.
    #[must_use]
    pub fn export(&self, found: Found) -> Exported {
        let string = self.string(found).expect("strings are all there is");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + string.len());
        bytes.push(Form::String.tag());
        bytes.push(self.encoding(found) as u8);
        bytes.extend_from_slice(&self.expiry(found).map_or(NO_EXPIRY, |at| at.0).to_le_bytes());
        string.for_each(|piece| bytes.extend_from_slice(piece));
        Exported(bytes)
    }

    /// Puts what another shard exported under a key. Returns false, and changes nothing, if the key is there and not to be replaced.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    pub fn import(
        &mut self,
        db: DbId,
        key: Key<'_>,
        exported: &Exported,
        replace: bool,
        now: UnixMs,
    ) -> Result<bool, Error> {
        let old = self.find(db, key, now);
        if old.is_some() && !replace {
            return Ok(false);
        }
        let (header, value) = exported.0.split_at(HEADER_BYTES);
        let encoding = Encoding::from_byte(header[1]).expect("checked when it was taken over");
        let expiry = u64::from_le_bytes(header[2..].try_into().expect("8 bytes"));
        let expiry = (expiry != NO_EXPIRY).then_some(UnixMs(expiry));
        self.put_string(db, key, old, value, expiry, encoding)?;
        Ok(true)
    }
}
