//! The format: every structure that lies on a medium, drawn, with its sizes asserted.
//!
//! All numbers are little-endian. A pool is two superblock copies and extents of one size:
//!
//! ```text
//!  0          4K         8K
//!  ├──────────┼──────────┼──────────────┬──────────────┬───────┬──────────────┐
//!  │ superblk │ superblk │ extent 0     │ extent 1     │  ...  │ extent n     │
//!  │ copy A   │ copy B   │              │              │       │              │
//!  └──────────┴──────────┴──────────────┴──────────────┴───────┴──────────────┘
//!  extent: header | record | record | ... | seal | zeros
//! ```
//!
//! In a pool that outlives the process the last record of a full extent is its *seal*, for which each extent keeps
//! [`SEAL_BYTES`]. An extent whose first word is zero is free.
//!
//! A run is several neighbouring extents taken as one, with one header, for a record or group that
//! no extent can hold.
//!
//! # Extent header, 80 bytes
//!
//! ```text
//!  0        8        16         24             32     33       36             40            48       56
//!  ├────────┼────────┼──────────┼──────────────┼──────┼────────┼──────────────┼─────────────┼────────┤
//!  │ magic  │ pool id│ sequence │ version base │ kind │ zeros  │ run (extents)│ whole before│ except │
//!  └────────┴────────┴──────────┴──────────────┴──────┴────────┴──────────────┴─────────────┴────────┘
//!  56                64               68       76         80
//!  ├─────────────────┼────────────────┼────────┼──────────┤
//!  │ before: sequence│ before: extent │ hint   │ checksum │
//!  └─────────────────┴────────────────┴────────┴──────────┘
//! ```
//!
//! The sequence grows by one with each extent that is opened, the version base by the records
//! appended before. *Whole before* and *except* say what was known synced when the extent was opened: every extent of a
//! lower sequence than the former, but for that of the latter, was sealed and durable to its end. *Before* is the extent that
//! records were appended to until then, 0 for none: so it is seen if that one's header never came to be. The *hint* is
//! the layer above's: how large an index to expect.
//!
//! A header is made invalid by its magic, which becomes 0; the rest stays. Recovery writes that of an extent anew that it drops.
//!
//! # Record, a multiple of 8 bytes
//!
//! ```text
//!  0      4      5       6     7         8           10
//!  ├──────┼──────┼───────┼─────┼─────────┼───────────┼┄┄┄┄┄┄┄┄┬┄┄┄┄┄┄┄┄┄┄┄┬┄┄┄┄┬┄┄┄┄┬┄┄┄┄┄┄┄┄┄┼─────┬───────┬───────┐
//!  │ crc  │ kind │ flags │ tag │ key len │ value len │ expiry │ long lens │ db │ id │ version │ key │ value │ zeros │
//!  │ 4    │ 1    │ 1     │ 1   │ 1       │ 2         │ 6      │ 4 + 4     │ 2  │ 5  │ 7       │     │       │ 0..7  │
//!  └──────┴──────┴───────┴─────┴─────────┴───────────┴┄┄┄┄┄┄┄┄┴┄┄┄┄┄┄┄┄┄┄┄┴┄┄┄┄┴┄┄┄┄┴┄┄┄┄┄┄┄┄┄┴─────┴───────┴───────┘
//!                                                      └── each only where its flag is set ─────┘
//!  flags:  7   6   5         4    3    2      1        0
//!        │ 0 │ 0 │ version │ id │ db │ long │ expiry │ more follows │
//! ```
//!
//! The crc covers everything behind it, padding included, and is seeded (see
//! [`crate::ExtentSeed`]). A key above 255 or a value above 65535 bytes sets *long*: both short
//! lengths are then 0 and the long ones count. So 14 bytes of key and 64 of value take 88 bytes,
//! and 94, that is 96, with an expiry.

/// Every record begins at a multiple of this.
pub const RECORD_ALIGN: usize = 8;

