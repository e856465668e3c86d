//! A string: one record up to 64 KiB, beyond it a vector of chunk records (see `large`).
//!
//! The value lies in the record as the client sent it, integers too. The record's tag keeps what cannot be told from the bytes: that
//! Redis would not hold an integer as one (`INCRBYFLOAT`), or would hold a short string as a raw one (`APPEND`, `SETRANGE`). So
//! `OBJECT ENCODING` says what Redis says.
//!
//! A value that stays as long is overwritten in place where the log allows it; so are bytes in the middle of one.
//! From: `object.c` (`tryObjectEncoding`), `t_string.c` of Redis 7.2.

use eagle_pmem::{Kind, Record, layout::record_bytes_max};
use eagle_resp::{Reply, number};

use super::{
    Form,
    large::{CHUNK_BYTES, LARGE_BYTES_MAX, Pieces, large_bytes_max},
};
use crate::{
    call::{DbId, Key, UnixMs},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
};

/// The longest string that lies in one record.
pub const ONE_RECORD_BYTES_MAX: usize = CHUNK_BYTES;

/// The longest string that Redis holds together with its object (`OBJ_ENCODING_EMBSTR_SIZE_LIMIT`).
const EMBEDDED_BYTES_MAX: usize = 44;

/// The longest text of a 64-bit integer: 19 digits and a sign.
const INTEGER_BYTES_MAX: usize = 20;

/// How Redis would hold a string; kept as the record's tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// As `SET` does: an integer as one, a short string together with its object, else apart from it.
    #[default]
    Natural = 0,
    /// As `INCRBYFLOAT` does: never as an integer.
    Text = 1,
    /// As `APPEND` and `SETRANGE` do: apart from its object, however short.
    Raw = 2,
}

impl Encoding {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Natural, Self::Text, Self::Raw].into_iter().find(|encoding| *encoding as u8 == byte)
    }

    fn of_tag(tag: u8) -> Self {
        Self::from_byte(tag).expect("a string's record has the tag of an encoding")
    }
}

/// A string where it lies.
#[derive(Clone, Copy)]
pub enum StringRef<'a> {
    /// In one piece.
    Whole(&'a [u8]),
    /// In chunks.
    Chunks(Pieces<'a>),
}

impl<'a> StringRef<'a> {
    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Chunks(pieces) => pieces.len(),
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it as a bulk.
    #[inline]
    pub fn write_bulk(&self, reply: &mut Reply<'_>) {
        match self {
            Self::Whole(bytes) => reply.bulk(bytes),
            Self::Chunks(pieces) => reply.bulk_with(pieces.len(), |out| {
                pieces.for_each(|piece| out.extend_from_slice(piece));
            }),
        }
    }

    /// The bytes from `start` to before `end`, both within it.
    ///
    /// # Panics
    /// If they are not.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> StringRef<'a> {
        match self {
            Self::Whole(bytes) => Self::Whole(&bytes[start..end]),
            Self::Chunks(pieces) => Self::Chunks(pieces.slice(start, end)),
        }
    }

    /// It in one piece: where it lies, or put together in `buffer`, which is overwritten then.
    pub fn in_one_piece(&self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Chunks(pieces) => {
                buffer.clear();
                buffer.reserve_exact(pieces.len());
                pieces.for_each(|piece| buffer.extend_from_slice(piece));
                buffer
            }
        }
    }

    /// A copy of it.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        self.for_each(|piece| copy.extend_from_slice(piece));
        copy
    }

    /// Goes through it, piece by piece.
    pub fn for_each(&self, mut emit: impl FnMut(&'a [u8])) {
        match self {
            Self::Whole(bytes) => emit(bytes),
            Self::Chunks(pieces) => pieces.for_each(emit),
        }
    }

    /// The 64-bit integer that it is the text of, in the strict form of Redis.
    #[inline]
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Whole(bytes) if bytes.len() <= INTEGER_BYTES_MAX => number::parse_i64(bytes),
            _ => None,
        }
    }
}

