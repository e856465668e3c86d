//! Dash: the index from hashes of keys to words that say where their records lie.
//!
//! ```text
//!  Hashed ─▶ root (256, by slot) ─▶ directory (by hash bits) ─▶ segment ─▶ home bucket, next bucket, stash
//! ```
//!
//! The index never reads a record: whoever looks something up is asked whether a word is the one meant, and only
//! where 8 bits of fingerprint and 14 bits of position agree already. Entries are laid in the order of their
//! positions (`hash`), in buckets (`bucket`) of segments (`segment`) that directories (`directory`) find; `shape`
//! says when they grow, split and merge, `cursor` goes along that order for SCAN, `expiry` knows where to sweep.
//!
//! What always holds: an entry is found by `find` from its `insert` to its `remove`, whatever is split, grown, merged
//! or shrunk between; a [`Place`] holds until the next `insert` or `remove`; a [`Located`] never misleads, its
//! prefetches are only wasted where it is out of date.
//!
//! From: Dash: Scalable Hashing on Persistent Memory (Lu et al., PVLDB 13(8), 2020), in DRAM, by one thread, with
//! position order and staged sizes added.

mod bucket;
mod cursor;
mod directory;
mod expiry;
mod hash;
mod image;
mod rebuild;
mod segment;
mod shape;
#[cfg(test)]
mod tests;
mod word;

pub use cursor::{CURSOR_BITS, Cursor};
pub use hash::{Hashed, KeyHash};
pub use image::Images;
pub use word::{HEAT_BITS, OFFSET_BITS, TAG_BITS, Word};

use crate::slot::{SLOT_COUNT, SlotId};
use bucket::ENTRIES;
use directory::Root;
use hash::Position;
use image::Imaging;
use rebuild::BUCKETS_MAX;
use segment::Segment;

/// How often `random` tries to hit an entry blindly.
const RANDOM_TRIES: usize = 32;

/// Where an entry is now. Valid until the next `insert`, `remove` or `clear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    segment: u32,
    bucket: u32,
    entry: u8,
}

/// Where a key's entry would be: what a lookup in stages carries from one stage to the next.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    position: Position,
    fingerprint: u8,
    segment: u32,
}

/// A segment, for going through those with something due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId(u32);

impl SegmentId {
    /// Where a round begins.
    pub const FIRST: SegmentId = SegmentId(0);

    /// The one behind it, which need not exist.
    pub fn after(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }
}

/// The index of one database, or of one large collection.
#[derive(Default)]
pub struct Dash {
    root: Root,
    segments: Vec<Segment>,
    /// Numbers of segments that are vacant.
    vacant: Vec<u32>,
    len: usize,
    segment_bytes: usize,
    /// Entries a slot; empty where nobody asked to count.
    slots: Vec<u32>,
    /// An image that is taken of it, and the last checkpoint for which one was begun.
    imaging: Option<Box<Imaging>>,
    imaged: u32,
}

/// An index that is no more looked up, only taken apart.
pub struct Remains {
    segments: Vec<Segment>,
    segment_bytes: usize,
    imaging: Option<Box<Imaging>>,
}

impl Remains {
    /// Frees one segment and returns what it held, and how many bytes of memory it took; `None` when nothing is left.
    pub fn pop(&mut self) -> Option<(Vec<Word>, usize)> {
        self.before_pop();
        let segment = self.segments.pop()?;
        self.segment_bytes -= segment.bytes();
        Some((segment.entries().map(|(_, word)| word).collect(), segment.bytes()))
    }

    /// All words left.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        self.segments.iter().flat_map(Segment::entries).map(|(_, word)| word)
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.segment_bytes + self.segments.capacity() * size_of::<Segment>()
    }
}

impl Dash {
    /// An empty index; it takes no memory before its first entry.
    pub fn new() -> Dash {
        Dash::default()
    }

    /// An empty index that counts the entries of each slot, which takes 64 KiB.
    pub fn counting_slots() -> Dash {
        Dash { slots: vec![0; SLOT_COUNT], ..Dash::default() }
    }

    /// Entries in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries of one slot. Panics if the index does not count them.
    pub fn len_in_slot(&self, slot: SlotId) -> usize {
        assert!(!self.slots.is_empty(), "made by counting_slots");
        self.slots[slot.index()] as usize
    }

    /// Bytes of memory it takes, itself not counted. O(1).
    pub fn bytes(&self) -> usize {
        self.segment_bytes
            + self.root.bytes()
            + self.segments.capacity() * size_of::<Segment>()
            + (self.vacant.capacity() + self.slots.capacity()) * size_of::<u32>()
    }

