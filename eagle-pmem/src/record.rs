//! A record: one self-describing checksummed datum. What is appended ([`RecordParts`]) and what is
//! read ([`Record`]).
//!
//! The bytes are drawn in [`crate::layout`]. A record is encoded by its `Shape` (which fields it
//! has and where they lie), so that its size is known before a byte of it is written. It is read in
//! two ways: `Record::trusted` for offsets that the log itself gave out, with a handful of
//! instructions and no check; [`Record::parse`] for bytes of which nothing is known, which never
//! panics.

mod parts;

pub use parts::{EXPIRY_MS_MAX, RecordParts};
pub(crate) use parts::{PART_BYTES_MAX, Shape};

use crate::checksum::{Checksum, ExtentSeed};
use crate::layout::record_header as header;
use crate::layout::{RECORD_ALIGN, meta};
use crate::offset::{CollectionId, PoolOffset};
use std::fmt;

/// What a record is. The log only tells tombstones apart; the rest is for the shard and for
/// recovery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A key and its string value.
    String = 1,
    /// A key and its small collection, packed.
    Packed = 2,
    /// A change to the packed collection of a key.
    Patch = 3,
    /// A key and the id of its large collection.
    Head = 4,
    /// An element of a large collection, by the collection's id.
    Element = 5,
    /// A list lost elements at its ends; supersedes the trim before.
    Trim = 6,
    /// A key or element is gone.
    Tombstone = 7,
    /// A piece of a large string.
    Chunk = 8,
    /// A database was flushed: lower versions of it are dead.
    Flush = 9,
    /// Two databases changed places.
    Swap = 10,
    /// A unit of several shards is about to be committed.
    Prepare = 11,
    /// A unit is committed.
    Commit = 12,
    /// Facts about the pool or the shard.
    Meta = 13,
}

impl Kind {
    /// The kind of this number.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::String,
            2 => Self::Packed,
            3 => Self::Patch,
            4 => Self::Head,
            5 => Self::Element,
            6 => Self::Trim,
            7 => Self::Tombstone,
            8 => Self::Chunk,
            9 => Self::Flush,
            10 => Self::Swap,
            11 => Self::Prepare,
            12 => Self::Commit,
            13 => Self::Meta,
            _ => return None,
        })
    }
}

/// A record where it lies.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The whole record with its padding: a multiple of 8, at least the header with its fields,
    /// key and value.
    bytes: &'a [u8],
    key_at: u32,
    key_len: u32,
    value_len: u32,
}

