//! The checksum of records: CRC32 that is right only in its pool, in this opening of its extent and
//! at its offset.
//!
//! The seed is folded into the CRC by exclusive or. For two bodies of bytes that agree, checksums
//! then agree only if the seeds do. Within a pool, seeds of one offset differ for certain as long
//! as the extent's sequences differ by less than 2^32, and seeds of one extent differ for certain
//! between offsets; else two seeds agree by chance once in 2^32.

use crate::offset::PoolOffset;
use crc32fast::Hasher;

const FACTOR: u32 = 0x9E37_79B1;
/// What undoes a multiplication by `FACTOR`: Newton's iteration doubles the bits that are right, of which there are 3 at first.
const INVERSE: u32 = {
    let mut inverse = FACTOR;
    let mut bits = 3;
    while bits < u32::BITS {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(FACTOR.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
};
const _: () = assert!(FACTOR.wrapping_mul(INVERSE) == 1);

/// What the checksums of one opening of an extent are seeded with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtentSeed(u32);

impl ExtentSeed {
    /// The seed of an extent that is not open.
    pub(crate) const NONE: Self = Self(0);

    /// The seed of the extent that was opened with this sequence.
    pub const fn new(pool_id: u64, sequence: u64) -> Self {
        let high = mix(pool_id ^ mix(sequence >> 32)) as u32;
        // An odd factor maps 32 bits one to one: sequences that differ give seeds that differ.
        Self(high ^ (sequence as u32).wrapping_mul(FACTOR))
    }

    /// The checksum of a record at `offset` whose bytes, but for the checksum, these are: for tools and tests.
    pub fn checksum(self, bytes: &[u8], offset: PoolOffset) -> u32 {
        Checksum::new().of(bytes, self.at(offset))
    }

    /// The sequence of the extent in which `seed` is right at `offset`, if it is within 2^32 of `near`.
    pub(crate) const fn sequence_of(pool_id: u64, seed: u32, offset: PoolOffset, near: u64) -> u64 {
        let high = mix(pool_id ^ mix(near >> 32)) as u32;
        let low = (seed ^ offset.raw() as u32 ^ high).wrapping_mul(INVERSE);
        near >> 32 << 32 | low as u64
    }

    /// The seed of the record at `offset`.
    #[inline(always)]
    pub(crate) const fn at(self, offset: PoolOffset) -> u32 {
        self.0 ^ offset.raw() as u32
    }
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of `x`.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Computes CRC32. Kept, because making one asks for the processor's features, and that costs as
/// much as 20 bytes.
#[derive(Clone)]
pub(crate) struct Checksum {
    fresh: Hasher,
}

impl Checksum {
    pub(crate) fn new() -> Self {
        Self { fresh: Hasher::new() }
    }

    /// The seeded checksum of `bytes`, in one pass: pieces would each pay their own beginning and
    /// end.
    #[inline]
    pub(crate) fn of(&self, bytes: &[u8], seed: u32) -> u32 {
        let mut hasher = self.fresh.clone();
        hasher.update(bytes);
        hasher.finalize() ^ seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic only, and slow")]
    fn seeds_differ_between_openings_and_offsets() {
        // Ten thousand openings of one place, and ten thousand places of one opening, have seeds of
        // their own.
        let place = PoolOffset::from_raw(12_345);
        let mut openings: Vec<u32> = (0..10_000).map(|sequence| ExtentSeed::new(42, sequence).at(place)).collect();
        openings.sort_unstable();
        openings.dedup();
        assert_eq!(openings.len(), 10_000);
        let opening = ExtentSeed::new(42, 7);
        let mut places: Vec<u32> = (1..=10_000).map(|raw| opening.at(PoolOffset::from_raw(raw))).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 10_000);
    }

    #[test]
    fn a_seed_tells_its_sequence() {
        // Of any opening, at any place.
        for (sequence, raw) in [(1, 1034), (77, 1 << 35), ((5 << 32) + 9, 3), (u64::from(u32::MAX), 8)] {
            let offset = PoolOffset::from_raw(raw);
            let seed = ExtentSeed::new(42, sequence).at(offset);
            assert_eq!(ExtentSeed::sequence_of(42, seed, offset, sequence), sequence);
        }
    }

    #[test]
    fn seeds_differ_between_pools() {
        // The same sequence in another pool is another seed.
        assert_ne!(ExtentSeed::new(1, 5), ExtentSeed::new(2, 5));
    }
}
