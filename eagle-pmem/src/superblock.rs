//! The superblock: what a pool file says of itself before anything else of it is believed.
//!
//! ```text
//!  0       8         16           24        32      34       36     37     38   40          48        64           72    4092       4096
//!  ├───────┼─────────┼────────────┼─────────┼───────┼────────┼──────┼──────┼────┼───────────┼─────────┼────────────┼┄┄┄┄┄┼──────────┤
//!  │ magic │ version │ generation │ pool id │ shard │ shards │ slot │extent│ 0  │ hash seed │ boot id │ checkpoint │  0  │ checksum │
//!  │       │ 4, zeros│            │         │       │        │ map  │shift │    │           │         │            │     │          │
//!  └───────┴─────────┴────────────┴─────────┴───────┴────────┴──────┴──────┴────┴───────────┴─────────┴────────────┴┄┄┄┄┄┴──────────┘
//! ```
//!
//! A pool has two copies, written in turn: generation `g` goes to copy `g % 2`, so the other copy stays whole whatever happens to
//! the one being written. The newer whole copy counts. A file whose copies are both zeros was never finished: nothing was
//! acknowledged in it.

use crate::layout::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, SUPERBLOCKS_BYTES};
use std::fmt;

/// Size of one copy in bytes: a page, so that it is written whole by what writes pages whole.
pub const SUPERBLOCK_BYTES: usize = SUPERBLOCKS_BYTES / 2;

/// "EAGLEPOL", the first bytes of a pool.
pub(crate) const SUPERBLOCK_MAGIC: u64 = u64::from_le_bytes(*b"EAGLEPOL");

/// The version of the format that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Fields of a copy: offset of each.
mod field {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = MAGIC + 8;
    pub(super) const GENERATION: usize = VERSION + 8;
    pub(super) const POOL_ID: usize = GENERATION + 8;
    pub(super) const SHARD: usize = POOL_ID + 8;
    pub(super) const SHARDS: usize = SHARD + 2;
    pub(super) const SLOT_MAP: usize = SHARDS + 2;
    pub(super) const EXTENT_SHIFT: usize = SLOT_MAP + 1;
    pub(super) const HASH_SEED: usize = EXTENT_SHIFT + 1 + 2;
    pub(super) const BOOT_ID: usize = HASH_SEED + 8;
    pub(super) const CHECKPOINT: usize = BOOT_ID + 16;
    pub(super) const ZEROS: usize = CHECKPOINT + 8;
    pub(super) const CHECKSUM: usize = super::SUPERBLOCK_BYTES - 4;
}
const _: () = assert!(field::HASH_SEED == 40 && field::ZEROS == 72 && field::CHECKSUM == 4092);

/// How the slots of the keyspace are dealt out to shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SlotMap {
    /// Slot `s` belongs to shard `s % shards`.
    Modulo = 1,
}

/// What a pool says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Rises by one each time that a copy is written.
    pub generation: u64,
    /// Distinguishes the pool's bytes from any other's.
    pub pool_id: u64,
    /// Which shard the pool is of, below `shards`.
    pub shard: u16,
    /// How many shards the node had.
    pub shards: u16,
    /// How slots were dealt out to them.
    pub slot_map: SlotMap,
    /// Size of an extent in bytes: a power of two between 64 KiB and 1 GiB.
    pub extent_bytes: usize,
    /// Seed of the hashes of keys.
    pub hash_seed: u64,
    /// The kernel's boot id when the pool was last opened: with the same one, what was written is there.
    pub boot_id: [u8; 16],
    /// Retired, always 0: checkpoints lie in files of their own ([`crate::Checkpoint`]).
    pub checkpoint: u64,
}

