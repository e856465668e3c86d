//! Carrying: a key's value goes to another shard of the node, as bytes and in slices.
//!
//! ```text
//!  0      1          2        10       18
//!  ├──────┼──────────┼────────┼────────┼──────┤
//!  │ form │ encoding │ expiry │ cursor │ body │    expiry: unix milliseconds, all ones for none
//!  └──────┴──────────┴────────┴────────┴──────┘    cursor: where the next slice begins, 0 behind the last
//! ```
//!
//! What `encoding` and `body` are depends on the form: of a string, its encoding and its bytes; of a packed collection, 0 and its items
//! as they lie; of a large one, [`FIRST`] or [`FURTHER`] and elements, each field and value behind its length. Only large collections
//! take more than one slice, each of some [`SLICE_ELEMENTS`] elements, which cost either shard less than a millisecond.
//!
//! Slices that came collect in a collection without a head, an *arrival*, that nobody sees; the last slice gives it one. Both keys
//! are held meanwhile, so nothing changes under the cursor. If the source goes all the same (a flush, its expiry), the
//! arrival is abandoned. A copy within the shard arrives in slices too: [`crate::transfer`].

use eagle_pmem::{CollectionId, layout::record_bytes_max};

use crate::{
    call::{DbId, Key, UnixMs},
    dash::Cursor,
    error::Error,
    flush::Dead,
    keyspace::{Found, offset_of},
    shard::Shard,
    value::{
        Encoding, Form, collection_of,
        elements::{Elements, element_bytes_max},
        hash::Pair,
        packed::Packed,
        patch::Patched,
    },
};

/// Bytes before the body.
const HEADER_BYTES: usize = 18;
const ENCODING_AT: usize = 1;
const EXPIRY_AT: usize = 2;
const CURSOR_AT: usize = 10;

/// The expiry of a value that does not expire.
const NO_EXPIRY: u64 = u64::MAX;

/// The encoding of a packed collection.
const PACKED: u8 = 0;
/// The encoding of the first slice of a large collection.
const FIRST: u8 = 1;
/// The encoding of any other.
const FURTHER: u8 = 2;

/// Elements in a slice: one bucket more at most.
const SLICE_ELEMENTS: usize = 1024;
/// Bytes in a slice, above which it ends with the bucket.
const SLICE_BYTES: usize = 128 << 10;

/// A value with its expiry, or a slice of it, on its way to another shard of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported(Vec<u8>);

/// Where a large value that is exported goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportCursor(Cursor);

impl ExportCursor {
    /// The beginning.
    pub const START: Self = Self(Cursor::START);

    /// From its number, or `None` if no export gave it.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Self> {
        Cursor::from_raw(raw).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn raw(self) -> u64 {
        self.0.raw()
    }

    /// Where that is in the table of elements.
    pub(crate) fn cursor(self) -> Cursor {
        self.0
    }

    /// The slice behind the one that ended at `cursor`; `None` at the end.
    pub(crate) fn behind(cursor: Cursor) -> Option<Self> {
        (cursor != Cursor::START).then_some(Self(cursor))
    }
}

