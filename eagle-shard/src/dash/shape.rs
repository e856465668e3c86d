//! Shape: when segments grow, split, merge and shrink, so that memory follows the entries both ways.
//!
//! A segment with no room for one more entry gets more buckets, through the stages of `rebuild`; at full size it is split,
//! which touches no other segment. Bounds on depth and on how sparse a directory may be end the splitting where hashes are the
//! same; what then finds no room gets a larger stash. As entries leave, a segment merges with the other half of its parent,
//! or is rebuilt with fewer buckets. Thresholds lie far enough apart that a table which breathes is not rebuilt each time.

use super::bucket::ENTRIES;
use super::cursor::DEPTH_MAX;
use super::hash::{KeyHash, Position, ROOT_BITS};
use super::rebuild::{BUCKETS_MAX, STAGES, stage_for};
use super::segment::Segment;
use super::{Dash, Word};

/// A segment with room for no more is grown if it is at least this full, in percent; else its entries crowd in few
/// homes, and splitting parts them better.
const GROW_FILL_MIN: usize = 60;

/// Two halves become one segment again when together they would fill at most this much of it, in percent.
const MERGE_FILL_MAX: usize = 40;

/// A segment is rebuilt smaller when less than this of it is in use, in percent.
const SHRINK_FILL_MAX: usize = 50;

/// Every how many removals from a segment one looks whether it can be smaller.
const GIVE_BACK_EVERY: usize = 16;

/// How full `reserve` expects segments to become, in percent.
const RESERVED_FILL_MAX: usize = 80;

/// What an emptied table may keep, in bytes.
pub(super) const EMPTY_BYTES_MAX: usize = 128 << 10;

impl Dash {
    /// Gives an empty index the shape it will have with this many keys, if their slots are spread evenly, so that few
    /// segments are rebuilt while they come in. Does nothing to an index with entries.
    pub fn reserve(&mut self, keys: usize) {
        if !self.is_empty() {
            return;
        }
        self.clear();
        let of_root = keys.div_ceil(1 << ROOT_BITS);
        let of_segment_max = BUCKETS_MAX * ENTRIES * RESERVED_FILL_MAX / 100;
        let depth = (of_root.div_ceil(of_segment_max).max(1)).next_power_of_two().ilog2();
        let of_segment = of_root >> depth;
        // Three standard deviations more than the mean.
        let stage = stage_for(of_segment + 3 * of_segment.isqrt());
        for root in 0..1u64 << ROOT_BITS {
            let first = self.segments.len() as u32;
            for place in 0..1u64 << depth {
                let prefix = root << (u64::BITS - ROOT_BITS) | place << (u64::BITS - ROOT_BITS - depth);
                let depth = (ROOT_BITS + depth) as u8;
                self.add(Segment::empty(prefix, depth, depth, STAGES[stage]));
            }
            self.root.plant(root as usize, first, depth as u8);
        }
    }

    #[cold]
    pub(super) fn plant(&mut self, position: Position) -> u32 {
        let segment = self.add(Segment::of_root(position.root()));
        self.root.plant(position.root(), segment, 0);
        segment
    }

    /// Changes the segment so that sooner or later one more entry fits: each call gives it more buckets, fewer
    /// positions or a larger stash, the first two within bounds.
    #[cold]
    pub(super) fn make_room(&mut self, id: u32, rehash: &mut dyn FnMut(Word) -> KeyHash) {
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

    /// Gives memory back now and then where entries leave.
    #[inline]
    pub(super) fn after_removal(&mut self, id: u32) {
        if self.segments[id as usize].count().is_multiple_of(GIVE_BACK_EVERY) {
            self.give_back(id);
        }
    }

    /// Merges a segment with its buddies, or makes it smaller, as far as it has become empty.
    #[cold]
    fn give_back(&mut self, mut id: u32) {
        if self.is_empty() && self.bytes() > EMPTY_BYTES_MAX && self.imaging.is_none() {
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
        let buddy_id = self.root.get(Position(first.0 ^ 1 << (u64::BITS - u32::from(depth))))?;
        let buddy = &self.segments[buddy_id as usize];
        let together_max = BUCKETS_MAX * ENTRIES * MERGE_FILL_MAX / 100;
        if buddy.depth() != depth || segment.count() + buddy.count() > together_max {
            return None;
        }
        let (lower, upper) = if buddy.first_position() < first { (buddy_id, id) } else { (id, buddy_id) };
        let merged = Segment::merge(&self.segments[lower as usize], &self.segments[upper as usize]);
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

    fn replace(&mut self, id: u32, mut segment: Segment) {
        self.before_change(id);
        self.mark_new(&mut segment);
        let old = &mut self.segments[id as usize];
        self.segment_bytes += segment.bytes();
        self.segment_bytes -= old.bytes();
        *old = segment;
    }
}
