//! The word: the eight bytes that the index keeps of an entry beside its fingerprint.
//!
//! ```text
//!  63         50 49       40  39  38 36 35                                  0
//!  ├────────────┼───────────┼────┼─────┼────────────────────────────────────┤
//!  │ hash  14   │ heat  10  │ ex │ tag │ offset  36                         │
//!  └────────────┴───────────┴────┴─────┴────────────────────────────────────┘
//! ```
//!
//! - **offset** is where the record lies, in units that the keyspace chooses.
//! - **tag** and **heat** are the keyspace's too: type of the value, and how lately it was used.
//! - **ex** says that the record carries an expiry.
//! - **hash** belongs to the index: a window of 14 bits of the entry's position (see `hash`), from which splits,
//!   merges and scans learn where the entry belongs without reading its record.

/// Bits of the offset.
pub const OFFSET_BITS: u32 = 36;
/// Bits of the type tag.
pub const TAG_BITS: u32 = 3;
/// Bits of the heat.
pub const HEAT_BITS: u32 = 10;
/// Bits of the window of the position.
pub(super) const WINDOW_BITS: u32 = 14;

const TAG_AT: u32 = OFFSET_BITS;
const EXPIRY_AT: u32 = TAG_AT + TAG_BITS;
const HEAT_AT: u32 = EXPIRY_AT + 1;
const WINDOW_AT: u32 = HEAT_AT + HEAT_BITS;
const _: () = assert!(WINDOW_AT + WINDOW_BITS == u64::BITS);
const _: () = assert!(size_of::<Word>() == 8);

/// Where an entry's record lies, and what is worth knowing without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(u64);

impl Word {
    pub(super) const ZERO: Word = Word(0);

    /// A word without expiry and heat.
    ///
    /// Panics if `offset` needs more than [`OFFSET_BITS`] or `tag` more than [`TAG_BITS`].
    #[inline]
    pub const fn new(offset: u64, tag: u8) -> Word {
        assert!(offset >> OFFSET_BITS == 0 && tag >> TAG_BITS == 0);
        Word(offset | (tag as u64) << TAG_AT)
    }

    /// Where the record lies.
    #[inline]
    pub const fn offset(self) -> u64 {
        self.field(0, OFFSET_BITS)
    }

    /// The type tag.
    #[inline]
    pub const fn tag(self) -> u8 {
        self.field(TAG_AT, TAG_BITS) as u8
    }

    /// Whether the record carries an expiry.
    #[inline]
    pub const fn has_expiry(self) -> bool {
        self.field(EXPIRY_AT, 1) == 1
    }

    /// How lately or how often the entry was used: 0..1024, in the keyspace's own coding.
    #[inline]
    pub const fn heat(self) -> u16 {
        self.field(HEAT_AT, HEAT_BITS) as u16
    }

    #[inline]
    pub(super) const fn window(self) -> u16 {
        self.field(WINDOW_AT, WINDOW_BITS) as u16
    }

    /// The same with another offset. Panics if it needs more than [`OFFSET_BITS`].
    #[inline]
    pub const fn with_offset(self, offset: u64) -> Word {
        self.with_field(0, OFFSET_BITS, offset)
    }

    /// The same with another type tag. Panics if it needs more than [`TAG_BITS`].
    #[inline]
    pub const fn with_tag(self, tag: u8) -> Word {
        self.with_field(TAG_AT, TAG_BITS, tag as u64)
    }

    /// The same with or without an expiry.
    #[inline]
    pub const fn with_expiry(self, has_expiry: bool) -> Word {
        self.with_field(EXPIRY_AT, 1, has_expiry as u64)
    }

    /// The same with another heat. Panics if it needs more than [`HEAT_BITS`].
    #[inline]
    pub const fn with_heat(self, heat: u16) -> Word {
        self.with_field(HEAT_AT, HEAT_BITS, heat as u64)
    }

    #[inline]
    pub(super) const fn with_window(self, window: u16) -> Word {
        self.with_field(WINDOW_AT, WINDOW_BITS, window as u64)
    }

    #[inline]
    const fn field(self, at: u32, bits: u32) -> u64 {
        (self.0 >> at) & ((1 << bits) - 1)
    }

    #[inline]
    const fn with_field(self, at: u32, bits: u32, value: u64) -> Word {
        assert!(value >> bits == 0);
        let mask = ((1 << bits) - 1) << at;
        Word((self.0 & !mask) | value << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        // Each field, set to all ones and back, leaves the others as they were.
        let word = Word::new(0x5_5555_5555, 5).with_expiry(true).with_heat(0x155).with_window(0x1555);
        let seen = |w: Word| (w.offset(), w.tag(), w.has_expiry(), w.heat(), w.window());
        assert_eq!(seen(word), (0x5_5555_5555, 5, true, 0x155, 0x1555));
        assert_eq!(seen(word.with_offset((1 << 36) - 1)), ((1 << 36) - 1, 5, true, 0x155, 0x1555));
        assert_eq!(seen(word.with_tag(7)), (0x5_5555_5555, 7, true, 0x155, 0x1555));
        assert_eq!(seen(word.with_expiry(false)), (0x5_5555_5555, 5, false, 0x155, 0x1555));
        assert_eq!(seen(word.with_heat(0x3ff)), (0x5_5555_5555, 5, true, 0x3ff, 0x1555));
        assert_eq!(seen(word.with_window(0x3fff)), (0x5_5555_5555, 5, true, 0x155, 0x3fff));
    }
}
