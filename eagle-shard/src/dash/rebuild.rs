//! Rebuilding: a segment's entries laid out anew, in more or fewer buckets, as two halves, or together with its buddy's.
//!
//! The entries of a segment lie in the order of their homes, so a rebuild reads and writes memory nearly in order: each
//! entry goes to the next place of its new home, and the few whose home is full are inserted afterwards as any other.
//! A rebuild goes through stages until all entries find room; where hashes are the same, the stash doubles until
//! they do. So it always ends.

use super::bucket::{Bucket, ENTRIES};
use super::hash::{KeyHash, Position, UNIT_BITS};
use super::segment::Segment;
use super::word::{WINDOW_BITS, Word};

/// How a segment grows: buckets and stash buckets. The sums are multiples of 2 KiB from 16 on, as allocators like them.
pub(super) const STAGES: [(u32, u32); 14] = [
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

impl Segment {
    /// Whether its words tell the homes of both halves.
    pub(super) fn can_split_unread(&self) -> bool {
        u32::from(self.depth + 1 - self.base) + UNIT_BITS <= WINDOW_BITS
    }

    /// Reads every key's hash to let the windows begin where the prefix ends.
    pub(super) fn renew_windows(&mut self, rehash: &mut dyn FnMut(Word) -> KeyHash) {
        let root = self.first_position().root();
        for bucket in &mut *self.buckets {
            for entry in bucket.occupied() {
                let word = bucket.word(entry);
                let position = Position::new(root, rehash(word));
                debug_assert!(self.depth == 0 || (position.0 ^ self.prefix) >> (64 - self.depth) == 0);
                bucket.set_word(entry, word.with_window(position.window(self.depth)));
            }
        }
        self.base = self.depth;
    }

    /// The two halves of a segment that can be split unread.
    pub(super) fn split(&self) -> (Segment, Segment) {
        let is_upper = |word| usize::from(self.position_of(word).bit(self.depth));
        let upper_of = |bucket: &Bucket| bucket.occupied().map(|entry| is_upper(bucket.word(entry))).sum::<usize>();
        let upper = self.buckets().iter().map(upper_of).sum();
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
        Segment::rebuilt(&[lower, upper], lower.count() + upper.count(), lower.prefix, depth, base)
    }

    /// The same entries in as few buckets as they need, or `None` if these are not fewer than now.
    pub(super) fn shrunk(&self) -> Option<Segment> {
        let stage = stage_for(self.count());
        let fewer = STAGES[stage].0 < self.normal || self.stash_len() > STAGES[stage].1;
        fewer.then(|| Segment::rebuilt_from(stage, &[self], self.prefix, self.depth, self.base))
    }

    /// The same entries in the next stage.
    pub(super) fn grown(&self) -> Segment {
        let stage = STAGES.iter().position(|stage| stage.0 > self.normal).unwrap_or(STAGES.len() - 1);
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

    fn rebuilt_from(stage: usize, sources: &[&Segment], prefix: u64, depth: u8, base: u8) -> Segment {
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
            if rebuilt.take_entries(sources) {
                return rebuilt;
            }
        }
        unreachable!("a stash that doubles holds any number of entries");
    }

    /// Copies those entries of `sources` that belong to this empty segment; false if there was no room for all.
    fn take_entries(&mut self, sources: &[&Segment]) -> bool {
        let mut fill = [0; STAGES[STAGES.len() - 1].0 as usize];
        let mut left = Vec::new();
        for source in sources {
            for (from, bucket) in source.buckets().iter().enumerate() {
                for entry in bucket.occupied() {
                    let (word, fingerprint) = (bucket.word(entry), bucket.fingerprint(entry));
                    let position = source.position_of(word);
                    if !self.covers(position) {
                        continue;
                    }
                    let expiry_ms = if word.has_expiry() { source.expiry.of(from) } else { u64::MAX };
                    let home = self.home(position);
                    if fill[home] == ENTRIES {
                        left.push((position, fingerprint, word, expiry_ms));
                        continue;
                    }
                    let word = word.with_window(position.window(self.base));
                    self.buckets[home].put(fill[home], fingerprint, word, false);
                    self.note_expiry(home, expiry_ms);
                    fill[home] += 1;
                }
            }
        }
        self.count = fill.iter().sum::<usize>() as u32;
        left.into_iter().all(|(position, fingerprint, word, expiry_ms)| {
            let spot = self.insert(position, fingerprint, word);
            spot.map(|(bucket, _)| self.note_expiry(bucket, expiry_ms)).is_some()
        })
    }
}

/// The smallest stage that these entries leave some room in.
pub(super) fn stage_for(count: usize) -> usize {
    let fits = |(normal, stash): &(u32, u32)| (normal + stash) as usize * ENTRIES * REBUILT_FILL_MAX / 100 >= count;
    STAGES.iter().position(fits).unwrap_or(STAGES.len() - 1)
}

/// Full sizes with ever larger stashes, for entries whose hashes are the same.
fn larger_stashes() -> impl Iterator<Item = (u32, u32)> {
    let (normal, stash) = STAGES[STAGES.len() - 1];
    (1..24).map(move |power| (normal, stash << power))
}