    /// Takes everything out. What is returned held the entries and may be dropped when there is time.
    pub fn clear(&mut self) -> Dash {
        let slots = vec![0; self.slots.len()];
        let empty = Dash { slots, ..Dash::default() };
        std::mem::replace(self, empty)
    }

    /// What it holds, to be gone through and freed a segment at a time.
    pub fn into_remains(self) -> Remains {
        Remains { segments: self.segments, segment_bytes: self.segment_bytes, imaging: self.imaging }
    }

    /// The entry of this hash for which `eq` says yes. `eq` is rarely asked about another key's word.
    #[inline]
    pub fn find(&self, hashed: Hashed, eq: impl FnMut(Word) -> bool) -> Option<Place> {
        self.find_at(self.locate_quietly(hashed), eq)
    }

    /// Before the first stage, where there are many lookups: asks for what says where the segment's buckets lie.
    #[inline]
    pub fn prefetch_segment(&self, hashed: Hashed) {
        if let Some(segment) = self.root.get(hashed.position()).and_then(|id| self.segments.get(id as usize)) {
            segment.prefetch();
        }
    }

    /// As [`Dash::prefetch_words`], for a key that is likely to be new: where none matches, for the place that it would get.
    #[inline]
    pub fn prefetch_place(&self, at: Located) {
        if let Some((_, segment)) = self.segment_at(at) {
            segment.prefetch_place(at.position, at.fingerprint);
        }
    }

    /// First stage of a lookup: finds the segment and asks for the fingerprints of the home bucket.
    #[inline]
    pub fn locate(&self, hashed: Hashed) -> Located {
        let located = self.locate_quietly(hashed);
        if let Some(segment) = self.segments.get(located.segment as usize) {
            segment.prefetch_fingerprints(located.position);
        }
        located
    }

    /// Second stage, a few dozen nanoseconds later: asks for the words whose fingerprints match.
    #[inline]
    pub fn prefetch_words(&self, at: Located) {
        if let Some((_, segment)) = self.segment_at(at) {
            segment.prefetch_words(at.position, at.fingerprint);
        }
    }

    /// Third stage: the word that `find_at` would most likely ask about, so that its record can be asked for.
    #[inline]
    pub fn candidate(&self, at: Located) -> Option<Word> {
        self.segment_at(at)?.1.candidate(at.position, at.fingerprint)
    }

    /// Last stage: as `find`, and right whatever has happened to the index since `at` was located, or even where `at`
    /// is from another index.
    #[inline]
    pub fn find_at(&self, at: Located, eq: impl FnMut(Word) -> bool) -> Option<Place> {
        let (id, segment) = self.segment_at(at)?;
        let (bucket, entry) = segment.find(at.position, at.fingerprint, eq)?;
        Some(Place { segment: id, bucket: bucket as u32, entry: entry as u8 })
    }

    /// The word at a place.
    #[inline]
    pub fn word(&self, place: Place) -> Word {
        self.segments[place.segment as usize].word(place.spot())
    }

    /// Replaces the word at a place.
    #[inline]
    pub fn set(&mut self, place: Place, word: Word) {
        self.before_change(place.segment);
        self.segments[place.segment as usize].set(place.spot(), word);
    }

    /// Replaces the word at a place by one that differs in its heat alone.
    #[inline]
    pub fn set_heat(&mut self, place: Place, word: Word) {
        self.segments[place.segment as usize].set(place.spot(), word);
    }

    /// Adds an entry for a key that is not in the index. `rehash` gives the hash of the key of a word in the index: asked
    /// for each entry of a segment when that is split for the seventh time, and then at every sixth split.
    pub fn insert(&mut self, hashed: Hashed, word: Word, mut rehash: impl FnMut(Word) -> KeyHash) -> Place {
        let (position, fingerprint) = (hashed.position(), hashed.hash.fingerprint());
        self.len += 1;
        if let Some(count) = self.slots.get_mut(hashed.slot.index()) {
            *count += 1;
        }
        loop {
            let segment = self.root.get(position).unwrap_or_else(|| self.plant(position));
            self.before_change(segment);
            if let Some((bucket, entry)) = self.segments[segment as usize].insert(position, fingerprint, word) {
                return Place { segment, bucket: bucket as u32, entry: entry as u8 };
            }
            self.make_room(segment, &mut rehash);
        }
    }

