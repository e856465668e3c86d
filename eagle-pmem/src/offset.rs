//! Positions: where a record lies in a pool, how far a log has come, and the number of a
//! collection.
//!
//! An offset counts units of 8 bytes, since records are 8-byte aligned; 36 bits of it reach 512 GiB
//! and leave the index 28 bits of its 8-byte entry. The superblocks lie at offset 0, so 0 is never
//! a record and may stand for "none".

use crate::layout::RECORD_ALIGN;

/// Where a record begins in its pool, in units of 8 bytes. At most [`PoolOffset::BITS`] bits; 0 is
/// never a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct PoolOffset(u64);

impl PoolOffset {
    /// How many bits an offset takes.
    pub const BITS: u32 = 36;

    /// The offset of which `raw` is the number. Reading a number that no append returned is safe,
    /// but yields no record.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Self {
        debug_assert!(raw >> Self::BITS == 0, "an offset has 36 bits");
        Self(raw)
    }

    /// The number, for an index to keep: non-zero, below 2^36.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The offset of a byte position, which must be aligned to 8.
    #[inline(always)]
    pub(crate) const fn from_byte(byte: u64) -> Self {
        debug_assert!(byte.is_multiple_of(RECORD_ALIGN as u64));
        Self::from_raw(byte / RECORD_ALIGN as u64)
    }

    /// Its distance from the beginning of the pool in bytes.
    #[inline(always)]
    pub const fn byte(self) -> u64 {
        self.0 * RECORD_ALIGN as u64
    }
}

/// How far a log has come: the bytes written to it since it was opened. Never falls; each change
/// raises it, so that who saw position p has seen every change up to p.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Position(u64);

impl Position {
    /// The position of which `raw` is the number.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Moves on by `bytes`.
    #[inline(always)]
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.0 += bytes;
    }
}

/// The number of a large collection, never used again: what its elements carry in place of its key.
/// 40 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct CollectionId(u64);

impl CollectionId {
    /// How many bits a collection id takes.
    pub const BITS: u32 = 40;

    /// The id of which `raw` is the number, below 2^40.
    ///
    /// # Panics
    /// If the number does not fit: a shard that has made 2^40 collections must not wrap around.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        assert!(raw >> Self::BITS == 0, "a collection id has 40 bits");
        Self(raw)
    }

    /// The number.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_counts_units_of_eight_bytes() {
        // The largest offset addresses the last 8 bytes of 512 GiB.
        let last = PoolOffset::from_raw((1 << PoolOffset::BITS) - 1);
        assert_eq!(last.byte() + 8, 512 << 30);
        assert_eq!(PoolOffset::from_byte(last.byte()), last);
    }

    #[test]
    fn position_advances() {
        // A position is a sum of bytes and orders as one.
        let mut position = Position::default();
        position.advance(88);
        assert!(position > Position::default());
        assert_eq!(position, Position::from_raw(88));
    }
}