/// Bytes that are no superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SuperblockError {
    /// Nothing but zeros: the pool was never finished.
    Blank,
    /// It does not begin with "EAGLEPOL": no pool of ours.
    Magic(u64),
    /// A version of the format that this program does not know.
    Version(u32),
    /// The checksum does not agree with the rest.
    Checksum {
        /// What the copy says.
        found: u32,
        /// What its bytes amount to.
        computed: u32,
    },
    /// The checksum agrees, yet the field of this name has no possible value.
    Field(&'static str),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => write!(f, "its superblock was never written"),
            Self::Magic(found) => {
                write!(f, "it begins with {:?}, not EAGLEPOL", found.to_le_bytes().escape_ascii().to_string())
            }
            Self::Version(found) => write!(f, "its format is version {found}, this program knows {FORMAT_VERSION}"),
            Self::Checksum { found, computed } => {
                write!(f, "its superblock has checksum {found:#010x}, computed {computed:#010x}")
            }
            Self::Field(name) => write!(f, "its superblock has an impossible {name}"),
        }
    }
}

impl std::error::Error for SuperblockError {}

impl Superblock {
    /// The copy as it lies on the medium.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(field::MAGIC, &SUPERBLOCK_MAGIC.to_le_bytes());
        put(field::VERSION, &FORMAT_VERSION.to_le_bytes());
        put(field::GENERATION, &self.generation.to_le_bytes());
        put(field::POOL_ID, &self.pool_id.to_le_bytes());
        put(field::SHARD, &self.shard.to_le_bytes());
        put(field::SHARDS, &self.shards.to_le_bytes());
        put(field::SLOT_MAP, &[self.slot_map as u8]);
        put(field::EXTENT_SHIFT, &[self.extent_bytes.trailing_zeros() as u8]);
        put(field::HASH_SEED, &self.hash_seed.to_le_bytes());
        put(field::BOOT_ID, &self.boot_id);
        put(field::CHECKPOINT, &self.checkpoint.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..field::CHECKSUM]);
        bytes[field::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Where the copy of this generation lies in the pool.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.generation % 2 * SUPERBLOCK_BYTES as u64
    }

    /// Reads one copy.
    ///
    /// # Errors
    /// Why it is not to be believed.
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, SuperblockError> {
        let number = |at: usize, len: usize| {
            let mut number = [0; 8];
            number[..len].copy_from_slice(&bytes[at..at + len]);
            u64::from_le_bytes(number)
        };
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(SuperblockError::Blank);
        }
        let magic = number(field::MAGIC, 8);
        if magic != SUPERBLOCK_MAGIC {
            return Err(SuperblockError::Magic(magic));
        }
        let (found, computed) = (number(field::CHECKSUM, 4) as u32, crc32fast::hash(&bytes[..field::CHECKSUM]));
        if found != computed {
            return Err(SuperblockError::Checksum { found, computed });
        }
        let version = number(field::VERSION, 4) as u32;
        if version != FORMAT_VERSION {
            return Err(SuperblockError::Version(version));
        }
        let (shard, shards) = (number(field::SHARD, 2) as u16, number(field::SHARDS, 2) as u16);
        if shard >= shards {
            return Err(SuperblockError::Field("shard"));
        }
        if bytes[field::SLOT_MAP] != SlotMap::Modulo as u8 {
            return Err(SuperblockError::Field("slot map"));
        }
        let extent_bytes = 1_usize.checked_shl(bytes[field::EXTENT_SHIFT].into()).unwrap_or(0);
        if !(EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&extent_bytes) {
            return Err(SuperblockError::Field("extent size"));
        }
        Ok(Self {
            generation: number(field::GENERATION, 8),
            pool_id: number(field::POOL_ID, 8),
            shard,
            shards,
            slot_map: SlotMap::Modulo,
            extent_bytes,
            hash_seed: number(field::HASH_SEED, 8),
            boot_id: bytes[field::BOOT_ID..field::CHECKPOINT].try_into().expect("16 bytes"),
            checkpoint: number(field::CHECKPOINT, 8),
        })
    }

    /// Reads both copies; the newer whole one counts.
    ///
    /// # Errors
    /// Neither is to be believed: why, of the one that tells more.
    pub fn newest(bytes: &[u8; SUPERBLOCKS_BYTES]) -> Result<Self, SuperblockError> {
        let (a, b) = bytes.split_at(SUPERBLOCK_BYTES);
        let [a, b] = [a, b].map(|copy| Self::parse(copy.try_into().expect("a copy's bytes")));
        match (a, b) {
            (Ok(a), Ok(b)) => Ok(if a.generation >= b.generation { a } else { b }),
            (Ok(whole), Err(_)) | (Err(_), Ok(whole)) => Ok(whole),
            (Err(SuperblockError::Blank), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            generation: 6,
            pool_id: 0x0102_0304_0506_0708,
            shard: 3,
            shards: 4,
            slot_map: SlotMap::Modulo,
            extent_bytes: 8 << 20,
            hash_seed: 99,
            boot_id: *b"0123456789abcdef",
            checkpoint: 1 << 30,
        }
    }

    fn copies(copies: [Superblock; 2]) -> [u8; SUPERBLOCKS_BYTES] {
        let mut bytes = [0; SUPERBLOCKS_BYTES];
        for copy in copies {
            let at = copy.place() as usize;
            bytes[at..at + SUPERBLOCK_BYTES].copy_from_slice(&copy.to_bytes());
        }
        bytes
    }

    #[test]
    fn a_superblock_is_read_as_it_was_written() {
        // Each field, at the place that the drawing gives it.
        let bytes = superblock().to_bytes();
        assert_eq!(Superblock::parse(&bytes), Ok(superblock()));
        assert_eq!(&bytes[..12], b"EAGLEPOL\x01\0\0\0");
        assert_eq!(bytes[16..24], 6_u64.to_le_bytes());
        assert_eq!(bytes[32..38], [3, 0, 4, 0, 1, 23]);
        assert_eq!(&bytes[48..64], b"0123456789abcdef");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        // Of all bits of a copy, the checksum's own included.
        let bytes = superblock().to_bytes();
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::parse(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_newer_whole_copy_counts() {
        // Generations are written in turn; a copy torn while it was written leaves the one before it.
        let old = superblock();
        let new = Superblock { generation: 7, checkpoint: 0, ..old };
        assert_ne!(old.place(), new.place());
        let both = copies([old, new]);
        assert_eq!(Superblock::newest(&both), Ok(new));
        for torn in 0..SUPERBLOCK_BYTES / 512 {
            let mut bytes = copies([old, Superblock { generation: 5, ..old }]);
            let at = new.place() as usize;
            bytes[at..at + torn * 512].copy_from_slice(&new.to_bytes()[..torn * 512]);
            assert_eq!(Superblock::newest(&bytes), Ok(old), "{torn} sectors");
        }
    }

    #[test]
    fn what_is_no_pool_says_why() {
        // A blank file, another program's, one of a later version, and one that was never finished but for half a copy.
        let blank = [0; SUPERBLOCKS_BYTES];
        assert_eq!(Superblock::newest(&blank), Err(SuperblockError::Blank));
        let mut other = blank;
        other[..8].copy_from_slice(b"REDIS001");
        assert_eq!(Superblock::newest(&other), Err(SuperblockError::Magic(u64::from_le_bytes(*b"REDIS001"))));
        let mut later = superblock().to_bytes();
        later[8] = 2;
        let checksum = crc32fast::hash(&later[..field::CHECKSUM]);
        later[field::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Superblock::parse(&later), Err(SuperblockError::Version(2)));
        let mut half = blank;
        half[SUPERBLOCK_BYTES..SUPERBLOCK_BYTES + 512].copy_from_slice(&superblock().to_bytes()[..512]);
        assert!(matches!(Superblock::newest(&half), Err(SuperblockError::Checksum { .. })));
    }
}
