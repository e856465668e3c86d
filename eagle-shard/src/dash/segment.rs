//! A segment: the buckets of one interval of positions, and a stash for what finds no room in them.
//!
//! ```text
//!  ├──────────┼──────────┼── ... ──┼────────────┼─────────┼─────────┤
//!  │ bucket 0 │ bucket 1 │         │ bucket n-1 │ stash 0 │ stash 1 │    in one allocation, cut for size classes
//!  └──────────┴──────────┴── ... ──┴────────────┴─────────┴─────────┘
//! ```
//!
//! The home bucket of a position is its unit (the bits behind the prefix) scaled to `n`, so homes are in the order of
//! positions. An entry is in its home, displaced to the next bucket (the first is next to the last), or in the stash.
//! Inserting takes the home; if that is full, moves a displaced entry of it back or takes the next bucket, where a chain
//! of entries may move on by one bucket each; if that fails, the stash. Only when the stash is full too is there no room,
//! and the segment is rebuilt (`rebuild`): with more buckets, as two halves, or with a larger stash.
//!
//! Dash takes the emptier of the two buckets instead. Home first means that nearly all lookups read one line of
//! fingerprints, and with chains of displacements a segment fills as well: to 98.4 % in the mean before it splits.
//!
//! What always holds: every position in it begins with the first `depth` bits of `prefix`; the windows of its words
//! start at bit `base`, `base <= depth`, and reach the end of the unit. So prefix and window tell an entry's home and
//! side of a split. A home bucket says whether entries of it are in the next bucket or the stash.
//!
//! From: Dash, section 4.3 (displacement, stashing).

use super::bucket::{self, Bucket, Buckets, ENTRIES};
use super::expiry::Bounds;
use super::hash::{Position, ROOT_BITS, UNIT_BITS};
use super::rebuild::STAGES;
use super::word::{WINDOW_BITS, Word};

/// How many entries may move to make room for one. Each makes room for the one before it.
const DISPLACEMENTS_MAX: usize = 4;

/// An entry's place in its segment.
pub(super) type Spot = (usize, usize);

/// See the drawing at the top.
#[repr(align(64))]
pub(super) struct Segment {
    /// The normal buckets, then the stash; empty in a segment that is not in use.
    pub(super) buckets: Buckets,
    pub(super) expiry: Bounds,
    pub(super) prefix: u64,
    pub(super) count: u32,
    pub(super) normal: u32,
    pub(super) depth: u8,
    pub(super) base: u8,
    /// The last checkpoint whose image it is in, or that it was not there for (see `image`).
    pub(super) imaged: u32,
}

const _: () = assert!(size_of::<Segment>() == 64);

impl Segment {
    /// The segment that an unused place of the slab holds: no entries, no buckets.
    pub(super) fn vacant() -> Segment {
        Segment {
            buckets: Buckets::default(),
            expiry: Bounds::none(),
            prefix: 0,
            count: 0,
            normal: 0,
            depth: u8::MAX,
            base: 0,
            imaged: 0,
        }
    }

    /// An empty segment for all positions of a root.
    pub(super) fn of_root(root: usize) -> Segment {
        let depth = ROOT_BITS as u8;
        Segment::empty((root as u64) << (u64::BITS - ROOT_BITS), depth, depth, STAGES[0])
    }

    pub(super) fn empty(prefix: u64, depth: u8, base: u8, (normal, stash): (u32, u32)) -> Segment {
        debug_assert!(base <= depth && u32::from(depth - base) + UNIT_BITS <= WINDOW_BITS);
        Segment {
            buckets: vec![Bucket::EMPTY; (normal + stash) as usize].into(),
            expiry: Bounds::none(),
            prefix,
            count: 0,
            normal,
            depth,
            base,
            imaged: 0,
        }
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    /// The first position that the segment covers.
    #[inline]
    pub(super) fn first_position(&self) -> Position {
        Position(self.prefix)
    }

    /// Whether this position belongs here. Never to a vacant segment.
    #[inline]
    pub(super) fn covers(&self, position: Position) -> bool {
        (position.0 ^ self.prefix).leading_zeros() >= u32::from(self.depth)
    }

    /// Heap bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets) + self.expiry.bytes()
    }

    #[inline]
    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Entries there is place for.
    pub(super) fn capacity(&self) -> usize {
        self.buckets.len() * ENTRIES
    }

    /// Whether it cannot grow but by a larger stash.
    pub(super) fn is_full_size(&self) -> bool {
        self.normal == STAGES[STAGES.len() - 1].0
    }

    #[inline]
    pub(super) fn home(&self, position: Position) -> usize {
        ((position.unit(self.depth) * self.normal) >> UNIT_BITS) as usize
    }

