//! Dash: the index from hashes of keys to words that say where their records lie.
//!
//! ```text
//!  Hashed ─▶ root (256, by slot) ─▶ directory (by hash bits) ─▶ segment ─▶ home bucket, next bucket, stash
//! ```
//!
//! The index never reads a record: whoever looks something up is asked whether a word is the one meant, and only
//! where 8 bits of fingerprint and 14 bits of position agree already. Entries are laid in the order of their
//! positions (`hash`), in buckets (`bucket`) of segments (`segment`) that directories (`directory`) find; `cursor`
//! goes along that order for SCAN.
//!
//! What always holds: an entry is found by `find` from its `insert` to its `remove`, whatever is split, grown, merged
//! or shrunk between; a [`Place`] holds until the next `insert` or `remove`; a [`Located`] never misleads, it is
//! only slow where it is out of date.
//!
//! From: Dash: Scalable Hashing on Persistent Memory (Lu et al., PVLDB 13(8), 2020), in DRAM, by one thread, with
//! position order and staged sizes added.

mod bucket;
mod cursor;
mod directory;
mod hash;
mod rebuild;
mod segment;
#[cfg(test)]
mod tests;
mod word;

pub use cursor::{CURSOR_BITS, Cursor};
pub use hash::{Hashed, KeyHash};
pub use word::{HEAT_BITS, OFFSET_BITS, TAG_BITS, Word};

use crate::slot::{SLOT_COUNT, SlotId};
use bucket::ENTRIES;
use cursor::DEPTH_MAX;
use directory::Root;
use hash::{Position, ROOT_BITS};
use rebuild::BUCKETS_MAX;
use segment::Segment;

/// A segment with room for no more is grown if it is at least this full, in percent; else its entries crowd in few
/// homes, and splitting parts them better.
const GROW_FILL_MIN: usize = 60;

/// Two halves become one segment again when together they would fill at most this much of it, in percent.
const MERGE_FILL_MAX: usize = 40;

/// A segment is rebuilt smaller when less than this of it is in use, in percent.
const SHRINK_FILL_MAX: usize = 50;

/// Every how many removals from a segment one looks whether it can be smaller.
const GIVE_BACK_EVERY: usize = 16;

/// What an emptied table may keep, in bytes.
const EMPTY_BYTES_MAX: usize = 128 << 10;

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
    home: u32,
    shape: u32,
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
    bucket_bytes: usize,
    /// Changes whenever entries may have got another segment or home.
    shape: u32,
    /// Entries a slot; empty where nobody asked to count.
    slots: Vec<u32>,
}

/// An index that is no more looked up, only taken apart.
pub struct Remains {
    segments: Vec<Segment>,
    bucket_bytes: usize,
}

impl Remains {
    /// Frees one segment and returns what it held; `None` when nothing is left.
    pub fn pop(&mut self) -> Option<Vec<Word>> {
        let segment = self.segments.pop()?;
        self.bucket_bytes -= size_of_val(segment.buckets());
        Some(segment.entries().map(|(_, word)| word).collect())
    }

    /// All words left.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        self.segments
            .iter()
            .flat_map(Segment::entries)
            .map(|(_, word)| word)
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bucket_bytes + self.segments.capacity() * size_of::<Segment>()
    }
}

impl Dash {
    /// An empty index; it takes no memory before its first entry.
    pub fn new() -> Dash {
        Dash::default()
    }

    /// An empty index that counts the entries of each slot, which takes 64 KiB.
    pub fn counting_slots() -> Dash {
        Dash {
            slots: vec![0; SLOT_COUNT],
            ..Dash::default()
        }
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
        self.bucket_bytes
            + self.root.bytes()
            + self.segments.capacity() * size_of::<Segment>()
            + (self.vacant.capacity() + self.slots.capacity()) * size_of::<u32>()
    }

    /// Takes everything out. What is returned held the entries and may be dropped when there is time.
    pub fn clear(&mut self) -> Dash {
        let slots = vec![0; self.slots.len()];
        let empty = Dash {
            shape: self.shape.wrapping_add(1),
            slots,
            ..Dash::default()
        };
        std::mem::replace(self, empty)
    }

    /// What it holds, to be gone through and freed a segment at a time.
    pub fn into_remains(self) -> Remains {
        Remains {
            segments: self.segments,
            bucket_bytes: self.bucket_bytes,
        }
    }

    /// The entry of this hash for which `eq` says yes. `eq` is rarely asked about another key's word.
    #[inline]
    pub fn find(&self, hashed: Hashed, eq: impl FnMut(Word) -> bool) -> Option<Place> {
        self.find_at(self.locate_quietly(hashed), eq)
    }

    /// First stage of a lookup: finds the buckets and asks for their fingerprints.
    #[inline]
    pub fn locate(&self, hashed: Hashed) -> Located {
        let located = self.locate_quietly(hashed);
        if let Some(segment) = self.segments.get(located.segment as usize) {
            segment.prefetch_fingerprints(located.home as usize);
        }
        located
    }

