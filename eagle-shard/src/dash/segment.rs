//! A segment: the buckets of one interval of positions, and a stash for what finds no room in them.
//!
//! ```text
//!  ├──────────┼──────────┼── ... ──┼────────────┼─────────┼─────────┤
//!  │ bucket 0 │ bucket 1 │         │ bucket n-1 │ stash 0 │ stash 1 │    in one allocation, cut for size classes
//!  └──────────┴──────────┴── ... ──┴────────────┴─────────┴─────────┘
//! ```
//!
//! The home bucket of a position is its unit (the bits behind the prefix) scaled to `n`, so homes are in the order of
//! positions. An entry is in its home, in the next bucket (the first is next to the last), or in the stash. Inserting
//! takes the emptier of the two; if both are full, moves one of their entries to its own other bucket; if that fails,
//! stashes. Only when the stash is full too is there no room, and the segment is rebuilt: with more buckets, as two
//! halves, or (when neither would help, because hashes are the same) with a larger stash.
//!
//! Segments grow through [`STAGES`], so that a table's size follows its entries closely although a good hash lets all
//! segments fill at the same time.
//!
//! What always holds: every position in it begins with the first `depth` bits of `prefix`; the windows of its words
//! start at bit `base`, `base <= depth`, and reach the end of the unit. So prefix and window tell an entry's home and
//! side of a split.
//!
//! From: Dash, section 4.3 (balanced insert, displacement, stashing).

use super::bucket::{Bucket, ENTRIES};
use super::hash::{KeyHash, Position, ROOT_BITS, UNIT_BITS};
use super::word::{WINDOW_BITS, Word};

/// How a segment grows: buckets and stash buckets. The sums are multiples of 2 KiB from 16 on, as allocators like them.
const STAGES: [(u32, u32); 14] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (6, 0),
    (7, 1),
    (11, 1),
    (15, 1),
    (22, 2),
    (30, 2),
    (38, 2),
    (46, 2),
    (54, 2),
    (62, 2),
];

/// Buckets of a segment of full size, stash included.
pub(super) const BUCKETS_MAX: usize = 64;

/// A rebuilt segment is at most this full, in percent, so that it does not grow again at once.
const REBUILT_FILL_MAX: usize = 88;

/// An entry's place in its segment.
pub(super) type Spot = (usize, usize);

/// See the drawing at the top.
#[repr(align(64))]
pub(super) struct Segment {
    /// The normal buckets, then the stash; empty in a segment that is not in use.
    buckets: Box<[Bucket]>,
    prefix: u64,
    /// No entry of the segment expires before this, in ms since 1970.
    pub(super) expiry_min_ms: u64,
    count: u32,
    normal: u32,
    depth: u8,
    base: u8,
}

const _: () = assert!(size_of::<Segment>() == 64);

impl Segment {
    /// The segment that an unused place of the slab holds: no entries, no buckets.
    pub(super) fn vacant() -> Segment {
        Segment {
            buckets: Box::default(),
            prefix: 0,
            expiry_min_ms: u64::MAX,
            count: 0,
            normal: 0,
            depth: 0,
            base: 0,
        }
    }

    /// An empty segment for all positions of a root.
    pub(super) fn of_root(root: usize) -> Segment {
        let depth = ROOT_BITS as u8;
        Segment::empty(
            (root as u64) << (u64::BITS - ROOT_BITS),
            depth,
            depth,
            STAGES[0],
        )
    }

