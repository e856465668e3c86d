//! Bounds of expiries: which buckets may hold an entry whose time has come.
//!
//! The index does not know when an entry expires, only that no entry of a bucket does so before the bucket's bound,
//! and no entry of a segment before the least of these. A bound follows entries that move: to where an entry with an
//! expiry goes, the bound of where it was goes with it. So bounds may be too early but never too late, and only a
//! sweep, which has read the records of what is due, makes them later.
//!
//! Bounds are by bucket, because with expiries spread over time nearly every segment has something due nearly always,
//! and a sweep should read a few dozen records for it, not two thousand.

use super::bucket::Bucket;
use super::rebuild::BUCKETS_MAX;
use super::segment::Segment;
use super::{Dash, Place, SegmentId, Word};
use smallvec::SmallVec;

/// The bounds of one segment, in ms since 1970; `u64::MAX` where nothing expires.
pub(super) struct Bounds {
    least_ms: u64,
    /// By bucket; empty before the first expiry.
    by_bucket: Box<[u64]>,
}

impl Bounds {
    pub(super) fn none() -> Bounds {
        Bounds { least_ms: u64::MAX, by_bucket: Box::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.by_bucket)
    }

    /// The bounds as they lie in an image: 8 bytes a bucket, or none.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.by_bucket.iter().flat_map(|bound| bound.to_le_bytes()).collect()
    }

    /// The bounds of so many buckets from an image; `None` if it has others.
    pub(super) fn of_bytes(bytes: &[u8], buckets: usize) -> Option<Bounds> {
        let (bounds, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || !(bounds.is_empty() || bounds.len() == buckets) {
            return None;
        }
        let by_bucket: Box<[u64]> = bounds.iter().map(|bound| u64::from_le_bytes(*bound)).collect();
        Some(Bounds { least_ms: by_bucket.iter().copied().min().unwrap_or(u64::MAX), by_bucket })
    }

    /// The bound of one bucket.
    #[inline]
    pub(super) fn of(&self, bucket: usize) -> u64 {
        self.by_bucket.get(bucket).copied().unwrap_or(u64::MAX)
    }

    /// Notes an expiry in one of `buckets` buckets.
    #[inline]
    pub(super) fn note(&mut self, bucket: usize, buckets: usize, at_ms: u64) {
        if at_ms == u64::MAX {
            return;
        }
        if self.by_bucket.is_empty() {
            self.by_bucket = vec![u64::MAX; buckets].into_boxed_slice();
        }
        self.by_bucket[bucket] = at_ms.min(self.by_bucket[bucket]);
        self.least_ms = at_ms.min(self.least_ms);
    }
}

impl Dash {
    /// Makes known that the entry at `place`, whose word says that it has an expiry, expires at `expiry_ms`, in ms
    /// since 1970.
    pub fn note_expiry(&mut self, place: Place, expiry_ms: u64) {
        let segment = &mut self.segments[place.segment as usize];
        let before = segment.bytes();
        segment.note_expiry(place.bucket as usize, expiry_ms);
        self.segment_bytes += segment.bytes() - before;
    }

    /// The first segment from `from` on in which something may have expired by `now_ms`.
    pub fn next_due(&self, from: SegmentId, now_ms: u64) -> Option<SegmentId> {
        let behind = self.segments.get(from.0 as usize..)?;
        let found = behind.iter().position(|segment| segment.expiry.least_ms <= now_ms)?;
        Some(SegmentId(from.0 + found as u32))
    }

    /// The words of a segment's entries with an expiry that may have come by `now_ms`: a few dozen for each that has.
    pub fn due(&self, segment: SegmentId, now_ms: u64) -> impl Iterator<Item = Word> {
        let segment = self.segments.get(segment.0 as usize);
        let due =
            segment.into_iter().flat_map(move |segment| segment.due_buckets(now_ms).map(|at| &segment.buckets()[at]));
        due.flat_map(Bucket::words).filter(|word| word.has_expiry())
    }

    /// Asks for the expiry of each word that [`Dash::due`] gives for the same moment, in the same order, and bounds the
    /// buckets by the answers. `None` says that the entry is about to be removed.
    pub fn settle_due(&mut self, segment: SegmentId, now_ms: u64, mut expiry_of: impl FnMut(Word) -> Option<u64>) {
        if (segment.0 as usize) < self.segments.len() {
            self.before_change(segment.0);
        }
        let Some(segment) = self.segments.get_mut(segment.0 as usize) else {
            return;
        };
        let due: SmallVec<[usize; BUCKETS_MAX]> = segment.due_buckets(now_ms).collect();
        for at in due {
            let words = segment.buckets()[at].words().filter(|word| word.has_expiry());
            segment.expiry.by_bucket[at] = words.filter_map(&mut expiry_of).min().unwrap_or(u64::MAX);
        }
        segment.expiry.least_ms = segment.expiry.by_bucket.iter().copied().min().unwrap_or(u64::MAX);
    }
}

impl Segment {
    fn due_buckets(&self, now_ms: u64) -> impl Iterator<Item = usize> {
        let bounds = self.expiry.by_bucket.iter().enumerate();
        bounds.filter(move |(_, bound)| **bound <= now_ms).map(|(at, _)| at)
    }
}