    /// Second stage, a few dozen nanoseconds later: asks for the words whose fingerprints match.
    #[inline]
    pub fn prefetch_words(&self, at: Located) {
        if let Some(segment) = self.up_to_date(at) {
            segment.prefetch_words(at.home as usize, at.fingerprint);
        }
    }

    /// Third stage: the word that `find_at` would most likely ask about, so that its record can be asked for.
    #[inline]
    pub fn candidate(&self, at: Located) -> Option<Word> {
        self.up_to_date(at)?
            .candidate(at.home as usize, at.position, at.fingerprint)
    }

    /// Last stage: as `find`, and right whatever has happened to the index since `at` was located.
    #[inline]
    pub fn find_at(&self, at: Located, eq: impl FnMut(Word) -> bool) -> Option<Place> {
        let at = if at.shape == self.shape {
            at
        } else {
            self.locate_position(at.position, at.fingerprint)
        };
        let segment = self.segments.get(at.segment as usize)?;
        let (bucket, entry) = segment.find(at.home as usize, at.position, at.fingerprint, eq)?;
        Some(Place {
            segment: at.segment,
            bucket: bucket as u32,
            entry: entry as u8,
        })
    }

    /// The word at a place.
    #[inline]
    pub fn word(&self, place: Place) -> Word {
        self.segments[place.segment as usize].word(place.spot())
    }

    /// Replaces the word at a place.
    #[inline]
    pub fn set(&mut self, place: Place, word: Word) {
        self.segments[place.segment as usize].set(place.spot(), word);
    }

    /// Adds an entry for a key that is not in the index. `rehash` gives the hash of the key of a word in the index:
    /// asked when a segment is split for the seventh time, for each of its entries.
    pub fn insert(
        &mut self,
        hashed: Hashed,
        word: Word,
        mut rehash: impl FnMut(Word) -> KeyHash,
    ) -> Place {
        let (position, fingerprint) = (hashed.position(), hashed.hash.fingerprint());
        self.len += 1;
        if let Some(count) = self.slots.get_mut(hashed.slot.index()) {
            *count += 1;
        }
        loop {
            let segment = self
                .root
                .get(position)
                .unwrap_or_else(|| self.plant(position));
            if let Some((bucket, entry)) =
                self.segments[segment as usize].insert(position, fingerprint, word)
            {
                return Place {
                    segment,
                    bucket: bucket as u32,
                    entry: entry as u8,
                };
            }
            self.make_room(segment, &mut rehash);
        }
    }

    /// Takes the entry at a place out; `hashed` is its key's. Returns its word.
    pub fn remove(&mut self, place: Place, hashed: Hashed) -> Word {
        let segment = &mut self.segments[place.segment as usize];
        let word = segment.remove(place.spot());
        self.len -= 1;
        if let Some(count) = self.slots.get_mut(hashed.slot.index()) {
            *count -= 1;
        }
        if segment.count().is_multiple_of(GIVE_BACK_EVERY) {
            self.give_back(place.segment);
        }
        word
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (Place, Word)> {
        (0..self.segments.len() as u32).flat_map(|segment| self.entries(SegmentId(segment)))
    }

    /// The entries of one segment; none if it does not exist.
    pub fn entries(&self, segment: SegmentId) -> impl Iterator<Item = (Place, Word)> {
        let found = self.segments.get(segment.0 as usize);
        found
            .into_iter()
            .flat_map(Segment::entries)
            .map(move |((bucket, entry), word)| {
                (
                    Place {
                        segment: segment.0,
                        bucket: bucket as u32,
                        entry: entry as u8,
                    },
                    word,
                )
            })
    }

    /// Replaces the words of one segment by what `change` makes of them, and returns how many there are; `None` if the
    /// segment does not exist.
    pub fn update_words(
        &mut self,
        segment: SegmentId,
        change: impl FnMut(Word) -> Word,
    ) -> Option<usize> {
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
            let (bucket, entry) = (
                rng.usize(..buckets.len().max(BUCKETS_MAX)),
                rng.usize(..ENTRIES),
            );
            if buckets
                .get(bucket)
                .is_some_and(|bucket| bucket.fingerprint(entry) != 0)
            {
                return Some(Place {
                    segment: segment as u32,
                    bucket: bucket as u32,
                    entry: entry as u8,
                });
            }
        }
        // Few entries in many places: any of the next segment that has some.
        let start = rng.usize(..self.segments.len());
        let mut from_start = (start..self.segments.len()).chain(0..start);
        let segment = from_start.find(|at| self.segments[*at].count() > 0)?;
        let nth = rng.usize(..self.segments[segment].count());
        self.entries(SegmentId(segment as u32))
            .nth(nth)
            .map(|(place, _)| place)
    }

    /// Makes known that the entry at `place` expires at `expiry_ms`, in ms since 1970.
    #[inline]
    pub fn note_expiry(&mut self, place: Place, expiry_ms: u64) {
        let bound = &mut self.segments[place.segment as usize].expiry_min_ms;
        *bound = expiry_ms.min(*bound);
    }