    fn empty(prefix: u64, depth: u8, base: u8, (normal, stash): (u32, u32)) -> Segment {
        debug_assert!(base <= depth && u32::from(depth - base) + UNIT_BITS <= WINDOW_BITS);
        Segment {
            buckets: vec![Bucket::EMPTY; (normal + stash) as usize].into_boxed_slice(),
            prefix,
            expiry_min_ms: u64::MAX,
            count: 0,
            normal,
            depth,
            base,
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
        if bucket + 1 == self.normal as usize {
            0
        } else {
            bucket + 1
        }
    }

    #[inline]
    fn previous(&self, bucket: usize) -> usize {
        if bucket == 0 {
            self.normal as usize - 1
        } else {
            bucket - 1
        }
    }

    /// The position of an entry as far as it is known without its record: to the end of the window.
    #[inline]
    pub(super) fn position_of(&self, word: Word) -> Position {
        let window = (u64::from(word.window()) << (u64::BITS - WINDOW_BITS)) >> self.base;
        Position(self.prefix | window)
    }

    /// The entry with this position and fingerprint for which `eq` says yes.
    #[inline]
    pub(super) fn find(
        &self,
        home: usize,
        position: Position,
        fingerprint: u8,
        mut eq: impl FnMut(Word) -> bool,
    ) -> Option<Spot> {
        let window = position.window(self.base);
        let mut is_it = |word: Word| word.window() == window && eq(word);
        let at = [home, self.next(home)];
        let [bucket, next] = at.map(|at| &self.buckets[at]);
        for (which, entry) in bucket.matching_of_home(next, fingerprint) {
            if is_it(self.buckets[at[which]].word(entry)) {
                return Some((at[which], entry));
            }
        }
        if !bucket.overflows() {
            return None;
        }
        for (stash, bucket) in self.buckets.iter().enumerate().skip(self.normal as usize) {
            for entry in bucket.matching_stashed(fingerprint) {
                if is_it(bucket.word(entry)) {
                    return Some((stash, entry));
                }
            }
        }
        None
    }

    /// The word that `find` would ask about first, from the two buckets of this home.
    #[inline]
    pub(super) fn candidate(
        &self,
        home: usize,
        position: Position,
        fingerprint: u8,
    ) -> Option<Word> {
        let window = position.window(self.base);
        let pair = [&self.buckets[home], &self.buckets[self.next(home)]];
        let matching = pair[0].matching_of_home(pair[1], fingerprint);
        matching
            .map(|(which, entry)| pair[which].word(entry))
            .find(|word| word.window() == window)
    }

    #[inline]
    pub(super) fn prefetch_fingerprints(&self, home: usize) {
        self.buckets[home].prefetch_fingerprints();
        self.buckets[self.next(home)].prefetch_fingerprints();
    }

    #[inline]
    pub(super) fn prefetch_words(&self, home: usize, fingerprint: u8) {
        let pair = [&self.buckets[home], &self.buckets[self.next(home)]];
        for (which, entry) in pair[0].matching_of_home(pair[1], fingerprint) {
            pair[which].prefetch_word(entry);
        }
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
        for bucket in &mut self.buckets {
            for entry in bucket.occupied() {
                let word = bucket.word(entry);
                bucket.set_word(entry, change(word).with_window(word.window()));
            }
        }
    }

    /// Adds an entry, or says that there is no room for it.
    pub(super) fn insert(
        &mut self,
        position: Position,
        fingerprint: u8,
        word: Word,
    ) -> Option<Spot> {
        let word = word.with_window(position.window(self.base));
        let home = self.home(position);
        let next = self.next(home);
        let (free_home, free_next) = (self.buckets[home].free(), self.buckets[next].free());
        let spot = if !free_home.is_empty() && free_home.len() >= free_next.len() {
            (home, free_home.first())
        } else if !free_next.is_empty() {
            (next, free_next.first())
        } else if let Some(spot) = self.displace(home, next) {
            spot
        } else {
            return self.stash(home, fingerprint, word);
        };
        self.buckets[spot.0].put(spot.1, fingerprint, word, spot.0 != home);
        self.count += 1;
        Some(spot)
    }

    /// Makes room in one of two full buckets by moving one of their entries to its other bucket.
    fn displace(&mut self, home: usize, next: usize) -> Option<Spot> {
        let (before, after) = (self.previous(home), self.next(next));
        if !self.buckets[after].free().is_empty() && !self.buckets[next].at_home().is_empty() {
            let spot = (next, self.buckets[next].at_home().first());
            self.shift(spot, after, true);
            return Some(spot);
        }
        if !self.buckets[before].free().is_empty() && !self.buckets[home].displaced().is_empty() {
            let spot = (home, self.buckets[home].displaced().first());
            self.shift(spot, before, false);
            return Some(spot);
        }
        None
    }

    fn shift(&mut self, (bucket, entry): Spot, to: usize, displaced: bool) {
        let (fingerprint, word) = self.buckets[bucket].take(entry);
        let free = self.buckets[to].free().first();
        self.buckets[to].put(free, fingerprint, word, displaced);
    }

    fn stash(&mut self, home: usize, fingerprint: u8, word: Word) -> Option<Spot> {
        let stash = (self.normal as usize..self.buckets.len())
            .find(|at| !self.buckets[*at].free().is_empty())?;
        let entry = self.buckets[stash].free().first();
        self.buckets[stash].put(entry, fingerprint, word, false);
        self.buckets[home].add_overflow();
        self.count += 1;
        Some((stash, entry))
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, (bucket, entry): Spot) -> Word {
        let (_, word) = self.buckets[bucket].take(entry);
        if bucket >= self.normal as usize {
            let home = self.home(self.position_of(word));
            self.buckets[home].subtract_overflow();
        }
        self.count -= 1;
        word
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Spot, Word)> {
        self.buckets.iter().enumerate().flat_map(|(at, bucket)| {
            bucket
                .occupied()
                .map(move |entry| ((at, entry), bucket.word(entry)))
        })
    }

    /// The entries whose home is this bucket, wherever they lie.
    pub(super) fn entries_of_home(&self, home: usize, mut emit: impl FnMut(Spot, Word)) {
        let (bucket, next) = (&self.buckets[home], self.next(home));
        bucket
            .at_home()
            .for_each(|entry| emit((home, entry), bucket.word(entry)));
        self.buckets[next]
            .displaced()
            .for_each(|entry| emit((next, entry), self.buckets[next].word(entry)));
        if !bucket.overflows() {
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

    /// Whether its words tell the homes of both halves.
    pub(super) fn can_split_unread(&self) -> bool {
        u32::from(self.depth + 1 - self.base) + UNIT_BITS <= WINDOW_BITS
    }

    /// Reads every key's hash to let the windows begin where the prefix ends.
    pub(super) fn renew_windows(&mut self, rehash: &mut dyn FnMut(Word) -> KeyHash) {
        let root = self.first_position().root();
        for bucket in &mut self.buckets {
            for entry in bucket.occupied() {
                let word = bucket.word(entry);
                let position = Position::new(root, rehash(word));
                debug_assert!(
                    self.depth == 0 || (position.0 ^ self.prefix) >> (64 - self.depth) == 0
                );
                bucket.set_word(entry, word.with_window(position.window(self.depth)));
            }
        }
        self.base = self.depth;
    }

    /// The two halves of a segment that can be split unread.
    pub(super) fn split(&self) -> (Segment, Segment) {
        let upper = self
            .entries()
            .filter(|(_, word)| self.position_of(*word).bit(self.depth))
            .count();
        let half = |count, bit: u64| {
            let prefix = self.prefix | bit << (u64::BITS - 1 - u32::from(self.depth));
            Segment::rebuilt(&[self], count, prefix, self.depth + 1, self.base)
        };
        (half(self.count() - upper, 0), half(upper, 1))
    }

    /// One segment with the entries of two halves.
    pub(super) fn merge(lower: &Segment, upper: &Segment) -> Segment {
        debug_assert!(lower.depth == upper.depth && lower.prefix < upper.prefix);
        let depth = lower.depth - 1;
        // Bits before a window are in the prefix, so a window can always begin earlier.
        let base = depth.min(lower.base).min(upper.base);
        Segment::rebuilt(
            &[lower, upper],
            lower.count() + upper.count(),
            lower.prefix,
            depth,
            base,
        )
    }

    /// The same entries in as few buckets as they need, or `None` if these are not fewer than now.
    pub(super) fn shrunk(&self) -> Option<Segment> {
        let stage = stage_for(self.count());
        let fewer = STAGES[stage].0 < self.normal || self.stash_len() > STAGES[stage].1;
        fewer.then(|| Segment::rebuilt_from(stage, &[self], self.prefix, self.depth, self.base))
    }

    /// The same entries in the next stage.
    pub(super) fn grown(&self) -> Segment {
        let stage = STAGES
            .iter()
            .position(|stage| stage.0 > self.normal)
            .unwrap_or(STAGES.len() - 1);
        Segment::rebuilt_from(stage, &[self], self.prefix, self.depth, self.base)
    }

    /// The same entries in full size with a larger stash.
    pub(super) fn with_larger_stash(&self) -> Segment {
        let sizes = larger_stashes().filter(|(_, stash)| *stash > self.stash_len());
        Segment::rebuilt_in(sizes, &[self], self.prefix, self.depth, self.base)
    }

    fn stash_len(&self) -> u32 {
        self.buckets.len() as u32 - self.normal
    }

    fn rebuilt(sources: &[&Segment], count: usize, prefix: u64, depth: u8, base: u8) -> Segment {
        Segment::rebuilt_from(stage_for(count), sources, prefix, depth, base)
    }

    fn rebuilt_from(
        stage: usize,
        sources: &[&Segment],
        prefix: u64,
        depth: u8,
        base: u8,
    ) -> Segment {
        let sizes = STAGES[stage..].iter().copied().chain(larger_stashes());
        Segment::rebuilt_in(sizes, sources, prefix, depth, base)
    }

    /// Puts those entries of `sources` that belong to the interval into a new segment of the first size that fits.
    fn rebuilt_in(
        sizes: impl Iterator<Item = (u32, u32)>,
        sources: &[&Segment],
        prefix: u64,
        depth: u8,
        base: u8,
    ) -> Segment {
        for size in sizes {
            let mut rebuilt = Segment::empty(prefix, depth, base, size);
            if sources.iter().all(|source| rebuilt.take_entries(source)) {
                rebuilt.expiry_min_ms = sources
                    .iter()
                    .map(|source| source.expiry_min_ms)
                    .min()
                    .unwrap_or(u64::MAX);
                return rebuilt;
            }
        }
        unreachable!("a stash that doubles holds any number of entries");
    }

    /// Copies those entries of `source` that belong here, in the order of homes; false if there was no room for all.
    fn take_entries(&mut self, source: &Segment) -> bool {
        let mine = u64::MAX << (u64::BITS - u32::from(self.depth));
        source.buckets.iter().all(|bucket| {
            bucket.occupied().all(|entry| {
                let word = bucket.word(entry);
                let position = source.position_of(word);
                (position.0 ^ self.prefix) & mine != 0
                    || self
                        .insert(position, bucket.fingerprint(entry), word)
                        .is_some()
            })
        })
    }
}

/// The smallest stage that these entries leave some room in.
fn stage_for(count: usize) -> usize {
    let fits = |(normal, stash): &(u32, u32)| {
        (normal + stash) as usize * ENTRIES * REBUILT_FILL_MAX / 100 >= count
    };
    STAGES.iter().position(fits).unwrap_or(STAGES.len() - 1)
}

/// Full sizes with ever larger stashes, for entries whose hashes are the same.
fn larger_stashes() -> impl Iterator<Item = (u32, u32)> {
    let (normal, stash) = STAGES[STAGES.len() - 1];
    (1..24).map(move |power| (normal, stash << power))
}
