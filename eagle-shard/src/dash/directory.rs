//! A directory: which segment holds which positions under one root.
//!
//! ```text
//!  root  ┌───┬───┬───┬─ ... ─┬─────┐     one directory for each value of a position's first 8 bits
//!        │ 0 │ 1 │ 2 │       │ 255 │
//!        └───┴─┬─┴───┴─ ... ─┴─────┘
//!              ▼
//!        ┌────┬────┬────┬────┐           2^depth segment numbers, by the bits that follow;
//!        │ 17 │ 17 │ 90 │ 41 │           a segment of lesser depth stands in neighbouring places
//!        └────┴────┴────┴────┘
//! ```
//!
//! Each directory has a depth of its own, so that a slot with many keys deepens only its own directory. Directories
//! appear with their first entry, and a table that only uses root 0 has only that. The places of all directories lie
//! in one vector, because every lookup comes by: a directory that grows moves to its end, and the vector is
//! rewritten when most of it is left over.
//!
//! What always holds: the segments of a directory cover all positions of its root, each position once.
//!
//! From: Dash, section 4.7, and extendible hashing by the most significant bits.

use super::hash::{Position, ROOT_BITS};

/// Places a directory may have for each of its segments, as a power of two. It bounds what equal hashes can cost.
const SPARSENESS_MAX_BITS: u32 = 6;

/// Places left over that are not worth rewriting the others for.
const LEFT_OVER_MIN: usize = 256;

/// Segment numbers by position; see the drawing at the top.
#[derive(Default)]
pub(super) struct Root {
    directories: Vec<Directory>,
    places: Vec<u32>,
    /// Places that belong to no directory any more.
    left_over: usize,
}

#[derive(Clone, Copy)]
struct Directory {
    /// Where its places begin; behind all places before the first entry.
    start: u32,
    /// How many different segments stand in its places.
    segments: u32,
    /// Bits behind the root's that choose a place.
    depth: u8,
}

impl Root {
    /// The segment that covers this position, if anything was ever put under its root.
    #[inline]
    pub(super) fn get(&self, position: Position) -> Option<u32> {
        let directory = self.directories.get(position.root())?;
        self.places.get(directory.place(position)).copied()
    }

    /// Heap bytes of all directories.
    pub(super) fn bytes(&self) -> usize {
        self.directories.capacity() * size_of::<Directory>() + self.places.capacity() * size_of::<u32>()
    }

    /// Starts the directory of a root that has none, with 2^`depth` segments numbered from `first` on.
    pub(super) fn plant(&mut self, root: usize, first: u32, depth: u8) {
        if root >= self.directories.len() {
            let roots = if root == 0 { 1 } else { 1 << ROOT_BITS };
            self.directories.resize(roots, Directory::NONE);
        }
        debug_assert!(self.directories[root].is_none());
        let segments = 1 << depth;
        self.directories[root] = Directory { start: self.end(), segments, depth };
        self.places.extend(first..first + segments);
    }

    /// Starts the directory of a root that has none with segments numbered from `first` on, of which the prefixes, in order, and depths
    /// are given. `None` if these do not cover all positions of the root, each once.
    pub(super) fn plant_image(
        &mut self,
        root: usize,
        first: u32,
        segments: impl Iterator<Item = (u64, u8)> + Clone,
    ) -> Option<()> {
        let deepest = segments.clone().map(|(_, depth)| depth).max()?;
        let depth = deepest.checked_sub(ROOT_BITS as u8).filter(|depth| *depth < 32)?;
        let start = self.end();
        for (number, (prefix, of_segment)) in (first..).zip(segments.clone()) {
            let begin = ((prefix << ROOT_BITS) >> 1) >> (u64::BITS - 1 - u32::from(depth));
            if begin as usize != self.places.len() - start as usize {
                return None;
            }
            let places = 1_usize << (deepest - of_segment);
            self.places.extend(std::iter::repeat_n(number, places));
        }
        if self.places.len() - start as usize != 1 << depth {
            return None;
        }
        if root >= self.directories.len() {
            let roots = if root == 0 { 1 } else { 1 << ROOT_BITS };
            self.directories.resize(roots, Directory::NONE);
        }
        self.directories[root] = Directory { start, segments: segments.count() as u32, depth };
        Some(())
    }

    /// Whether a segment of this depth that covers `position` may be split without the directory getting too sparse.
    pub(super) fn may_split(&self, position: Position, depth: u8) -> bool {
        let directory = &self.directories[position.root()];
        u32::from(depth) - ROOT_BITS < directory.segments.ilog2() + SPARSENESS_MAX_BITS
    }

    /// Lets `upper` stand for the upper half of the segment of this depth that begins at `first`.
    pub(super) fn split(&mut self, first: Position, depth: u8, upper: u32) {
        let depth = depth - ROOT_BITS as u8;
        if self.directories[first.root()].depth == depth {
            self.double(first.root());
        }
        let directory = &mut self.directories[first.root()];
        directory.segments += 1;
        let half = 1 << (directory.depth - depth - 1);
        let start = directory.place(first) + half;
        self.places[start..start + half].fill(upper);
    }