impl Shard {
    /// The string under a key.
    ///
    /// # Errors
    /// The key holds another type.
    #[inline]
    pub fn string(&self, found: Found) -> Result<StringRef<'_>, Error> {
        match found.form() {
            Form::String => Ok(StringRef::Whole(self.record(found).value())),
            Form::LargeString => Ok(StringRef::Chunks(self.large.pieces(&self.log, self.record(found)))),
            Form::Hash => Err(Error::WrongType),
        }
    }

    /// Length of the string under a key.
    ///
    /// # Errors
    /// The key holds another type.
    pub fn string_len(&self, found: Found) -> Result<usize, Error> {
        self.string(found).map(|string| string.len())
    }

    /// The encoding that `OBJECT ENCODING` shows for the key.
    #[must_use]
    pub fn encoding_name(&self, found: Found) -> &'static str {
        match found.form() {
            Form::LargeString => "raw",
            Form::Hash => self.hash_encoding_name(found),
            Form::String => string_encoding_name(self.record(found)),
        }
    }

    /// How Redis would hold the string under a key, for who writes it elsewhere.
    #[must_use]
    pub fn encoding(&self, found: Found) -> Encoding {
        Encoding::of_tag(self.record(found).tag())
    }

    /// Puts a string under a key in place of `old`, which is what [`Shard::find`] gave for it, or `None`.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    #[inline]
    pub fn put_string(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        value: &[u8],
        expiry: Option<UnixMs>,
        encoding: Encoding,
    ) -> Result<(), Error> {
        if value.len() > ONE_RECORD_BYTES_MAX {
            return self.put_large(db, key, old, value, expiry);
        }
        let (form, kind, tag) = (Form::String, Kind::String, encoding as u8);
        let new = NewValue { form, kind, tag, expiry, id: None, value: &[value] };
        self.put(db, key, old, new)
    }

    /// Begins to put several strings as one unit: after a crash all of them are there or none. False, and nothing has begun, if that
    /// means nothing here.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    pub(crate) fn begin_strings<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<bool, Error> {
        if self.config.in_place {
            return Ok(false);
        }
        let mut bytes = 0;
        for (key, value) in pairs {
            // Its records, and a tombstone if what is there has expired.
            bytes += record_bytes_max(key.len(), 0)
                + match value.len() {
                    len if len > ONE_RECORD_BYTES_MAX => large_bytes_max(key.len(), len.div_ceil(CHUNK_BYTES)),
                    len => record_bytes_max(key.len(), len),
                };
        }
        self.make_room(bytes)?;
        self.log.begin_group(bytes);
        Ok(true)
    }

    /// Puts one of the strings of a unit that has begun, in place of `old`.
    pub(crate) fn put_string_of_group(&mut self, db: DbId, key: Key<'_>, old: Option<Found>, value: &[u8]) {
        if value.len() > ONE_RECORD_BYTES_MAX {
            return self.put_large_of_group(db, key, old, value, None);
        }
        let (form, tag, value): (_, _, &[&[u8]]) = (Form::String, Encoding::Natural as u8, &[value]);
        let new = NewValue { form, kind: Kind::String, tag, expiry: None, id: None, value };
        let offset = self.log.append(&self.parts(db, key, new));
        self.point(db, key, old, offset, form, None);
    }

    /// Ends a unit of strings.
    pub(crate) fn end_strings(&mut self) {
        self.log.end_group();
    }

    /// Adds `tail` to the end of the string under a key, which begins empty where there is none. Returns the new length.
    ///
    /// # Errors
    /// Another type, longer than allowed, or out of memory. Nothing was changed.
    pub fn append(&mut self, db: DbId, key: Key<'_>, old: Option<Found>, tail: &[u8]) -> Result<usize, Error> {
        let Some(found) = old else {
            self.check_string_len(0, tail.len())?;
            self.put_string(db, key, None, tail, None, Encoding::Natural)?;
            return Ok(tail.len());
        };
        let at = self.string_len(found)?;
        self.set_range(db, key, old, at, tail)
    }

    /// Writes `bytes` into the string under a key from byte `at` on, with zeros where there was nothing before. Returns the
    /// new length. No bytes at all change nothing.
    ///
    /// # Errors
    /// Another type, longer than allowed, or out of memory. Nothing was changed.
    pub fn set_range(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        at: usize,
        bytes: &[u8],
    ) -> Result<usize, Error> {
        let old_len = old.map_or(Ok(0), |found| self.string_len(found))?;
        if bytes.is_empty() {
            return Ok(old_len);
        }
        self.check_string_len(at, bytes.len())?;
        let len = old_len.max(at + bytes.len());
        match old {
            Some(found) if found.form() == Form::String && len <= ONE_RECORD_BYTES_MAX => {
                self.splice(db, key, found, len, at, bytes)?;
            }
            None if len <= ONE_RECORD_BYTES_MAX => {
                let zeros = &super::large::ZEROS[..at];
                let value: &[&[u8]] = &[zeros, bytes];
                let (form, kind, tag) = (Form::String, Kind::String, Encoding::Raw as u8);
                let new = NewValue { form, kind, tag, expiry: None, id: None, value };
                self.put(db, key, None, new)?;
            }
            _ => self.splice_large(db, key, old, len, at, bytes)?,
        }
        Ok(len)
    }

    /// Writes into a string that is and stays one record.
    fn splice(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        len: usize,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let record = self.record(found);
        let (is_raw, old_len) = (record.tag() == Encoding::Raw as u8, record.value().len());
        let expiry = record.expiry().map(UnixMs);
        if is_raw && len == old_len {
            let in_place = self.log.change_value(found.offset(), |value| {
                value[at..at + bytes.len()].copy_from_slice(bytes);
            });
            if in_place {
                self.touch(db, found, self.now);
                return Ok(());
            }
        }
        let (form, kind, tag) = (Form::String, Kind::String, Encoding::Raw as u8);
        let new = NewValue { form, kind, tag, expiry, id: None, value: &[] };
        let moved = self.make_room(eagle_pmem::layout::record_bytes_max(key.bytes.len(), len))?;
        let found = if moved { self.find_again(db, key) } else { found };
        let parts = self.parts(db, key, new);
        let offset = self.log.append_from(found.offset(), &parts, len, |old, value| {
            splice_value(old, value, at, bytes);
        });
        self.point(db, key, Some(found), offset, Form::String, expiry);
        Ok(())
    }

    fn check_string_len(&self, at: usize, bytes: usize) -> Result<(), Error> {
        let len = at.checked_add(bytes).ok_or(Error::StringTooLong)?;
        if len > self.config.string_len_max.min(LARGE_BYTES_MAX) { Err(Error::StringTooLong) } else { Ok(()) }
    }
}

/// Fills `value` with the value of `old`, zeros behind it, and `bytes` at `at`.
pub(crate) fn splice_value(old: Record<'_>, value: &mut [u8], at: usize, bytes: &[u8]) {
    let kept = old.value().len().min(value.len());
    value[..kept].copy_from_slice(&old.value()[..kept]);
    value[kept..].fill(0);
    value[at..at + bytes.len()].copy_from_slice(bytes);
}

fn string_encoding_name(record: Record<'_>) -> &'static str {
    let value = record.value();
    let is_integer = || StringRef::Whole(value).integer().is_some();
    match Encoding::of_tag(record.tag()) {
        Encoding::Raw => "raw",
        Encoding::Natural if is_integer() => "int",
        _ if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}