/// The two copies of the superblock; extent 0 begins behind them.
pub const SUPERBLOCKS_BYTES: usize = 8192;

/// The largest pool: what 36 bits of 8-byte units address.
pub const POOL_BYTES_MAX: u64 = 512 << 30;

/// The smallest extent: a smaller one would be mostly header and slack.
pub const EXTENT_BYTES_MIN: usize = 64 << 10;
/// The largest extent: so that positions in one fit 32 bits with room to spare.
pub const EXTENT_BYTES_MAX: usize = 1 << 30;
/// The extent size of a pool of 512 MiB and above: 1000 of them are 8 GiB, one is written in some 5
/// ms.
pub const EXTENT_BYTES_DEFAULT: usize = 8 << 20;

/// What a write to a medium is made of: a page. Extents and superblocks are multiples of it.
pub const PAGE_BYTES: u64 = 4096;
const _: () = assert!(EXTENT_BYTES_MIN.is_multiple_of(PAGE_BYTES as usize));
const _: () = assert!(SUPERBLOCKS_BYTES.is_multiple_of(PAGE_BYTES as usize));

/// What each extent keeps for its seal: a [`crate::Kind::Meta`] record without key, whose value is the number of records
/// before it (`u32`).
pub const SEAL_BYTES: usize = record_bytes(0, 0, 4);
const _: () = assert!(SEAL_BYTES == 16);

/// What of an extent is not for records.
pub(crate) const EXTENT_OVERHEAD: u64 = (extent_header::BYTES + SEAL_BYTES) as u64;

/// Tags of [`crate::Kind::Meta`] records, by which recovery tells them apart.
pub mod meta {
    /// The extent ends here.
    pub const SEAL: u8 = 1;
    /// What was known synced when it was written ([`crate::Synced`]).
    pub const MARKER: u8 = 2;
    /// In place of damaged records: its value begins with how many there were (`u32`).
    pub const FILLER: u8 = 3;
}

/// The highest sequence and version: a record has 7 bytes for a version, and what is below this can go on for a long time.
pub const NUMBER_MAX: u64 = 1 << 55;

/// "EAGLEEX1", the first bytes of an extent: name and format version.
pub const EXTENT_MAGIC: u64 = u64::from_le_bytes(*b"EAGLEEX1");

/// Fields of the extent header: offset of each, being the one before plus its size.
pub mod extent_header {
    /// `u64`: [`super::EXTENT_MAGIC`].
    pub const MAGIC: usize = 0;
    /// `u64`: the pool that the extent belongs to.
    pub const POOL_ID: usize = MAGIC + 8;
    /// `u64`: number of this opening of an extent, unique in the pool.
    pub const SEQUENCE: usize = POOL_ID + 8;
    /// `u64`: version of the extent's first record that carries none.
    pub const VERSION_BASE: usize = SEQUENCE + 8;
    /// `u8`: an [`super::ExtentKind`].
    pub const KIND: usize = VERSION_BASE + 8;
    /// 3 bytes of zeros.
    pub const ZEROS_A: usize = KIND + 1;
    /// `u32`: how many neighbouring extents the header speaks for, 1 but for a run.
    pub const RUN: usize = ZEROS_A + 3;
    /// `u64`: extents of lower sequences are durable to their ends.
    pub const WHOLE_BEFORE: usize = RUN + 4;
    /// `u64`: the sequence of one of them that is not, 0 for none.
    pub const EXCEPT: usize = WHOLE_BEFORE + 8;
    /// `u64`: the sequence of the extent that records were appended to before this one, 0 for none.
    pub const BEFORE: usize = EXCEPT + 8;
    /// `u32`: which extent that is.
    pub const BEFORE_EXTENT: usize = BEFORE + 8;
    /// `u64`: what the layer above wants to know first when the pool is opened.
    pub const HINT: usize = BEFORE_EXTENT + 4;
    /// `u32`: crc32 of all before it.
    pub const CHECKSUM: usize = HINT + 8;
    /// Size of the header.
    pub const BYTES: usize = CHECKSUM + 4;
}
const _: () = assert!(extent_header::BYTES == 80 && extent_header::RUN == 36 && extent_header::CHECKSUM == 76);
const _: () =
    assert!(extent_header::BYTES.is_multiple_of(RECORD_ALIGN) && SUPERBLOCKS_BYTES.is_multiple_of(RECORD_ALIGN));

