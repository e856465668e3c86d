//! A bucket: 28 entries in four cache lines, probed by their fingerprints.
//!
//! ```text
//!  byte 0                      28     32                          64          256
//!  ├───────────────────────────┼──────┼───────────────────────────┼───────────┤
//!  │ 28 fingerprints, 0: empty │ meta │ words 0..4                │ words 4..28│
//!  └───────────────────────────┴──────┴───────────────────────────┴───────────┘
//!  ├──────────────────── line 0 ──────────────────────────────────┤ lines 1..4
//!
//!  meta   31     29   28   27                                  0
//!         ├─────────┼──────┼────────────────────────────────────┤
//!         │stashed 3│next 1│ displaced: one bit an entry        │
//!         └─────────┴──────┴────────────────────────────────────┘
//! ```
//!
//! A *displaced* entry is one whose home is the bucket before (the paper's membership bit). *next* says that the
//! next bucket has entries displaced from here, and *stashed* counts the entries of this home that are in the
//! segment's stash; at 7 it no longer knows and stays. With both zero a lookup ends in its home bucket.
//!
//! All fingerprints are compared at once by SSE2, which every x86-64 has; elsewhere by the scalar twin, and a test
//! holds the two to the same answer. Buckets lie in a checkpoint as they lie in memory: so they are served from where it is
//! mapped, until a segment changes. This is the one file of the crate with `unsafe` in it.
//!
//! From: Dash (Lu et al., PVLDB 13(8), 2020), sections 4.1 to 4.4.

use super::word::Word;
use eagle_pmem::Checkpoint;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Entries of a bucket.
pub(super) const ENTRIES: usize = 28;

const ENTRY_MASK: u32 = (1 << ENTRIES) - 1;
const NEXT: u32 = 1 << ENTRIES;
const STASHED_ONE: u32 = NEXT << 1;
const STASHED_MAX: u32 = 7;
const _: () = assert!(STASHED_ONE as u64 * (STASHED_MAX as u64 + 1) == 1 << u32::BITS);

/// See the drawing at the top.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    fingerprints: [u8; ENTRIES],
    meta: u32,
    words: [Word; ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 256 && align_of::<Bucket>() == 64);
const _: () = assert!(offset_of!(Bucket, fingerprints) == 0 && offset_of!(Bucket, meta) == 28);
const _: () = assert!(offset_of!(Bucket, words) == 32);

/// A set of entries of one bucket, taken out in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entries(u32);

impl Entries {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest of them. There must be one.
    #[inline]
    pub(super) fn first(self) -> usize {
        debug_assert!(self.0 != 0);
        self.0.trailing_zeros() as usize
    }
}

impl Iterator for Entries {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let entry = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(entry)
    }
}

impl Bucket {
    pub(super) const EMPTY: Bucket = Bucket { fingerprints: [0; ENTRIES], meta: 0, words: [Word::ZERO; ENTRIES] };

    /// Entries with this fingerprint whose home is this bucket (or that are stashed here).
    #[inline]
    pub(super) fn matching_at_home(&self, fingerprint: u8) -> Entries {
        Entries(self.matching(fingerprint) & !self.meta)
    }

    /// Entries with this fingerprint whose home is the bucket before.
    #[inline]
    pub(super) fn matching_displaced(&self, fingerprint: u8) -> Entries {
        Entries(self.matching(fingerprint) & self.meta)
    }

    /// All entries in use.
    #[inline]
    pub(super) fn occupied(&self) -> Entries {
        Entries(!self.matching(0) & ENTRY_MASK)
    }

    /// Entries in use whose home is this bucket (or that are stashed here).
    #[inline]
    pub(super) fn at_home(&self) -> Entries {
        Entries(!self.matching(0) & ENTRY_MASK & !self.meta)
    }

    /// Entries in use whose home is the bucket before.
    #[inline]
    pub(super) fn displaced(&self) -> Entries {
        Entries(self.meta & ENTRY_MASK)
    }

    #[inline]
    pub(super) fn is_displaced(&self, entry: usize) -> bool {
        self.meta >> entry & 1 == 1
    }

    /// Places not in use.
    #[inline]
    pub(super) fn free(&self) -> Entries {
        Entries(self.matching(0))
    }

    #[inline]
    pub(super) fn fingerprint(&self, entry: usize) -> u8 {
        self.fingerprints[entry]
    }

    #[inline]
    pub(super) fn word(&self, entry: usize) -> Word {
        self.words[entry]
    }

