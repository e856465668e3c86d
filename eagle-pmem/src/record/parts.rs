//! What a record is to hold, and its shape: which fields it has and where they lie, known before a
//! byte of it is written.

use super::Kind;
use crate::layout::RECORD_ALIGN;
use crate::layout::record_header as header;
use crate::offset::CollectionId;

/// The largest expiry, in unix milliseconds: the year 10889.
pub const EXPIRY_MS_MAX: u64 = (1 << 48) - 1;

/// The longest key or value of one record in bytes.
pub(crate) const PART_BYTES_MAX: usize = 1 << 30;

/// What a record is to hold.
#[derive(Clone, Copy, Debug)]
pub struct RecordParts<'a> {
    /// What it is.
    pub kind: Kind,
    /// Free for the layer above: type and encoding of the value.
    pub tag: u8,
    /// Database number; only numbers other than 0 take room.
    pub db: u16,
    /// When it expires, in unix milliseconds, at most [`EXPIRY_MS_MAX`].
    pub expiry: Option<u64>,
    /// The collection that it belongs to.
    pub id: Option<CollectionId>,
    /// Key or field, at most 1 GiB.
    pub key: &'a [u8],
    /// The value in pieces that are put together, at most 1 GiB in all.
    pub value: &'a [&'a [u8]],
}

impl<'a> RecordParts<'a> {
    /// A record of a kind, key and value: tag 0, database 0, no expiry, no collection.
    #[inline]
    pub const fn new(kind: Kind, key: &'a [u8], value: &'a [&'a [u8]]) -> Self {
        Self { kind, tag: 0, db: 0, expiry: None, id: None, key, value }
    }

    /// Bytes of all pieces of the value.
    #[inline]
    pub fn value_len(&self) -> usize {
        self.value.iter().map(|piece| piece.len()).sum()
    }

    /// What the record will take on the medium, in bytes: a multiple of 8.
    #[inline]
    pub fn bytes(&self) -> usize {
        Shape::of(self, self.value_len(), None).len
    }
}

/// Where the fields of a record to be written lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    flags: u8,
    key_len: usize,
    value_at: usize,
    value_len: usize,
    version: u64,
    /// Bytes on the medium, padding included.
    pub(crate) len: usize,
}

impl Shape {
    #[inline(always)]
    pub(crate) fn of(parts: &RecordParts<'_>, value_len: usize, version: Option<u64>) -> Self {
        let key_len = parts.key.len();
        let long = key_len > usize::from(u8::MAX) || value_len > usize::from(u16::MAX);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(parts.expiry.is_some(), header::EXPIRY)
            | flag(long, header::LONG)
            | flag(parts.db != 0, header::DB)
            | flag(parts.id.is_some(), header::ID)
            | flag(version.is_some(), header::VERSION);
        if long {
            assert!(
                key_len <= PART_BYTES_MAX && value_len <= PART_BYTES_MAX,
                "a record's key and value are at most 1 GiB"
            );
        }
        let value_at = header::key_at(flags) + key_len;
        let len = (value_at + value_len).next_multiple_of(RECORD_ALIGN);
        Self { flags, key_len, value_at, value_len, version: version.unwrap_or(0), len }
    }

    /// Writes all but value and checksum into `bytes`, which are [`Shape::len`] long, and returns
    /// the place of the value.
    #[inline(always)]
    pub(crate) fn write<'b>(&self, parts: &RecordParts<'_>, bytes: &'b mut [u8]) -> &'b mut [u8] {
        let flags = self.flags;
        let bytes = &mut bytes[..self.len];
        let last = self.len - RECORD_ALIGN;
        bytes[last..].fill(0); // The padding; the rest of these 8 bytes is written over.
        bytes[header::KIND] = parts.kind as u8;
        bytes[header::FLAGS] = flags;
        bytes[header::TAG] = parts.tag;
        let long = flags & header::LONG != 0;
        bytes[header::KEY_LEN] = if long { 0 } else { self.key_len as u8 };
        let value_len = if long { 0 } else { self.value_len as u16 };
        bytes[header::VALUE_LEN..header::BYTES].copy_from_slice(&value_len.to_le_bytes());
        if flags != 0 {
            self.write_fields(parts, flags, bytes);
        }
        bytes[self.value_at - self.key_len..self.value_at].copy_from_slice(parts.key);
        &mut bytes[self.value_at..self.value_at + self.value_len]
    }

    /// Writes the fields that not every record has.
    fn write_fields(&self, parts: &RecordParts<'_>, flags: u8, bytes: &mut [u8]) {
        let mut put = |at: usize, number: u64, len: usize| {
            bytes[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
        };
        if let Some(expiry) = parts.expiry {
            assert!(expiry <= EXPIRY_MS_MAX, "an expiry has 48 bits");
            put(header::BYTES, expiry, header::EXPIRY_BYTES);
        }
        if flags & header::LONG != 0 {
            put(header::long_at(flags), self.key_len as u64, 4);
            put(header::long_at(flags) + 4, self.value_len as u64, 4);
        }
        if parts.db != 0 {
            put(header::db_at(flags), u64::from(parts.db), header::DB_BYTES);
        }
        if let Some(id) = parts.id {
            put(header::id_at(flags), id.raw(), header::ID_BYTES);
        }
        if flags & header::VERSION != 0 {
            assert!(self.version < 1 << 56, "a version has 56 bits");
            put(header::version_at(flags), self.version, header::VERSION_BYTES);
        }
    }
}