/// Fields of every record: offset of each, being the one before plus its size.
pub mod record_header {
    /// `u32`: checksum of all behind it.
    pub const CRC: usize = 0;
    /// `u8`: a [`crate::Kind`].
    pub const KIND: usize = CRC + 4;
    /// `u8`: the flags below.
    pub const FLAGS: usize = KIND + 1;
    /// `u8`: free for the layer above: type and encoding of the value.
    pub const TAG: usize = FLAGS + 1;
    /// `u8`: length of the key, 0 where long.
    pub const KEY_LEN: usize = TAG + 1;
    /// `u16`: length of the value, 0 where long.
    pub const VALUE_LEN: usize = KEY_LEN + 1;
    /// Size of what every record has; here begins the expiry where there is one.
    pub const BYTES: usize = VALUE_LEN + 2;

    /// Size of an expiry: unix time in milliseconds.
    pub const EXPIRY_BYTES: usize = 6;
    /// Size of the long lengths: key, then value, 4 bytes each.
    pub const LONG_BYTES: usize = 8;
    /// Size of a database number.
    pub const DB_BYTES: usize = 2;
    /// Size of a collection id.
    pub const ID_BYTES: usize = 5;
    /// Size of an explicit version.
    pub const VERSION_BYTES: usize = 7;
    /// The largest header.
    pub const BYTES_MAX: usize = BYTES + EXPIRY_BYTES + LONG_BYTES + DB_BYTES + ID_BYTES + VERSION_BYTES;

    /// The record's group goes on with the next record.
    pub const MORE: u8 = 1 << 0;
    /// An expiry follows the header.
    pub const EXPIRY: u8 = 1 << 1;
    /// Long lengths follow.
    pub const LONG: u8 = 1 << 2;
    /// A database number follows; without it, database 0.
    pub const DB: u8 = 1 << 3;
    /// A collection id follows.
    pub const ID: u8 = 1 << 4;
    /// An explicit version follows; without it, the extent's base plus the record's ordinal.
    pub const VERSION: u8 = 1 << 5;
    /// All flags there are.
    pub const FLAGS_ALL: u8 = MORE | EXPIRY | LONG | DB | ID | VERSION;

    /// Where each optional field begins, by flags; only meaningful where the field's flag is set.
    pub(crate) const fn long_at(flags: u8) -> usize {
        BYTES + if flags & EXPIRY != 0 { EXPIRY_BYTES } else { 0 }
    }
    pub(crate) const fn db_at(flags: u8) -> usize {
        long_at(flags) + if flags & LONG != 0 { LONG_BYTES } else { 0 }
    }
    pub(crate) const fn id_at(flags: u8) -> usize {
        db_at(flags) + if flags & DB != 0 { DB_BYTES } else { 0 }
    }
    pub(crate) const fn version_at(flags: u8) -> usize {
        id_at(flags) + if flags & ID != 0 { ID_BYTES } else { 0 }
    }
    const fn end(flags: u8) -> usize {
        version_at(flags) + if flags & VERSION != 0 { VERSION_BYTES } else { 0 }
    }

    /// Where the key begins, by flags: one cache line.
    static KEY_AT: [u8; 64] = {
        let mut table = [0; 64];
        let mut flags = 0;
        while flags < 64 {
            table[flags] = end(flags as u8) as u8;
            flags += 1;
        }
        table
    };