    /// The words of all entries.
    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        self.occupied().map(|entry| self.words[entry])
    }

    #[inline]
    pub(super) fn set_word(&mut self, entry: usize, word: Word) {
        self.words[entry] = word;
    }

    /// Fills a free place.
    #[inline]
    pub(super) fn put(&mut self, entry: usize, fingerprint: u8, word: Word, displaced: bool) {
        debug_assert!(self.fingerprints[entry] == 0 && fingerprint != 0);
        self.fingerprints[entry] = fingerprint;
        self.words[entry] = word;
        self.meta |= u32::from(displaced) << entry;
    }

    /// Empties a place and returns what it held.
    #[inline]
    pub(super) fn take(&mut self, entry: usize) -> (u8, Word) {
        let fingerprint = std::mem::take(&mut self.fingerprints[entry]);
        debug_assert!(fingerprint != 0);
        self.meta &= !(1 << entry);
        (fingerprint, self.words[entry])
    }

    /// Whether the next bucket or the stash may hold entries whose home is this bucket.
    #[inline]
    pub(super) fn spills(&self) -> bool {
        self.meta & !ENTRY_MASK != 0
    }

    /// Whether the stash may hold entries whose home is this bucket.
    #[inline]
    pub(super) fn has_stashed(&self) -> bool {
        self.meta >= STASHED_ONE
    }

    /// Notes whether the next bucket holds entries whose home is this bucket.
    #[inline]
    pub(super) fn note_in_next(&mut self, some: bool) {
        self.meta = (self.meta & !NEXT) | (u32::from(some) << NEXT.trailing_zeros());
    }

    /// One more entry of this home went to the stash.
    pub(super) fn add_stashed(&mut self) {
        if self.meta / STASHED_ONE < STASHED_MAX {
            self.meta += STASHED_ONE;
        }
    }

    /// An entry of this home left the stash.
    pub(super) fn subtract_stashed(&mut self) {
        debug_assert!(self.has_stashed());
        if self.meta / STASHED_ONE < STASHED_MAX {
            self.meta -= STASHED_ONE;
        }
    }

    /// The entries whose fingerprint byte is `fingerprint`, as bits.
    #[inline]
    fn matching(&self, fingerprint: u8) -> u32 {
        #[cfg(target_arch = "x86_64")]
        return self.matching_sse2(fingerprint);
        #[cfg(not(target_arch = "x86_64"))]
        return self.matching_scalar(fingerprint);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn matching_sse2(&self, fingerprint: u8) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_set1_epi8};
        let lines = std::ptr::from_ref(self).cast::<std::arch::x86_64::__m128i>();
        // SAFETY: a bucket is aligned to 64 and 256 bytes long, so two aligned loads of 16 bytes from its start stay
        // inside it; fingerprints and meta fill these 32 bytes without padding (asserted above), so all are
        // initialised. SSE2 is part of x86-64.
        let (low, high) = unsafe { (_mm_load_si128(lines), _mm_load_si128(lines.add(1))) };
        // SAFETY: as above, SSE2 is part of x86-64.
        let mask = unsafe {
            let wanted = _mm_set1_epi8(fingerprint.cast_signed());
            let low = _mm_movemask_epi8(_mm_cmpeq_epi8(low, wanted)).cast_unsigned();
            let high = _mm_movemask_epi8(_mm_cmpeq_epi8(high, wanted)).cast_unsigned();
            low | high << 16
        };
        mask & ENTRY_MASK
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn matching_scalar(&self, fingerprint: u8) -> u32 {
        let bits = self.fingerprints.iter().enumerate();
        bits.fold(0, |mask, (entry, found)| mask | u32::from(*found == fingerprint) << entry)
    }

    /// Asks for the line with the fingerprints.
    #[inline]
    pub(super) fn prefetch_fingerprints(&self) {
        prefetch(std::ptr::from_ref(self));
    }

    /// Asks for the line with this entry's word.
    #[inline]
    pub(super) fn prefetch_word(&self, entry: usize) {
        prefetch(std::ptr::from_ref(&self.words[entry]));
    }
}

/// The bytes of buckets, as they lie in memory.
pub(super) fn bytes_of(buckets: &[Bucket]) -> &[u8] {
    // SAFETY: buckets have no padding (28 + 4 + 28 * 8 = 256, asserted above), so all of their bytes are initialised.
    unsafe { std::slice::from_raw_parts(buckets.as_ptr().cast(), size_of_val(buckets)) }
}

/// The buckets of a segment: memory of its own, or where they lie in a checkpoint, until the first change copies them.
pub(super) enum Buckets {
    Owned(Box<[Bucket]>),
    Mapped(Box<Mapped>),
}

const _: () = assert!(size_of::<Buckets>() == 16);

/// Buckets in a checkpoint.
pub(super) struct Mapped {
    first: NonNull<Bucket>,
    count: usize,
    /// Keeps them where they are.
    _checkpoint: Checkpoint,
}