    /// The first position behind those whose home is bucket `home`, or `None` at the end of all positions.
    pub(super) fn end_of_home(&self, home: usize) -> Option<Position> {
        let unit = ((home as u64 + 1) << UNIT_BITS).div_ceil(u64::from(self.normal));
        let end = (unit << (u64::BITS - UNIT_BITS)) >> self.depth;
        let whole = u64::from(unit == 1 << UNIT_BITS) << (u64::BITS - u32::from(self.depth));
        self.prefix.checked_add(end | whole).map(Position)
    }

    #[inline]
    pub(super) fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.normal as usize { 0 } else { bucket + 1 }
    }

    #[inline]
    fn previous(&self, bucket: usize) -> usize {
        if bucket == 0 { self.normal as usize - 1 } else { bucket - 1 }
    }

    /// The position of an entry as far as it is known without its record: to the end of the window.
    #[inline]
    pub(super) fn position_of(&self, word: Word) -> Position {
        let window = (u64::from(word.window()) << (u64::BITS - WINDOW_BITS)) >> self.base;
        Position(self.prefix | window)
    }

    /// The entry with this position and fingerprint for which `eq` says yes.
    #[inline]
    pub(super) fn find(&self, position: Position, fingerprint: u8, mut eq: impl FnMut(Word) -> bool) -> Option<Spot> {
        let (home, window) = (self.home(position), position.window(self.base));
        let mut is_it = |word: Word| word.window() == window && eq(word);
        let bucket = &self.buckets[home];
        for entry in bucket.matching_at_home(fingerprint) {
            if is_it(bucket.word(entry)) {
                return Some((home, entry));
            }
        }
        if bucket.spills() { self.find_spilled(home, fingerprint, is_it) } else { None }
    }

    fn find_spilled(&self, home: usize, fingerprint: u8, mut is_it: impl FnMut(Word) -> bool) -> Option<Spot> {
        let next = self.next(home);
        for entry in self.buckets[next].matching_displaced(fingerprint) {
            if is_it(self.buckets[next].word(entry)) {
                return Some((next, entry));
            }
        }
        if !self.buckets[home].has_stashed() {
            return None;
        }
        for (stash, bucket) in self.buckets.iter().enumerate().skip(self.normal as usize) {
            for entry in bucket.matching_at_home(fingerprint) {
                if is_it(bucket.word(entry)) {
                    return Some((stash, entry));
                }
            }
        }
        None
    }

    /// The word that `find` would ask about first, if it is in the home bucket or displaced from it.
    #[inline]
    pub(super) fn candidate(&self, position: Position, fingerprint: u8) -> Option<Word> {
        let (home, window) = (self.home(position), position.window(self.base));
        let is_it = |word: &Word| word.window() == window;
        let bucket = &self.buckets[home];
        let at_home = bucket.matching_at_home(fingerprint).map(|entry| bucket.word(entry)).find(is_it);
        if at_home.is_some() || !bucket.spills() {
            return at_home;
        }
        let next = &self.buckets[self.next(home)];
        next.matching_displaced(fingerprint).map(|entry| next.word(entry)).find(is_it)
    }

    #[inline]
    pub(super) fn prefetch_fingerprints(&self, position: Position) {
        self.buckets[self.home(position)].prefetch_fingerprints();
    }

    /// Asks for the words that match, and for the next bucket's fingerprints where none does and one there may.
    #[inline]
    pub(super) fn prefetch_words(&self, position: Position, fingerprint: u8) {
        let home = self.home(position);
        let bucket = &self.buckets[home];
        let matching = bucket.matching_at_home(fingerprint);
        if matching.is_empty() && bucket.spills() {
            self.buckets[self.next(home)].prefetch_fingerprints();
        }
        matching.for_each(|entry| bucket.prefetch_word(entry));
    }

    /// As `prefetch_words`, and for the first free place of the home bucket where none matches.
    #[inline]
    pub(super) fn prefetch_place(&self, position: Position, fingerprint: u8) {
        let home = self.home(position);
        let bucket = &self.buckets[home];
        let (matching, free) = (bucket.matching_at_home(fingerprint), bucket.free());
        if matching.is_empty() && !free.is_empty() {
            bucket.prefetch_word(free.first());
        } else {
            self.prefetch_words(position, fingerprint);
        }
    }

    #[inline]
    pub(super) fn prefetch(&self) {
        bucket::prefetch(std::ptr::from_ref(self));
    }

    #[inline]
    pub(super) fn word(&self, (bucket, entry): Spot) -> Word {
        self.buckets[bucket].word(entry)
    }

    /// Replaces all of an entry's word but the window of its position.
    #[inline]
    pub(super) fn set(&mut self, (bucket, entry): Spot, word: Word) {
        let bucket = &mut self.buckets[bucket];
        bucket.set_word(entry, word.with_window(bucket.word(entry).window()));
    }

    /// Replaces every word by what `change` makes of it, but for the windows of positions.
    pub(super) fn update(&mut self, mut change: impl FnMut(Word) -> Word) {
        for bucket in &mut *self.buckets {
            for entry in bucket.occupied() {
                let word = bucket.word(entry);
                bucket.set_word(entry, change(word).with_window(word.window()));
            }
        }
    }

    /// Adds an entry, or says that there is no room for it.
    pub(super) fn insert(&mut self, position: Position, fingerprint: u8, word: Word) -> Option<Spot> {
        let word = word.with_window(position.window(self.base));
        let home = self.home(position);
        let free = self.buckets[home].free();
        let (bucket, entry) = if !free.is_empty() {
            (home, free.first())
        } else if let Some(spot) = self.displace(home) {
            spot
        } else {
            return self.stash(home, fingerprint, word);
        };
        self.put((bucket, entry), fingerprint, word, bucket != home);
        self.count += 1;
        Some((bucket, entry))
    }

    /// Makes room for an entry of a full home: in the home by moving a displaced entry back to its own, or in the next
    /// bucket by moving an entry of that one on, and so forth.
    fn displace(&mut self, home: usize) -> Option<Spot> {
        let before = self.previous(home);
        if !self.buckets[before].free().is_empty() && !self.buckets[home].displaced().is_empty() {
            let spot = (home, self.buckets[home].displaced().first());
            self.shift(spot, before, false);
            return Some(spot);
        }
        // A row of full buckets from `next` on, each with an entry to pass on, up to one with room.
        let next = self.next(home);
        let mut room = next;
        for _ in 0..=DISPLACEMENTS_MAX {
            if !self.buckets[room].free().is_empty() {
                while room != next {
                    let giver = self.previous(room);
                    self.shift((giver, self.buckets[giver].at_home().first()), room, true);
                    room = giver;
                }
                return Some((next, self.buckets[next].free().first()));
            }
            if self.buckets[room].at_home().is_empty() {
                return None;
            }
            room = self.next(room);
        }
        None
    }

    fn shift(&mut self, from: Spot, to: usize, displaced: bool) {
        let (fingerprint, word) = self.take(from);
        if word.has_expiry() {
            self.note_expiry(to, self.expiry.of(from.0));
        }
        let entry = self.buckets[to].free().first();
        self.put((to, entry), fingerprint, word, displaced);
    }

    /// Fills a place of the home bucket, or of the next as displaced.
    fn put(&mut self, (bucket, entry): Spot, fingerprint: u8, word: Word, displaced: bool) {
        self.buckets[bucket].put(entry, fingerprint, word, displaced);
        if displaced {
            let home = self.previous(bucket);
            self.buckets[home].note_in_next(true);
        }
    }

    /// Empties a place of the home bucket or the next.
    fn take(&mut self, (bucket, entry): Spot) -> (u8, Word) {
        let displaced = self.buckets[bucket].is_displaced(entry);
        let taken = self.buckets[bucket].take(entry);
        if displaced {
            let (home, more) = (self.previous(bucket), !self.buckets[bucket].displaced().is_empty());
            self.buckets[home].note_in_next(more);
        }
        taken
    }

    fn stash(&mut self, home: usize, fingerprint: u8, word: Word) -> Option<Spot> {
        let mut stash = self.normal as usize..self.buckets.len();
        let bucket = stash.find(|at| !self.buckets[*at].free().is_empty())?;
        let entry = self.buckets[bucket].free().first();
        self.buckets[bucket].put(entry, fingerprint, word, false);
        self.buckets[home].add_stashed();
        self.count += 1;
        Some((bucket, entry))
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, (bucket, entry): Spot) -> Word {
        self.count -= 1;
        if bucket < self.normal as usize {
            return self.take((bucket, entry)).1;
        }
        let (_, word) = self.buckets[bucket].take(entry);
        let home = self.home(self.position_of(word));
        self.buckets[home].subtract_stashed();
        word
    }

    /// Notes that an entry of this bucket expires at `at_ms` or later.
    pub(super) fn note_expiry(&mut self, bucket: usize, at_ms: u64) {
        self.expiry.note(bucket, self.buckets.len(), at_ms);
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Spot, Word)> {
        self.buckets
            .iter()
            .enumerate()
            .flat_map(|(at, bucket)| bucket.occupied().map(move |entry| ((at, entry), bucket.word(entry))))
    }

    /// The entries whose home is this bucket, wherever they lie.
    pub(super) fn entries_of_home(&self, home: usize, mut emit: impl FnMut(Spot, Word)) {
        let (bucket, next) = (&self.buckets[home], self.next(home));
        bucket.at_home().for_each(|entry| emit((home, entry), bucket.word(entry)));
        self.buckets[next].displaced().for_each(|entry| emit((next, entry), self.buckets[next].word(entry)));
        if !bucket.has_stashed() {
            return;
        }
        for (stash, bucket) in self.buckets.iter().enumerate().skip(self.normal as usize) {
            for entry in bucket.occupied() {
                let word = bucket.word(entry);
                if self.home(self.position_of(word)) == home {
                    emit((stash, entry), word);
                }
            }
        }
    }
}