impl Exported {
    fn new(form: Form, encoding: u8, expiry: Option<UnixMs>) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0] = form.tag();
        bytes[ENCODING_AT] = encoding;
        bytes[EXPIRY_AT..CURSOR_AT].copy_from_slice(&expiry.map_or(NO_EXPIRY, |at| at.0).to_le_bytes());
        Self(bytes)
    }

    /// Takes over bytes of [`Exported::as_bytes`]; `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (form, encoding) = (bytes.get(..HEADER_BYTES)?[0], bytes[ENCODING_AT]);
        let is_one = match form {
            _ if form == Form::String.tag() => Encoding::from_byte(encoding).is_some(),
            _ => form == Form::Hash.tag() && encoding <= FURTHER,
        };
        is_one.then_some(Self(bytes))
    }

    /// The bytes to be carried.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the slice behind this one begins, which is in the bytes of [`Exported::as_bytes`]; `None` if it is the last.
    ///
    /// # Panics
    /// If the bytes are none of those.
    #[must_use]
    pub fn next_slice(bytes: &[u8]) -> Option<ExportCursor> {
        let cursor = number(bytes, CURSOR_AT);
        (cursor != 0).then(|| ExportCursor::from_raw(cursor).expect("an export gave it"))
    }

    fn set_next(&mut self, cursor: Cursor) {
        self.0[CURSOR_AT..HEADER_BYTES].copy_from_slice(&cursor.raw().to_le_bytes());
    }

    fn form(&self) -> Form {
        Form::of_tag(self.0[0])
    }

    fn encoding(&self) -> u8 {
        self.0[ENCODING_AT]
    }

    fn expiry(&self) -> Option<UnixMs> {
        let expiry = number(&self.0, EXPIRY_AT);
        (expiry != NO_EXPIRY).then_some(UnixMs(expiry))
    }

    fn body(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }

    fn push(&mut self, part: &[u8]) {
        let len = u32::try_from(part.len()).expect("a record's parts are below 1 GiB");
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(part);
    }

    /// The elements of a slice of a large collection.
    fn elements(&self) -> impl Iterator<Item = Pair<'_>> + Clone {
        let mut rest = self.body();
        let mut part = move || {
            let (len, behind) = rest.split_first_chunk()?;
            let (part, behind) = behind.split_at(u32::from_le_bytes(*len) as usize);
            rest = behind;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// A large collection that has not arrived whole: under which key it will be.
#[derive(Debug)]
pub(crate) struct Arrival {
    db: DbId,
    key: Box<[u8]>,
    id: CollectionId,
    /// Of this shard's collections the one that it is a copy of.
    source: Option<CollectionId>,
}

impl Shard {
    /// Hands out every key of a database, expired ones too, until `each` fails.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn try_for_each_key<E>(&self, db: DbId, mut each: impl FnMut(&[u8], Found) -> Result<(), E>) -> Result<(), E> {
        for (place, word) in self.databases[usize::from(db.0)].dash.iter() {
            each(self.log.read(offset_of(word)).key(), Found { place, word })?;
        }
        Ok(())
    }

    /// A key's value and expiry from `cursor` on, to be carried to another shard.
    #[must_use]
    pub fn export(&self, found: Found, cursor: ExportCursor) -> Exported {
        let (form, expiry) = (found.form(), self.expiry(found));
        let record = self.record(found);
        match form {
            Form::String | Form::LargeString => {
                let mut exported = Exported::new(Form::String, self.encoding(found) as u8, expiry);
                let string = self.string(found).expect("its form is that of a string");
                exported.0.reserve_exact(string.len());
                string.for_each(|piece| exported.0.extend_from_slice(piece));
                exported
            }
            Form::Hash => match collection_of(record) {
                None => {
                    let mut exported = Exported::new(form, PACKED, expiry);
                    let packed = Packed::new(record.value());
                    match self.patches.get(&self.log, record) {
                        Some(patch) => Patched::new(packed, patch.value()).write(&mut exported.0),
                        None => packed.write(&mut exported.0),
                    }
                    exported
                }
                Some(id) => self.export_slice(form, self.collections.get(id), expiry, cursor),
            },
        }
    }

    fn export_slice(&self, form: Form, elements: &Elements, expiry: Option<UnixMs>, cursor: ExportCursor) -> Exported {
        let encoding = if cursor == ExportCursor::START { FIRST } else { FURTHER };
        let mut exported = Exported::new(form, encoding, expiry);
        let (mut cursor, mut count) = (cursor.0, 0);
        while count < SLICE_ELEMENTS && exported.0.len() < SLICE_BYTES {
            cursor = elements.scan(&self.log, cursor, |record| {
                exported.push(record.key());
                exported.push(record.value());
                count += 1;
            });
            if cursor == Cursor::START {
                break;
            }
        }
        exported.set_next(cursor);
        exported
    }

    /// Puts what another shard exported under a key; a large collection is seen when its last slice has come. Returns false, and
    /// changes nothing, if the key is there and not to be replaced.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed, and slices that came before are abandoned.
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
        let expiry = exported.expiry();
        match (exported.form(), exported.encoding()) {
            (Form::String | Form::LargeString, encoding) => {
                let encoding = Encoding::from_byte(encoding).expect("checked when it was taken over");
                self.put_string(db, key, old, exported.body(), expiry, encoding)?;
            }
            (form, PACKED) => {
                let mut packing = std::mem::take(&mut self.packing);
                packing.begin(Some(Packed::new(exported.body())));
                let done = self.put_packed(db, key, old, form, &mut packing, expiry);
                self.packing = packing;
                done?;
            }
            (form, encoding) => {
                if encoding == FIRST {
                    self.begin_arrival(db, key, None);
                }
                let arrived = self.import_slice(db, key, form, exported);
                if arrived.is_err() {
                    self.abandon(db, key);
                }
                arrived?;
            }
        }
        Ok(true)
    }

    fn import_slice(&mut self, db: DbId, key: Key<'_>, form: Form, exported: &Exported) -> Result<(), Error> {
        let elements = exported.elements();
        let bytes: usize = elements.clone().map(|(field, value)| element_bytes_max(field, value)).sum();
        self.make_room(bytes + record_bytes_max(key.bytes.len(), 0))?;
        let id = self.arrival(db, key, None).expect("its first slice came before");
        let log = &mut self.log;
        self.collections.change(id, |arrived| {
            elements.for_each(|(field, value)| {
                arrived.put(log, field, value);
            });
        });
        if Exported::next_slice(&exported.0).is_none() {
            self.end_arrival(db, key, form, exported.expiry());
        }
        Ok(())
    }

    /// From now on slices arrive for this key, from another shard or of a collection of this one.
    pub(crate) fn begin_arrival(&mut self, db: DbId, key: Key<'_>, source: Option<CollectionId>) {
        self.abandon(db, key);
        let id = self.new_collection();
        self.arrivals.push(Arrival { db, key: key.bytes.into(), id, source });
    }

    /// What has arrived so far for this key, if that is from there.
    pub(crate) fn arrival(&self, db: DbId, key: Key<'_>, source: Option<CollectionId>) -> Option<CollectionId> {
        let arrival = &self.arrivals[self.arrival_at(db, key)?];
        (arrival.source == source).then_some(arrival.id)
    }

    /// All has arrived: puts it under its key, in place of what is there. Room for the head must have been made.
    pub(crate) fn end_arrival(&mut self, db: DbId, key: Key<'_>, form: Form, expiry: Option<UnixMs>) {
        let at = self.arrival_at(db, key).expect("it has arrived");
        let arrival = self.arrivals.swap_remove(at);
        let old = self.peek(db, key);
        self.put_collection_head(db, key, old, form, arrival.id, expiry);
    }

    /// Drops what has arrived so far of a large collection, if anything has.
    pub fn abandon(&mut self, db: DbId, key: Key<'_>) {
        if let Some(at) = self.arrival_at(db, key) {
            let arrival = self.arrivals.swap_remove(at);
            let remains = self.collections.remove(arrival.id);
            self.flushed.push(Dead::Table(remains));
        }
    }

    fn arrival_at(&self, db: DbId, key: Key<'_>) -> Option<usize> {
        self.arrivals.iter().position(|arrival| arrival.db == db && *arrival.key == *key.bytes)
    }
}