/// Bytes that are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// Fewer bytes than a header, or than the header asks for.
    Short {
        /// Bytes that the record would take.
        wanted: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// A kind that we do not know; 0 where nothing was ever written.
    Kind(u8),
    /// Flags that we do not know.
    Flags(u8),
    /// Long lengths that nobody would have written so.
    Lengths,
    /// The checksum does not agree with the rest.
    Checksum {
        /// What the record says.
        found: u32,
        /// What its bytes amount to at this place.
        computed: u32,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { wanted, found } => {
                write!(f, "record of {wanted} bytes where only {found} are")
            }
            Self::Kind(kind) => write!(f, "unknown record kind {kind}"),
            Self::Flags(flags) => write!(f, "unknown record flags {flags:#010b}"),
            Self::Lengths => write!(f, "record lengths are not in their shortest form"),
            Self::Checksum { found, computed } => write!(f, "record checksum {found:#010x}, computed {computed:#010x}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl<'a> Record<'a> {
    /// The record that begins at `start`, unchecked.
    ///
    /// # Safety
    /// `room` bytes from `start` on are initialised, readable and unchanged for `'a`. They hold a
    /// record, or are enough for any record with short lengths.
    #[inline(always)]
    pub(crate) unsafe fn trusted(start: *const u8, room: usize) -> Self {
        // SAFETY: the caller vouches for a header and short lengths; long ones are checked.
        unsafe {
            let flags = *start.add(header::FLAGS);
            let key_at = header::key_at(flags);
            let (key_len, value_len) = if flags & header::LONG == 0 {
                let value_len = u16::from_le_bytes(start.add(header::VALUE_LEN).cast::<[u8; 2]>().read());
                (u32::from(*start.add(header::KEY_LEN)), u32::from(value_len))
            } else {
                let long = start.add(header::long_at(flags));
                let lens =
                    [long.cast::<[u8; 4]>().read(), long.add(4).cast::<[u8; 4]>().read()].map(u32::from_le_bytes);
                let len = (key_at + lens[0] as usize + lens[1] as usize).next_multiple_of(RECORD_ALIGN);
                assert!(len <= room, "a record lies within the pool");
                (lens[0], lens[1])
            };
            let len = (key_at + key_len as usize + value_len as usize).next_multiple_of(RECORD_ALIGN);
            let bytes = std::slice::from_raw_parts(start, len);
            Self { bytes, key_at: key_at as u32, key_len, value_len }
        }
    }

    /// Reads the record at the beginning of `bytes`, of which nothing is known; its checksum is the
    /// right one at `offset` of the extent of `seed`. What lies behind the record does not
    /// matter.
    ///
    /// # Errors
    /// Why there is no record. Never panics.
    pub fn parse(bytes: &'a [u8], seed: ExtentSeed, offset: PoolOffset) -> Result<Self, RecordError> {
        let record = Self::parse_shape(bytes)?;
        record.verify(&Checksum::new(), seed, offset)?;
        Ok(record)
    }

    /// As [`Record::parse`], without the checksum: the lengths are within `bytes`, the rest may be
    /// garbage.
    pub(crate) fn parse_shape(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let short = |wanted: u64| RecordError::Short { wanted, found: bytes.len() as u64 };
        if bytes.len() < header::BYTES {
            return Err(short(header::BYTES as u64));
        }
        if Kind::from_byte(bytes[header::KIND]).is_none() {
            return Err(RecordError::Kind(bytes[header::KIND]));
        }
        let flags = bytes[header::FLAGS];
        if flags & !header::FLAGS_ALL != 0 {
            return Err(RecordError::Flags(flags));
        }
        let key_at = header::key_at(flags);
        if bytes.len() < key_at {
            return Err(short(key_at as u64));
        }
        let short_lens = (
            u32::from(bytes[header::KEY_LEN]),
            u32::from(u16::from_le_bytes([bytes[header::VALUE_LEN], bytes[header::VALUE_LEN + 1]])),
        );
        let (key_len, value_len) = if flags & header::LONG == 0 {
            short_lens
        } else {
            let long = header::long_at(flags);
            let lens = (number(bytes, long, 4) as u32, number(bytes, long + 4, 4) as u32);
            let needed = lens.0 > u32::from(u8::MAX) || lens.1 > u32::from(u16::MAX);
            if short_lens != (0, 0) || !needed || lens.0.max(lens.1) as usize > PART_BYTES_MAX {
                return Err(RecordError::Lengths);
            }
            lens
        };
        let len = (key_at as u64 + u64::from(key_len) + u64::from(value_len)).next_multiple_of(RECORD_ALIGN as u64);
        if (bytes.len() as u64) < len {
            return Err(short(len));
        }
        Ok(Self { bytes: &bytes[..len as usize], key_at: key_at as u32, key_len, value_len })
    }

    /// Whether its checksum is the right one for its bytes and its place.
    pub(crate) fn verify(&self, checksum: &Checksum, seed: ExtentSeed, offset: PoolOffset) -> Result<(), RecordError> {
        let found = self.crc();
        let computed = checksum.of(&self.bytes[header::KIND..], seed.at(offset));
        if found == computed { Ok(()) } else { Err(RecordError::Checksum { found, computed }) }
    }

    /// The seed with which its checksum would be right.
    pub(crate) fn implied_seed(&self, checksum: &Checksum) -> u32 {
        self.crc() ^ checksum.of(&self.bytes[header::KIND..], 0)
    }

    /// Its checksum as it says.
    pub(crate) fn crc(&self) -> u32 {
        number(self.bytes, header::CRC, 4) as u32
    }

    /// The bits by which its checksum is wrong: 0 for a whole record.
    pub(crate) fn damage(&self, checksum: &Checksum, seed: ExtentSeed, offset: PoolOffset) -> u32 {
        match self.verify(checksum, seed, offset) {
            Err(RecordError::Checksum { found, computed }) => found ^ computed,
            _ => 0,
        }
    }

    /// What it is.
    ///
    /// # Panics
    /// If the bytes are no record; then the offset was not one of the log's.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.bytes[header::KIND]).expect("a record has a kind")
    }

    /// What the layer above put there: type and encoding of the value.
    #[inline(always)]
    pub fn tag(&self) -> u8 {
        self.bytes[header::TAG]
    }

    /// Where its key begins.
    #[inline(always)]
    pub(crate) fn key_at(&self) -> usize {
        self.key_at as usize
    }

    /// Whether its lengths take the long form.
    #[inline(always)]
    pub(crate) fn is_long(&self) -> bool {
        self.flags() & header::LONG != 0
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        self.bytes[header::FLAGS]
    }

    /// Whether its group goes on with the next record.
    #[inline]
    pub fn more_follows(&self) -> bool {
        self.flags() & header::MORE != 0
    }

    /// Its database number.
    #[inline]
    pub fn db(&self) -> u16 {
        let flags = self.flags();
        if flags & header::DB == 0 { 0 } else { number(self.bytes, header::db_at(flags), header::DB_BYTES) as u16 }
    }

    /// When it expires, in unix milliseconds.
    #[inline]
    pub fn expiry(&self) -> Option<u64> {
        (self.flags() & header::EXPIRY != 0).then(|| number(self.bytes, header::BYTES, header::EXPIRY_BYTES))
    }

    /// The collection that it belongs to.
    #[inline]
    pub fn id(&self) -> Option<CollectionId> {
        let flags = self.flags();
        (flags & header::ID != 0)
            .then(|| CollectionId::from_raw(number(self.bytes, header::id_at(flags), header::ID_BYTES)))
    }

    /// How many records it counts as: more than one only where it stands in the place of damaged ones.
    #[inline]
    pub(crate) fn ordinals(&self) -> u64 {
        if self.kind() == Kind::Meta && self.tag() == meta::FILLER {
            return self.value().first_chunk().map_or(1, |count| u32::from_le_bytes(*count).into());
        }
        1
    }

    /// The version that it carries; without one, it has its extent's base plus its ordinal.
    #[inline]
    pub fn version(&self) -> Option<u64> {
        let flags = self.flags();
        (flags & header::VERSION != 0).then(|| number(self.bytes, header::version_at(flags), header::VERSION_BYTES))
    }

    /// Its key or field.
    #[inline(always)]
    pub fn key(&self) -> &'a [u8] {
        let at = self.key_at as usize;
        // SAFETY: the lengths were summed up to that of `bytes` when the record was made.
        unsafe { self.bytes.get_unchecked(at..at + self.key_len as usize) }
    }

    /// Its value.
    #[inline(always)]
    pub fn value(&self) -> &'a [u8] {
        let at = self.key_at as usize + self.key_len as usize;
        // SAFETY: as in `key`.
        unsafe { self.bytes.get_unchecked(at..at + self.value_len as usize) }
    }

    /// What it takes on the medium in bytes: a multiple of 8.
    #[inline(always)]
    pub fn bytes_on_medium(&self) -> usize {
        self.bytes.len()
    }

    /// Its bytes as they lie, padding included.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All of it but the value, as it would be appended.
    #[inline]
    pub fn parts(&self) -> RecordParts<'a> {
        RecordParts {
            kind: self.kind(),
            tag: self.tag(),
            db: self.db(),
            expiry: self.expiry(),
            id: self.id(),
            key: self.key(),
            value: &[],
        }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("kind", &Kind::from_byte(self.bytes[header::KIND]))
            .field("tag", &self.tag())
            .field("more_follows", &self.more_follows())
            .field("db", &self.db())
            .field("expiry", &self.expiry())
            .field("id", &self.id())
            .field("version", &self.version())
            .field("key", &self.key().escape_ascii().to_string())
            .field("value_len", &self.value_len)
            .finish()
    }
}

/// The little-endian number of `len` bytes at `at`.
#[inline(always)]
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests;