    /// Takes the entry at a place out; `hashed` is its key's. Returns its word.
    pub fn remove(&mut self, place: Place, hashed: Hashed) -> Word {
        self.before_change(place.segment);
        let word = self.segments[place.segment as usize].remove(place.spot());
        self.len -= 1;
        if let Some(count) = self.slots.get_mut(hashed.slot.index()) {
            *count -= 1;
        }
        self.after_removal(place.segment);
        word
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (Place, Word)> {
        (0..self.segments.len() as u32).flat_map(|segment| self.entries(SegmentId(segment)))
    }

    /// The entries of one segment; none if it does not exist.
    pub fn entries(&self, segment: SegmentId) -> impl Iterator<Item = (Place, Word)> {
        let found = self.segments.get(segment.0 as usize);
        found.into_iter().flat_map(Segment::entries).map(move |((bucket, entry), word)| {
            (Place { segment: segment.0, bucket: bucket as u32, entry: entry as u8 }, word)
        })
    }

    /// Replaces the words of one segment by what `change` makes of them, and returns how many there are; `None` if the
    /// segment does not exist.
    pub fn update_words(&mut self, segment: SegmentId, change: impl FnMut(Word) -> Word) -> Option<usize> {
        let segment = self.segments.get_mut(segment.0 as usize)?;
        segment.update(change);
        Some(segment.count())
    }

    /// Some entry, each about as likely as any other, or `None` from an empty index.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        for _ in 0..RANDOM_TRIES {
            let segment = rng.usize(..self.segments.len());
            let buckets = self.segments[segment].buckets();
            let (bucket, entry) = (rng.usize(..buckets.len().max(BUCKETS_MAX)), rng.usize(..ENTRIES));
            if buckets.get(bucket).is_some_and(|bucket| bucket.fingerprint(entry) != 0) {
                return Some(Place { segment: segment as u32, bucket: bucket as u32, entry: entry as u8 });
            }
        }
        // Few entries in many places: any of the next segment that has some.
        let start = rng.usize(..self.segments.len());
        let mut from_start = (start..self.segments.len()).chain(0..start);
        let segment = from_start.find(|at| self.segments[*at].count() > 0)?;
        let nth = rng.usize(..self.segments[segment].count());
        self.entries(SegmentId(segment as u32)).nth(nth).map(|(place, _)| place)
    }

    /// The entries of some bucket, each bucket about as likely as any other; with few entries in many places, those of a
    /// segment. None from an empty index.
    pub fn sample(&self, rng: &mut fastrand::Rng) -> impl Iterator<Item = (Place, Word)> {
        let chosen = (!self.is_empty()).then(|| {
            for _ in 0..RANDOM_TRIES {
                let segment = rng.usize(..self.segments.len());
                let buckets = self.segments[segment].buckets();
                let bucket = rng.usize(..buckets.len().max(BUCKETS_MAX));
                if buckets.get(bucket).is_some_and(|bucket| !bucket.occupied().is_empty()) {
                    return (segment, bucket..bucket + 1);
                }
            }
            let start = rng.usize(..self.segments.len());
            let mut from_start = (start..self.segments.len()).chain(0..start);
            let segment = from_start.find(|at| self.segments[*at].count() > 0).expect("some segment has an entry");
            (segment, 0..self.segments[segment].buckets().len())
        });
        let (segment, buckets) = chosen.unwrap_or((0, 0..0));
        buckets.flat_map(move |at| {
            let bucket = &self.segments[segment].buckets()[at];
            let place = move |entry| Place { segment: segment as u32, bucket: at as u32, entry: entry as u8 };
            bucket.occupied().map(move |entry| (place(entry), bucket.word(entry)))
        })
    }

    /// The word at a place that may have changed hands since it was learnt; `None` if nothing is there any more.
    pub fn word_if_there(&self, place: Place) -> Option<Word> {
        let bucket = self.segments.get(place.segment as usize)?.buckets().get(place.bucket as usize)?;
        (bucket.fingerprint(usize::from(place.entry)) != 0).then(|| bucket.word(usize::from(place.entry)))
    }

    #[inline]
    fn locate_quietly(&self, hashed: Hashed) -> Located {
        let position = hashed.position();
        let segment = self.root.get(position).unwrap_or(u32::MAX);
        Located { position, fingerprint: hashed.hash.fingerprint(), segment }
    }

    /// The segment of what was located: the same as then if it still covers the position, else the one that does now.
    #[inline]
    fn segment_at(&self, at: Located) -> Option<(u32, &Segment)> {
        match self.segments.get(at.segment as usize) {
            Some(segment) if segment.covers(at.position) => Some((at.segment, segment)),
            _ => self.root.get(at.position).map(|id| (id, &self.segments[id as usize])),
        }
    }
}

impl Place {
    #[inline]
    fn spot(self) -> (usize, usize) {
        (self.bucket as usize, usize::from(self.entry))
    }
}
