//! A record: one self-describing checksummed datum. What is appended ([`RecordParts`]) and what is
//! read ([`Record`]).
//!
//! The bytes are drawn in [`crate::layout`]. A record is encoded by its `Shape` (which fields it
//! has and where they lie), so that its size is known before a byte of it is written. It is read in
//! two ways: `Record::trusted` for offsets that the log itself gave out, with a handful of
//! instructions and no check; [`Record::parse`] for bytes of which nothing is known, which never
//! panics.

use crate::checksum::{Checksum, ExtentSeed};
use crate::layout::RECORD_ALIGN;
use crate::layout::record_header as header;
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
        Self {
            kind,
            tag: 0,
            db: 0,
            expiry: None,
            id: None,
            key,
            value,
        }
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
        Self {
            flags,
            key_len,
            value_at,
            value_len,
            version: version.unwrap_or(0),
            len,
        }
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
            put(
                header::version_at(flags),
                self.version,
                header::VERSION_BYTES,
            );
        }
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
            Self::Checksum { found, computed } => write!(
                f,
                "record checksum {found:#010x}, computed {computed:#010x}"
            ),
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
                let value_len =
                    u16::from_le_bytes(start.add(header::VALUE_LEN).cast::<[u8; 2]>().read());
                (u32::from(*start.add(header::KEY_LEN)), u32::from(value_len))
            } else {
                let long = start.add(header::long_at(flags));
                let lens = [
                    long.cast::<[u8; 4]>().read(),
                    long.add(4).cast::<[u8; 4]>().read(),
                ]
                .map(u32::from_le_bytes);
                let len =
                    (key_at + lens[0] as usize + lens[1] as usize).next_multiple_of(RECORD_ALIGN);
                assert!(len <= room, "a record lies within the pool");
                (lens[0], lens[1])
            };
            let len =
                (key_at + key_len as usize + value_len as usize).next_multiple_of(RECORD_ALIGN);
            let bytes = std::slice::from_raw_parts(start, len);
            Self {
                bytes,
                key_at: key_at as u32,
                key_len,
                value_len,
            }
        }
    }

    /// Reads the record at the beginning of `bytes`, of which nothing is known; its checksum is the
    /// right one at `offset` of the extent of `seed`. What lies behind the record does not
    /// matter.
    ///
    /// # Errors
    /// Why there is no record. Never panics.
    pub fn parse(
        bytes: &'a [u8],
        seed: ExtentSeed,
        offset: PoolOffset,
    ) -> Result<Self, RecordError> {
        let record = Self::parse_shape(bytes)?;
        record.verify(&Checksum::new(), seed, offset)?;
        Ok(record)
    }

    /// As [`Record::parse`], without the checksum: the lengths are within `bytes`, the rest may be
    /// garbage.
    pub(crate) fn parse_shape(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let short = |wanted: u64| RecordError::Short {
            wanted,
            found: bytes.len() as u64,
        };
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
            u32::from(u16::from_le_bytes([
                bytes[header::VALUE_LEN],
                bytes[header::VALUE_LEN + 1],
            ])),
        );
        let (key_len, value_len) = if flags & header::LONG == 0 {
            short_lens
        } else {
            let long = header::long_at(flags);
            let lens = (
                number(bytes, long, 4) as u32,
                number(bytes, long + 4, 4) as u32,
            );
            let needed = lens.0 > u32::from(u8::MAX) || lens.1 > u32::from(u16::MAX);
            if short_lens != (0, 0) || !needed || lens.0.max(lens.1) as usize > PART_BYTES_MAX {
                return Err(RecordError::Lengths);
            }
            lens
        };
        let len = (key_at as u64 + u64::from(key_len) + u64::from(value_len))
            .next_multiple_of(RECORD_ALIGN as u64);
        if (bytes.len() as u64) < len {
            return Err(short(len));
        }
        Ok(Self {
            bytes: &bytes[..len as usize],
            key_at: key_at as u32,
            key_len,
            value_len,
        })
    }

    /// Whether its checksum is the right one for its bytes and its place.
    pub(crate) fn verify(
        &self,
        checksum: &Checksum,
        seed: ExtentSeed,
        offset: PoolOffset,
    ) -> Result<(), RecordError> {
        let found = self.crc();
        let computed = checksum.of(&self.bytes[header::KIND..], seed.at(offset));
        if found == computed {
            Ok(())
        } else {
            Err(RecordError::Checksum { found, computed })
        }
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
        if flags & header::DB == 0 {
            0
        } else {
            number(self.bytes, header::db_at(flags), header::DB_BYTES) as u16
        }
    }

    /// When it expires, in unix milliseconds.
    #[inline]
    pub fn expiry(&self) -> Option<u64> {
        (self.flags() & header::EXPIRY != 0)
            .then(|| number(self.bytes, header::BYTES, header::EXPIRY_BYTES))
    }

    /// The collection that it belongs to.
    #[inline]
    pub fn id(&self) -> Option<CollectionId> {
        let flags = self.flags();
        (flags & header::ID != 0).then(|| {
            CollectionId::from_raw(number(self.bytes, header::id_at(flags), header::ID_BYTES))
        })
    }

    /// The version that it carries; without one, it has its extent's base plus its ordinal.
    #[inline]
    pub fn version(&self) -> Option<u64> {
        let flags = self.flags();
        (flags & header::VERSION != 0)
            .then(|| number(self.bytes, header::version_at(flags), header::VERSION_BYTES))
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
mod tests {
    #![allow(
        clippy::print_stderr,
        reason = "a random test prints the seed that repeats it"
    )]

    use super::*;
    use fastrand::Rng;

    const SEED: ExtentSeed = ExtentSeed::new(3, 5);
    const PLACE: PoolOffset = PoolOffset::from_raw(77);

    fn rng() -> Rng {
        let seed = std::env::var("EAGLE_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("EAGLE_SEED={seed}");
        Rng::with_seed(seed)
    }

    /// A record as it lies at `PLACE`.
    fn encode(parts: &RecordParts<'_>, version: Option<u64>) -> Vec<u8> {
        let shape = Shape::of(parts, parts.value_len(), version);
        let mut bytes = vec![0xEE; shape.len];
        let value: Vec<u8> = parts.value.concat();
        shape.write(parts, &mut bytes).copy_from_slice(&value);
        let crc = Checksum::new().of(&bytes[header::KIND..], SEED.at(PLACE));
        bytes[..header::KIND].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn random_parts<'a>(rng: &mut Rng, key: &'a [u8], value: &'a [&'a [u8]]) -> RecordParts<'a> {
        RecordParts {
            kind: Kind::from_byte(rng.u8(1..=13)).expect("a kind"),
            tag: rng.u8(..),
            db: if rng.bool() { rng.u16(..) } else { 0 },
            expiry: rng.bool().then(|| rng.u64(..=EXPIRY_MS_MAX)),
            id: rng
                .bool()
                .then(|| CollectionId::from_raw(rng.u64(..1 << 40))),
            key,
            value,
        }
    }

    fn random_bytes(rng: &mut Rng, lens: &[usize]) -> Vec<u8> {
        let len = *rng.choice(lens).expect("lengths");
        let len = rng.usize(len / 2..=len);
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        // Random parts come back whole, by parsing and by trust, and the size said beforehand is
        // that on the medium.
        let mut rng = rng();
        let rounds = if cfg!(miri) { 30 } else { 2000 };
        for _ in 0..rounds {
            let key = random_bytes(&mut rng, &[0, 14, 255, 256, 300]);
            let value = random_bytes(&mut rng, &[0, 8, 64, 1000, 65_535, 65_536, 70_000]);
            let cut = rng.usize(..=value.len());
            let pieces = [&value[..cut], &value[cut..]];
            let parts = random_parts(&mut rng, &key, &pieces);
            let version = rng.bool().then(|| rng.u64(..1 << 56));
            let bytes = encode(&parts, version);
            if version.is_none() {
                assert_eq!(bytes.len(), parts.bytes());
            }
            let parsed = Record::parse(&bytes, SEED, PLACE).expect("a record");
            // SAFETY: the bytes are a record.
            let trusted = unsafe { Record::trusted(bytes.as_ptr(), bytes.len()) };
            for record in [parsed, trusted] {
                assert_eq!(record.kind(), parts.kind);
                assert_eq!((record.tag(), record.db()), (parts.tag, parts.db));
                assert_eq!((record.expiry(), record.id()), (parts.expiry, parts.id));
                assert_eq!(record.version(), version);
                assert!(!record.more_follows());
                assert!(record.key() == key && record.value() == value);
                assert_eq!(record.bytes_on_medium(), bytes.len());
            }
        }
    }

    #[test]
    fn a_small_record_takes_no_more_than_promised() {
        // The sizes that the goal for overhead a key rests on.
        let bytes = |value: usize, expiry| {
            let value = [0; 512].as_slice().split_at(value).0;
            RecordParts {
                expiry,
                ..RecordParts::new(Kind::String, &[0; 14], &[value])
            }
            .bytes()
        };
        assert_eq!(
            [bytes(8, None), bytes(64, None), bytes(512, None)],
            [32, 88, 536]
        );
        assert_eq!(
            [bytes(8, Some(1)), bytes(64, Some(1)), bytes(512, Some(1))],
            [40, 96, 544]
        );
    }

    #[test]
    fn a_flipped_bit_never_verifies() {
        // Every single bit of short and long records matters, padding included.
        let mut rng = rng();
        let rounds = if cfg!(miri) { 1 } else { 20 };
        for round in 0..rounds {
            let key = random_bytes(&mut rng, &[14, 300]);
            let value = random_bytes(&mut rng, &[64]);
            let pieces = [&value[..]];
            let mut bytes = encode(
                &random_parts(&mut rng, &key, &pieces),
                (round % 2 == 0).then_some(9),
            );
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(Record::parse(&bytes, SEED, PLACE).is_err(), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(Record::parse(&bytes, SEED, PLACE).is_ok());
        }
    }

    #[test]
    fn a_record_is_only_right_in_its_place() {
        // Right bytes at another offset, in another opening of the extent or in another pool are an
        // error of the checksum.
        let bytes = encode(&RecordParts::new(Kind::String, b"key", &[b"value"]), None);
        let elsewhere = [
            (SEED, PoolOffset::from_raw(78)),
            (ExtentSeed::new(3, 6), PLACE),
            (ExtentSeed::new(4, 5), PLACE),
        ];
        for (seed, place) in elsewhere {
            let error = Record::parse(&bytes, seed, place).expect_err("not its place");
            assert!(matches!(error, RecordError::Checksum { .. }));
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        // Random bytes, cut records and records with changed headers.
        let mut rng = rng();
        let rounds = if cfg!(miri) { 200 } else { 200_000 };
        let value = [7; 300];
        let whole = encode(
            &RecordParts::new(Kind::Element, b"field", &[&value]),
            Some(1),
        );
        for cut in 0..whole.len() {
            assert!(
                Record::parse(&whole[..cut], SEED, PLACE).is_err(),
                "cut at {cut}"
            );
        }
        for _ in 0..rounds {
            let mut bytes = random_bytes(&mut rng, &[64]);
            if rng.bool() {
                bytes = whole.clone();
                let at = rng.usize(..header::BYTES + 8);
                bytes[at] = rng.u8(..);
                if bytes == whole {
                    continue;
                }
            }
            assert!(Record::parse(&bytes, SEED, PLACE).is_err());
        }
    }

    #[test]
    fn zeros_are_no_record() {
        // What an extent holds behind its last record, if it is new.
        assert_eq!(
            Record::parse(&[0; 64], SEED, PLACE).err(),
            Some(RecordError::Kind(0))
        );
    }
}