    /// Where the key begins in a record with these flags.
    #[inline(always)]
    pub(crate) fn key_at(flags: u8) -> usize {
        KEY_AT[(flags & FLAGS_ALL) as usize] as usize
    }
}
const _: () = assert!(record_header::BYTES == 10 && record_header::BYTES_MAX == 38 && record_header::FLAGS_ALL == 63);
const _: () = assert!(record_bytes(0, 14, 64) == 88 && record_bytes(record_header::EXPIRY, 14, 64) == 96);

/// What a record takes on the medium: header with the fields of `flags`, key and value, rounded up
/// to 8 bytes.
pub(crate) const fn record_bytes(flags: u8, key_len: usize, value_len: usize) -> usize {
    let mut header = record_header::BYTES;
    let fields = [
        (record_header::EXPIRY, record_header::EXPIRY_BYTES),
        (record_header::LONG, record_header::LONG_BYTES),
        (record_header::DB, record_header::DB_BYTES),
        (record_header::ID, record_header::ID_BYTES),
        (record_header::VERSION, record_header::VERSION_BYTES),
    ];
    let mut i = 0;
    while i < fields.len() {
        if flags & fields[i].0 != 0 {
            header += fields[i].1;
        }
        i += 1;
    }
    (header + key_len + value_len).next_multiple_of(RECORD_ALIGN)
}

/// The most that a record of this key and value can take on the medium, whatever else it carries.
/// What to reserve.
pub const fn record_bytes_max(key_len: usize, value_len: usize) -> usize {
    (record_header::BYTES_MAX + key_len + value_len).next_multiple_of(RECORD_ALIGN)
}

/// What an extent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExtentKind {
    /// Records in the order in which they were appended.
    Appended = 1,
    /// Records that compaction moved here, in no order.
    Compacted = 2,
    /// Appended records, one of them or a group of them too large for an extent: a run.
    Large = 3,
    /// Retired: checkpoints lie in files of their own.
    Checkpoint = 4,
    /// Nothing any more: recovery dropped it from the end of the log. Only invalid headers say so.
    Dropped = 5,
}

impl ExtentKind {
    /// The kind of this number.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Appended,
            2 => Self::Compacted,
            3 => Self::Large,
            4 => Self::Checkpoint,
            5 => Self::Dropped,
            _ => return None,
        })
    }
}

/// An extent's header, whole and believable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtentHeader {
    /// The pool that the extent belongs to.
    pub pool_id: u64,
    /// Number of this opening of the extent.
    pub sequence: u64,
    /// Version of the first record that carries none.
    pub version_base: u64,
    /// What the extent holds.
    pub kind: ExtentKind,
    /// How many neighbouring extents the header speaks for, at least 1.
    pub run: u32,
    /// Extents of a lower sequence were durable to their ends when this one was opened.
    pub whole_before: u64,
    /// But for the one of this sequence, 0 for none.
    pub except: u64,
    /// The extent that records were appended to before: its sequence, 0 for none, and its number.
    pub before: (u64, u32),
    /// What the layer above wants to know first.
    pub hint: u64,
}

/// Bytes that are no extent header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentHeaderError {
    /// It does not begin with [`EXTENT_MAGIC`].
    Magic(u64),
    /// The checksum does not agree with the rest.
    Checksum,
    /// The checksum agrees, yet the kind is none that we know.
    Kind(u8),
    /// The checksum agrees, yet it speaks for no extent.
    Run,
    /// The checksum agrees, yet its sequence or version is beyond what a pool comes to ([`NUMBER_MAX`]), or it tells of extents that
    /// were opened after it.
    Number,
}