    /// The first segment from `from` on in which something may have expired by `now_ms`.
    pub fn next_due(&self, from: SegmentId, now_ms: u64) -> Option<SegmentId> {
        let behind = self.segments.get(from.0 as usize..)?;
        let found = behind
            .iter()
            .position(|segment| segment.expiry_min_ms <= now_ms)?;
        Some(SegmentId(from.0 + found as u32))
    }

    /// Replaces a segment's bound by one that a sweep of all its entries found: nothing in it expires earlier.
    /// `u64::MAX` where nothing in it expires at all.
    pub fn set_expiry_bound(&mut self, segment: SegmentId, expiry_min_ms: u64) {
        if let Some(segment) = self.segments.get_mut(segment.0 as usize) {
            segment.expiry_min_ms = expiry_min_ms;
        }
    }

    #[inline]
    fn locate_quietly(&self, hashed: Hashed) -> Located {
        self.locate_position(hashed.position(), hashed.hash.fingerprint())
    }

    #[inline]
    fn locate_position(&self, position: Position, fingerprint: u8) -> Located {
        let (segment, home) = match self.root.get(position) {
            Some(segment) => (
                segment,
                self.segments[segment as usize].home(position) as u32,
            ),
            None => (u32::MAX, 0),
        };
        Located {
            position,
            fingerprint,
            segment,
            home,
            shape: self.shape,
        }
    }

    #[inline]
    fn up_to_date(&self, at: Located) -> Option<&Segment> {
        if at.shape == self.shape {
            self.segments.get(at.segment as usize)
        } else {
            None
        }
    }

    #[cold]
    fn plant(&mut self, position: Position) -> u32 {
        let segment = self.add(Segment::of_root(position.root()));
        self.root.plant(position.root(), segment);
        segment
    }

    /// Changes the segment so that sooner or later one more entry fits: each call gives it more buckets, fewer
    /// positions or a larger stash, the first two within bounds.
    #[cold]
    fn make_room(&mut self, id: u32, rehash: &mut dyn FnMut(Word) -> KeyHash) {
        let segment = &mut self.segments[id as usize];
        let (first, depth) = (segment.first_position(), segment.depth());
        let may_split = depth < DEPTH_MAX && self.root.may_split(first, depth);
        let crowded = segment.count() * 100 < segment.capacity() * GROW_FILL_MIN;
        if !(segment.is_full_size() || crowded && may_split) {
            let grown = segment.grown();
            self.replace(id, grown);
        } else if may_split {
            if !segment.can_split_unread() {
                segment.renew_windows(rehash);
            }
            let (lower, upper) = segment.split();
            self.replace(id, lower);
            let upper = self.add(upper);
            self.root.split(first, depth, upper);
        } else {
            let larger = segment.with_larger_stash();
            self.replace(id, larger);
        }
    }

    /// Merges a segment with its buddies, or makes it smaller, as far as it has become empty.
    #[cold]
    fn give_back(&mut self, mut id: u32) {
        if self.is_empty() && self.bytes() > EMPTY_BYTES_MAX {
            self.clear();
            return;
        }
        while let Some(merged) = self.merge(id) {
            id = merged;
        }
        let segment = &self.segments[id as usize];
        if segment.count() * 100 < segment.capacity() * SHRINK_FILL_MAX
            && let Some(shrunk) = segment.shrunk()
        {
            self.replace(id, shrunk);
        }
    }

    /// Makes one segment of this one and its buddy if they have few entries together.
    fn merge(&mut self, id: u32) -> Option<u32> {
        let segment = &self.segments[id as usize];
        let (first, depth) = (segment.first_position(), segment.depth());
        if u32::from(depth) == ROOT_BITS {
            return None;
        }
        let buddy_id = self
            .root
            .get(Position(first.0 ^ 1 << (u64::BITS - u32::from(depth))))?;
        let buddy = &self.segments[buddy_id as usize];
        let together_max = BUCKETS_MAX * ENTRIES * MERGE_FILL_MAX / 100;
        if buddy.depth() != depth || segment.count() + buddy.count() > together_max {
            return None;
        }
        let (lower, upper) = if buddy.first_position() < first {
            (buddy_id, id)
        } else {
            (id, buddy_id)
        };
        let merged = Segment::merge(
            &self.segments[lower as usize],
            &self.segments[upper as usize],
        );
        self.root.merge(merged.first_position(), depth, lower);
        self.replace(lower, merged);
        self.replace(upper, Segment::vacant());
        self.vacant.push(upper);
        Some(lower)
    }

    fn add(&mut self, segment: Segment) -> u32 {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.segments.push(Segment::vacant());
            u32::try_from(self.segments.len() - 1).expect("fewer than 2^32 segments")
        });
        self.replace(id, segment);
        id
    }

    fn replace(&mut self, id: u32, segment: Segment) {
        let old = &mut self.segments[id as usize];
        self.bucket_bytes += size_of_val(segment.buckets());
        self.bucket_bytes -= size_of_val(old.buckets());
        *old = segment;
        self.shape = self.shape.wrapping_add(1);
    }
}

impl Place {
    #[inline]
    fn spot(self) -> (usize, usize) {
        (self.bucket as usize, usize::from(self.entry))
    }
}
