//! A slot: one of the 16384 numbers that Redis Cluster spreads keys over, and nothing else.
//!
//! The slot of a key is CRC16-XMODEM of the key, or of its *hash tag*, modulo 16384. The hash tag is what
//! stands between the first `{` and the first `}` behind it, if that is not empty; it is how a client keeps
//! keys together (`{user:7}.name`, `{user:7}.mail`).
//!
//! The CRC takes eight bytes a step from tables made at compile time ("slicing"), because every command
//! with a key pays for it.
//!
//! From: Redis Cluster Specification, "Key distribution model" and "Hash tags".

/// How many slots there are.
pub const SLOT_COUNT: usize = 16384;

/// The number of a slot, always below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u16);

impl SlotId {
    /// Slot 0.
    pub const ZERO: SlotId = SlotId(0);

    /// The slot with this number, or `None` from 16384 on.
    pub const fn new(number: u16) -> Option<SlotId> {
        if (number as usize) < SLOT_COUNT { Some(SlotId(number)) } else { None }
    }

    /// The slot of a key: of its hash tag if it has one, else of the whole key.
    #[inline]
    pub fn of(key: &[u8]) -> SlotId {
        SlotId(crc16(hashed_part(key)) % SLOT_COUNT as u16)
    }

    /// Its number, 0..16384.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its number as an index into an array of [`SLOT_COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The hash tag of `key`, or all of it where it has none.
#[inline]
fn hashed_part(key: &[u8]) -> &[u8] {
    if may_have_tag(key) { tag_or_key(key) } else { key }
}

/// Whether there may be a `{` in `key`: inline and in few instructions for the short keys that most are.
#[inline]
fn may_have_tag(key: &[u8]) -> bool {
    const SHORT: usize = 32;
    const ONES: u64 = u64::MAX / 0xff;
    let has_open = |word: &[u8; 8]| {
        let difference = u64::from_ne_bytes(*word) ^ (ONES * u64::from(b'{'));
        difference.wrapping_sub(ONES) & !difference & (ONES << 7) != 0
    };
    match key.last_chunk() {
        Some(_) if key.len() > SHORT => true,
        Some(last) => has_open(last) | key.as_chunks().0.iter().any(has_open),
        None => key.contains(&b'{'),
    }
}

#[inline(never)]
fn tag_or_key(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else {
        return key;
    };
    let behind = &key[open + 1..];
    match memchr::memchr(b'}', behind) {
        Some(length) if length > 0 => &behind[..length],
        _ => key,
    }
}

/// CRC16-XMODEM: polynomial 0x1021, most significant bit first, starting from 0.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        crc = step::<8>(crc, chunk);
    }
    let mut rest = chunks.remainder();
    if rest.len() >= 4 {
        crc = step::<4>(crc, &rest[..4]);
        rest = &rest[4..];
    }
    if rest.len() >= 2 {
        crc = step::<2>(crc, &rest[..2]);
        rest = &rest[2..];
    }
    match rest {
        [last] => (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ last)],
        _ => crc,
    }
}

/// Takes `N` bytes (at least two) at once: the byte that is `k` from the end of them is looked up in table `k`.
#[inline]
fn step<const N: usize>(crc: u16, bytes: &[u8]) -> u16 {
    let [high, low] = crc.to_be_bytes();
    let mut next = TABLES[N - 1][usize::from(bytes[0] ^ high)] ^ TABLES[N - 2][usize::from(bytes[1] ^ low)];
    for i in 2..N {
        next ^= TABLES[N - 1 - i][usize::from(bytes[i])];
    }
    next
}

/// `TABLES[k][b]`: the CRC of byte `b` followed by `k` zero bytes.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc16_bitwise(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for byte in bytes {
            crc ^= u16::from(*byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            }
        }
        crc
    }

    #[test]
    fn check_value_of_the_specification() {
        // The specification's own check value, and slots that redis-cli reports.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(SlotId::of(b"foo").get(), 12182);
        assert_eq!(SlotId::of(b"").get(), 0);
    }

    #[test]
    fn slicing_agrees_with_the_bitwise_definition() {
        // Every length to 70 bytes gives the CRC that the definition gives bit by bit.
        let bytes: Vec<u8> = (0..70u8).map(|i| i.wrapping_mul(151).wrapping_add(17)).collect();
        for length in 0..=bytes.len() {
            assert_eq!(crc16(&bytes[..length]), crc16_bitwise(&bytes[..length]), "length {length}");
        }
    }

    #[test]
    fn a_tag_is_seen_wherever_it_begins() {
        // At every place of keys of every length up to the limit of the short form and beyond.
        for len in 0..80 {
            let plain = vec![b'z'; len];
            assert_eq!(SlotId::of(&plain).0, crc16_bitwise(&plain) % 16384);
            for open in 0..len.saturating_sub(2) {
                let mut key = plain.clone();
                (key[open], key[open + 2]) = (b'{', b'}');
                assert_eq!(SlotId::of(&key).0, crc16_bitwise(b"z") % 16384, "length {len}, at {open}");
            }
        }
    }

    #[test]
    fn hash_tags_as_the_specification_has_them() {
        // The specification's examples: the first { and the first } behind it, and never an empty tag.
        assert_eq!(hashed_part(b"{user1000}.following"), b"user1000");
        assert_eq!(hashed_part(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hashed_part(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hashed_part(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hashed_part(b"}{"), b"}{");
        assert_eq!(hashed_part(b"a}b{c}"), b"c");
        assert_eq!(SlotId::of(b"{user1000}.following"), SlotId::of(b"user1000"));
    }

    #[test]
    fn numbers_end_at_16383() {
        // A slot cannot be made from a number out of range.
        assert_eq!(SlotId::new(16383).map(SlotId::get), Some(16383));
        assert_eq!(SlotId::new(16384), None);
    }
}