impl ExtentHeader {
    /// The header as it lies on the medium.
    pub fn to_bytes(&self) -> [u8; extent_header::BYTES] {
        use extent_header::*;
        let mut bytes = [0; BYTES];
        bytes[MAGIC..POOL_ID].copy_from_slice(&EXTENT_MAGIC.to_le_bytes());
        bytes[POOL_ID..SEQUENCE].copy_from_slice(&self.pool_id.to_le_bytes());
        bytes[SEQUENCE..VERSION_BASE].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[VERSION_BASE..KIND].copy_from_slice(&self.version_base.to_le_bytes());
        bytes[KIND] = self.kind as u8;
        bytes[RUN..WHOLE_BEFORE].copy_from_slice(&self.run.to_le_bytes());
        bytes[WHOLE_BEFORE..EXCEPT].copy_from_slice(&self.whole_before.to_le_bytes());
        bytes[EXCEPT..BEFORE].copy_from_slice(&self.except.to_le_bytes());
        bytes[BEFORE..BEFORE_EXTENT].copy_from_slice(&self.before.0.to_le_bytes());
        bytes[BEFORE_EXTENT..HINT].copy_from_slice(&self.before.1.to_le_bytes());
        bytes[HINT..CHECKSUM].copy_from_slice(&self.hint.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header that was made invalid: what it was.
    pub(crate) fn former(bytes: &[u8; extent_header::BYTES]) -> Option<Self> {
        let (magic, _) = bytes.split_at(extent_header::POOL_ID);
        if magic.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut whole = *bytes;
        whole[..extent_header::POOL_ID].copy_from_slice(&EXTENT_MAGIC.to_le_bytes());
        Self::parse(&whole).ok()
    }

    /// Reads a header from a medium.
    ///
    /// # Errors
    /// Which part of it is not to be believed.
    pub fn parse(bytes: &[u8; extent_header::BYTES]) -> Result<Self, ExtentHeaderError> {
        use extent_header::*;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if u64_at(MAGIC) != EXTENT_MAGIC {
            return Err(ExtentHeaderError::Magic(u64_at(MAGIC)));
        }
        if u32_at(CHECKSUM) != crc32fast::hash(&bytes[..CHECKSUM]) {
            return Err(ExtentHeaderError::Checksum);
        }
        let kind = ExtentKind::from_byte(bytes[KIND]).ok_or(ExtentHeaderError::Kind(bytes[KIND]))?;
        let run = u32_at(RUN);
        if run == 0 {
            return Err(ExtentHeaderError::Run);
        }
        let sequence = u64_at(SEQUENCE);
        let is_behind = u64_at(WHOLE_BEFORE) <= sequence && [EXCEPT, BEFORE].iter().all(|at| u64_at(*at) <= sequence);
        if sequence.max(u64_at(VERSION_BASE)) > NUMBER_MAX || !is_behind {
            return Err(ExtentHeaderError::Number);
        }
        Ok(Self {
            pool_id: u64_at(POOL_ID),
            sequence: u64_at(SEQUENCE),
            version_base: u64_at(VERSION_BASE),
            kind,
            run,
            whole_before: u64_at(WHOLE_BEFORE),
            except: u64_at(EXCEPT),
            before: (u64_at(BEFORE), u32_at(BEFORE_EXTENT)),
            hint: u64_at(HINT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_begins_behind_the_flagged_fields() {
        // The drawing's order and sizes and the table agree, for every combination of flags.
        for flags in 0..=record_header::FLAGS_ALL {
            let unpadded = record_header::key_at(flags) + 7;
            assert_eq!(record_bytes(flags, 3, 4), unpadded.next_multiple_of(8), "flags {flags:06b}");
        }
        assert_eq!(record_header::key_at(record_header::FLAGS_ALL), record_header::BYTES_MAX);
    }

    #[test]
    fn extent_header_survives_its_bytes_and_nothing_else() {
        // What was written is read; with any one bit changed it is an error.
        let header = ExtentHeader {
            pool_id: 7,
            sequence: 1 << 40,
            version_base: 99,
            kind: ExtentKind::Compacted,
            run: 3,
            whole_before: 17,
            except: 12,
            before: (16, 3),
            hint: 5,
        };
        let bytes = header.to_bytes();
        assert_eq!(ExtentHeader::parse(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ExtentHeader::parse(&flipped).is_err(), "bit {bit}");
        }
    }
}