    /// Lets `lower` also stand for its buddy's positions, both of this depth.
    pub(super) fn merge(&mut self, first: Position, depth: u8, lower: u32) {
        let directory = &mut self.directories[first.root()];
        directory.segments -= 1;
        let half = 1 << (directory.depth - (depth - ROOT_BITS as u8));
        let start = directory.place(first) + half;
        self.places[start..start + half].fill(lower);
        while self.halve(first.root()) {}
    }

    /// The first position at or behind this one whose root has a directory.
    pub(super) fn next_planted(&self, position: Position) -> Option<Position> {
        let from = position.root();
        let found = (from..self.directories.len()).find(|root| !self.directories[*root].is_none())?;
        Some(if found == from { position } else { Position((found as u64) << (u64::BITS - ROOT_BITS)) })
    }

    fn end(&self) -> u32 {
        u32::try_from(self.places.len()).expect("fewer than 2^32 places")
    }

    /// Gives a directory two places for each it had, at the end of all places.
    fn double(&mut self, root: usize) {
        let (end, old) = (self.end(), self.directories[root].places());
        self.left_over += old.len();
        for at in old {
            self.places.extend([self.places[at]; 2]);
        }
        let directory = &mut self.directories[root];
        directory.start = end;
        directory.depth += 1;
        if self.left_over > self.places.len() / 2 + LEFT_OVER_MIN {
            self.rewrite();
        }
    }

    /// Gives a directory half its places if each two neighbours are the same.
    fn halve(&mut self, root: usize) -> bool {
        let directory = &mut self.directories[root];
        let places = &mut self.places[directory.places()];
        if directory.depth == 0 || places.chunks_exact(2).any(|pair| pair[0] != pair[1]) {
            return false;
        }
        let half = places.len() / 2;
        (0..half).for_each(|at| places[at] = places[at * 2]);
        self.left_over += half;
        directory.depth -= 1;
        true
    }

    /// Moves all directories together, into as much memory as they need.
    fn rewrite(&mut self) {
        let mut places = Vec::with_capacity((self.places.len() - self.left_over) * 5 / 4);
        for directory in self.directories.iter_mut().filter(|directory| !directory.is_none()) {
            let old = directory.places();
            directory.start = places.len() as u32;
            places.extend_from_slice(&self.places[old]);
        }
        self.places = places;
        self.left_over = 0;
    }
}

impl Directory {
    const NONE: Directory = Directory { start: u32::MAX, segments: 0, depth: 0 };

    fn is_none(&self) -> bool {
        self.segments == 0
    }

    fn places(&self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + (1 << self.depth)
    }

    /// The index among all places of the one that covers a position.
    #[inline]
    fn place(&self, position: Position) -> usize {
        // Two shifts, because one of 64 (depth 0) is not defined.
        let within = ((position.0 << ROOT_BITS) >> 1) >> (u64::BITS - 1 - u32::from(self.depth));
        self.start as usize + within as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(root: u64, path: u64) -> Position {
        Position(root << 56 | path << 48)
    }

    #[test]
    fn splits_and_merges_give_each_position_its_segment() {
        // The places of the drawing above, grown split by split, then folded back to one.
        let mut root = Root::default();
        assert_eq!(root.get(at(1, 0)), None);
        root.plant(1, 17, 0);
        root.split(at(1, 0), 8, 90);
        root.split(at(1, 0x80), 9, 41);
        let seen = |root: &Root| [0, 0x40, 0x80, 0xc0].map(|path| root.get(at(1, path)));
        assert_eq!(seen(&root), [Some(17), Some(17), Some(90), Some(41)]);
        assert_eq!(root.get(at(2, 0)), None);
        root.merge(at(1, 0x80), 10, 90);
        assert_eq!(seen(&root), [Some(17), Some(17), Some(90), Some(90)]);
        assert_eq!(root.directories[1].depth, 1);
        root.merge(at(1, 0), 9, 17);
        assert_eq!(seen(&root), [Some(17); 4]);
        assert_eq!(root.directories[1].depth, 0);
    }

    #[test]
    fn places_left_over_are_given_back() {
        // Directories that grow and fold again and again keep their segments, and leave no more over than they use.
        let mut root = Root::default();
        (0..256).for_each(|at_root| root.plant(at_root, at_root as u32, 0));
        for round in 0..20u32 {
            for at_root in 0..256 {
                (8..12).for_each(|depth| root.split(at(at_root, 0), depth, 1000 + round));
                assert_eq!(root.get(at(at_root, 0x80)), Some(1000 + round));
                (9..=12).rev().for_each(|depth| root.merge(at(at_root, 0), depth, at_root as u32));
                assert_eq!(root.get(at(at_root, 0xff)), Some(at_root as u32));
            }
        }
        assert!(root.bytes() < 20_000, "{}", root.bytes());
    }

    #[test]
    fn equal_hashes_cannot_make_a_directory_sparse() {
        // Splitting the same end again and again is refused before places outnumber segments by more than 64 to 1.
        let mut root = Root::default();
        root.plant(0, 0, 0);
        let mut depth = 8;
        while root.may_split(at(0, 0), depth) {
            root.split(at(0, 0), depth, u32::from(depth));
            depth += 1;
        }
        assert!((14..=18).contains(&depth), "depth {depth}");
    }
}