// SAFETY: nobody writes to the memory of a checkpoint, and it is there as long as one copy of the checkpoint is.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Buckets {
    /// The buckets whose bytes, as [`bytes_of`] gave them, lie in a checkpoint; `None` if these are no whole number of them.
    pub(super) fn of_checkpoint(bytes: &[u8], checkpoint: &Checkpoint) -> Option<Self> {
        let count = bytes.len() / size_of::<Bucket>();
        let first: NonNull<Bucket> = NonNull::new(bytes.as_ptr().cast_mut())?.cast();
        let all = checkpoint.bytes().as_ptr_range();
        let is_inside = all.contains(&bytes.as_ptr()) && bytes.as_ptr_range().end <= all.end;
        let fits = bytes.len().is_multiple_of(size_of::<Bucket>()) && first.is_aligned() && is_inside;
        fits.then(|| Self::Mapped(Box::new(Mapped { first, count, _checkpoint: checkpoint.clone() })))
    }

    /// Whether they lie in a checkpoint.
    pub(super) fn are_mapped(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }

    #[cold]
    fn own(&mut self) {
        *self = Self::Owned(self.to_vec().into_boxed_slice());
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::Owned(Box::default())
    }
}

impl From<Vec<Bucket>> for Buckets {
    fn from(buckets: Vec<Bucket>) -> Self {
        Self::Owned(buckets.into_boxed_slice())
    }
}

impl Deref for Buckets {
    type Target = [Bucket];

    #[inline(always)]
    fn deref(&self) -> &[Bucket] {
        match self {
            Self::Owned(buckets) => buckets,
            // SAFETY: aligned, within the bytes of the checkpoint that is kept, which nobody writes to; every value of a
            // bucket's bytes is one of its fields, which are numbers.
            Self::Mapped(mapped) => unsafe { std::slice::from_raw_parts(mapped.first.as_ptr(), mapped.count) },
        }
    }
}

impl DerefMut for Buckets {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Bucket] {
        if self.are_mapped() {
            self.own();
        }
        match self {
            Self::Owned(buckets) => buckets,
            Self::Mapped(_) => unreachable!("they were copied"),
        }
    }
}

/// Asks for the cache line at `at` to be loaded into all caches.
#[inline]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither faults nor reads in the sense of the language, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_and_simd_agree() {
        // Random buckets of few distinct fingerprints, zeros among them, give the same bits to both twins.
        let seed = super::super::tests::seed();
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let mut bucket = Bucket::EMPTY;
            let distinct = rng.u16(1..=256);
            bucket.fingerprints.fill_with(|| rng.u16(0..distinct) as u8);
            bucket.meta = rng.u32(..);
            for fingerprint in 0..=255 {
                assert_eq!(bucket.matching(fingerprint), bucket.matching_scalar(fingerprint), "EAGLE_SEED={seed}");
            }
        }
    }

    #[test]
    fn stashed_counts_to_7_and_then_stays() {
        // Below 7 the count is exact; once saturated it can no longer be trusted to come back to nothing.
        let mut bucket = Bucket::EMPTY;
        (0..6).for_each(|_| bucket.add_stashed());
        for _ in 0..6 {
            assert!(bucket.has_stashed() && bucket.spills());
            bucket.subtract_stashed();
        }
        assert!(!bucket.has_stashed() && !bucket.spills());
        (0..9).for_each(|_| bucket.add_stashed());
        (0..9).for_each(|_| bucket.subtract_stashed());
        assert!(bucket.has_stashed());
    }

    #[test]
    fn what_is_in_next_does_not_touch_what_is_stashed() {
        // The flag and the count beside it change independently.
        let mut bucket = Bucket::EMPTY;
        bucket.note_in_next(true);
        assert!(bucket.spills() && !bucket.has_stashed());
        bucket.add_stashed();
        bucket.note_in_next(false);
        assert!(bucket.spills() && bucket.has_stashed());
        bucket.subtract_stashed();
        assert!(!bucket.spills() && bucket.displaced().is_empty());
    }

    #[test]
    fn a_place_taken_is_a_place_free() {
        // Put and take move an entry in and out of every view of the bucket.
        let mut bucket = Bucket::EMPTY;
        bucket.put(3, 9, Word::new(77, 1), true);
        bucket.put(27, 9, Word::new(78, 1), false);
        assert_eq!(bucket.matching_displaced(9).collect::<Vec<_>>(), [3]);
        assert_eq!(bucket.matching_at_home(9).collect::<Vec<_>>(), [27]);
        assert_eq!((bucket.occupied().count(), bucket.free().count()), (2, 26));
        assert_eq!(bucket.take(3), (9, Word::new(77, 1)));
        assert!(bucket.displaced().is_empty());
        assert_eq!(bucket.at_home().collect::<Vec<_>>(), [27]);
    }
}
