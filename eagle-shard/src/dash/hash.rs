//! A position: the 64 bits by which the index orders its entries.
//!
//! ```text
//!  KeyHash    63                                                  8 7           0
//!             ├────────────────────────────────────────────────────┼─────────────┤
//!             │ path 56                                            │ fingerprint │   XXH3-64 of the key, seeded
//!             └────────────────────────────────────────────────────┴─────────────┘
//!  Position   63      56 55                                                     0
//!             ├─────────┼────────────────────────────────────────────────────────┤
//!             │ root 8  │ path 56                                                │   root: from the slot
//!             └─────────┴────────────────────────────────────────────────────────┘
//!             ├── a segment's prefix, `depth` bits ──┼─ unit 8 ─┤
//!                             ├── window in a word, 14 bits ────┤
//! ```
//!
//! A segment of depth `d` holds the positions that begin with its prefix of `d` bits, the next
//! [`UNIT_BITS`] bits decide the home bucket: the buckets lie in the order of positions, too. So the whole
//! table is in order of position but for what is displaced or stashed, and a split, a merge, another number
//! of buckets and a scan's cursor are all statements about intervals of one line.
//!
//! The root is the top of the slot's number after a permutation of the 16384 numbers, chosen so that both
//! the slots of one shard (slot modulo shards) and a cluster node's contiguous range spread over all roots.
//!
//! A word keeps a window of the position. Which 14 bits is a matter of its segment ([`Position::window`]):
//! prefix and window together must reach to the end of the unit.

use super::word::WINDOW_BITS;
use crate::slot::{SLOT_COUNT, SlotId};

/// Bits of a position that name its root.
pub(super) const ROOT_BITS: u32 = 8;
/// Bits behind a segment's prefix that decide the home bucket.
pub(super) const UNIT_BITS: u32 = 8;

/// XXH3-64 of a key. It decides where an entry lies; nothing may assume that it is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The hash of `key` under the pool's seed.
    #[inline]
    pub fn of(seed: u64, key: &[u8]) -> KeyHash {
        KeyHash(xxhash_rust::xxh3::xxh3_64_with_seed(key, seed))
    }

    /// Takes over a hash made elsewhere. All 64 bits must be spread as well as XXH3 spreads them.
    #[inline]
    pub const fn from_raw(hash: u64) -> KeyHash {
        KeyHash(hash)
    }

    /// All 64 bits.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The 8 bits that a bucket is probed for, 1..=255: 0 marks an empty entry.
    #[inline]
    pub(super) const fn fingerprint(self) -> u8 {
        let bits = self.0 as u8;
        if bits == 0 { 1 } else { bits }
    }

    /// The 56 bits that order the entries of one root.
    #[inline]
    const fn path(self) -> u64 {
        self.0 >> 8
    }
}

/// What the index must know of a key: its slot and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The slot, by whose root entries lie together.
    pub slot: SlotId,
    /// The hash of the whole key, hash tag or not.
    pub hash: KeyHash,
}

impl Hashed {
    /// Hashes a key of the keyspace.
    #[inline]
    pub fn of_key(seed: u64, key: &[u8]) -> Hashed {
        Hashed { slot: SlotId::of(key), hash: KeyHash::of(seed, key) }
    }

    /// An element of a collection: all of a table's elements share slot 0, and their table needs but one root.
    #[inline]
    pub const fn of_element(hash: KeyHash) -> Hashed {
        Hashed { slot: SlotId::ZERO, hash }
    }

    #[inline]
    pub(super) fn position(self) -> Position {
        Position::new(root_of(self.slot), self.hash)
    }
}

/// The root under which a slot's entries lie, 0..256.
#[inline]
pub(super) const fn root_of(slot: SlotId) -> usize {
    // Odd, hence a permutation; of all such, 2611 spreads shards, ranges and their combinations well (see the test).
    let mixed = (slot.get() as usize * 2611) % SLOT_COUNT;
    mixed >> (SLOT_COUNT.ilog2() - ROOT_BITS)
}

/// Where an entry belongs on the line that the table is laid along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(pub(super) u64);

impl Position {
    #[inline]
    pub(super) const fn new(root: usize, hash: KeyHash) -> Position {
        Position((root as u64) << (u64::BITS - ROOT_BITS) | hash.path())
    }

    #[inline]
    pub(super) const fn root(self) -> usize {
        (self.0 >> (u64::BITS - ROOT_BITS)) as usize
    }

    /// The `WINDOW_BITS` bits from bit `base` on, counted from the top.
    #[inline]
    pub(super) const fn window(self, base: u8) -> u16 {
        ((self.0 << base) >> (u64::BITS - WINDOW_BITS)) as u16
    }

    /// The bits that decide the home bucket in a segment of this depth.
    #[inline]
    pub(super) const fn unit(self, depth: u8) -> u32 {
        ((self.0 << depth) >> (u64::BITS - UNIT_BITS)) as u32
    }

    /// Bit `at`, counted from the top.
    #[inline]
    pub(super) const fn bit(self, at: u8) -> bool {
        (self.0 << at) >> (u64::BITS - 1) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_even_for_shards_and_ranges() {
        // The slots of every nth shard of every mth node use most roots they could, none much more than its share.
        for nodes in 1..=16 {
            for shards in 1..=64 / nodes {
                for (node, shard) in (0..nodes).flat_map(|node| (0..shards).map(move |shard| (node, shard))) {
                    let first = node * SLOT_COUNT / nodes;
                    let slots = (first..first + SLOT_COUNT / nodes).filter(|slot| slot % shards == shard);
                    let mut counts = [0; 1 << ROOT_BITS];
                    slots.clone().for_each(|slot| counts[root_of(SlotId::new(slot as u16).unwrap())] += 1);
                    let (count, most) = (slots.count(), *counts.iter().max().unwrap());
                    let used = counts.iter().filter(|count| **count > 0).count();
                    let what = format!("{nodes} nodes {shards} shards: {used} roots for {count}, at most {most}");
                    assert!(used * 4 >= count.min(256) * 3 && most <= count * 2 / 256 + 2, "{what}");
                }
            }
        }
    }

    #[test]
    fn fingerprint_is_never_that_of_an_empty_entry() {
        // 0 means empty, so no hash may have it.
        for low in 0..=255u64 {
            assert_ne!(KeyHash::from_raw(low | 7 << 20).fingerprint(), 0);
        }
    }

    #[test]
    fn position_is_cut_where_the_drawing_says() {
        // Root, unit, window and single bits come from the places drawn above.
        let position = Position::new(0xa5, KeyHash::from_raw(0xfedc_ba98_7654_3201));
        assert_eq!(position.0, 0xa5fe_dcba_9876_5432);
        assert_eq!(position.root(), 0xa5);
        assert_eq!(position.unit(8), 0xfe);
        assert_eq!(position.unit(12), 0xed);
        assert_eq!(position.window(8), 0xfedc >> 2);
        assert!(position.bit(0) && !position.bit(1) && !position.bit(15));
    }
}
