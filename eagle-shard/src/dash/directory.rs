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
//! appear with their first entry, and a table that only uses root 0 has only that.
//!
//! What always holds: the segments of a directory cover all positions of its root, each position once.
//!
//! From: Dash, section 4.7, and extendible hashing by the most significant bits.

use super::hash::{Position, ROOT_BITS};

/// Places a directory may have for each of its segments, as a power of two. It bounds what equal hashes can cost.
const SPARSENESS_MAX_BITS: u32 = 6;

/// Segment numbers by position; see the drawing at the top.
#[derive(Default)]
pub(super) struct Root {
    directories: Vec<Directory>,
    bytes: usize,
}

#[derive(Default)]
struct Directory {
    /// Empty before the first entry.
    places: Vec<u32>,
    /// Bits behind the root's that choose a place.
    depth: u8,
    /// How many different segments stand in the places.
    segments: u32,
}

impl Root {
    /// The segment that covers this position, if anything was ever put under its root.
    #[inline]
    pub(super) fn get(&self, position: Position) -> Option<u32> {
        let directory = self.directories.get(position.root())?;
        directory.places.get(directory.place(position)).copied()
    }

    /// Heap bytes of all directories.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Starts the directory of a root that has none with its first segment.
    pub(super) fn plant(&mut self, root: usize, segment: u32) {
        if root >= self.directories.len() {
            let roots = if root == 0 { 1 } else { 1 << ROOT_BITS };
            self.bytes -= self.directories.len() * size_of::<Directory>();
            self.directories.resize_with(roots, Directory::default);
            self.bytes += roots * size_of::<Directory>();
        }
        self.bytes += size_of::<u32>();
        self.directories[root] = Directory {
            places: vec![segment],
            depth: 0,
            segments: 1,
        };
    }

    /// Whether a segment of this depth that covers `position` may be split without the directory getting too sparse.
    pub(super) fn may_split(&self, position: Position, depth: u8) -> bool {
        let directory = &self.directories[position.root()];
        u32::from(depth) - ROOT_BITS < directory.segments.ilog2() + SPARSENESS_MAX_BITS
    }

    /// Lets `upper` stand for the upper half of the segment of this depth that begins at `first`.
    pub(super) fn split(&mut self, first: Position, depth: u8, upper: u32) {
        let directory = &mut self.directories[first.root()];
        let depth = depth - ROOT_BITS as u8;
        if directory.depth == depth {
            directory.places = directory
                .places
                .iter()
                .flat_map(|segment| [*segment, *segment])
                .collect();
            directory.depth += 1;
            self.bytes += directory.places.len() / 2 * size_of::<u32>();
        }
        let half = 1 << (directory.depth - depth - 1);
        let start = directory.place(first) + half;
        directory.places[start..start + half].fill(upper);
        directory.segments += 1;
    }

    /// Lets `lower` also stand for its buddy's positions, both of this depth.
    pub(super) fn merge(&mut self, first: Position, depth: u8, lower: u32) {
        let directory = &mut self.directories[first.root()];
        let half = 1 << (directory.depth - (depth - ROOT_BITS as u8));
        let start = directory.place(first) + half;
        directory.places[start..start + half].fill(lower);
        directory.segments -= 1;
        while directory.depth > 0
            && directory
                .places
                .chunks_exact(2)
                .all(|pair| pair[0] == pair[1])
        {
            directory.places = directory.places.iter().step_by(2).copied().collect();
            directory.depth -= 1;
            self.bytes -= directory.places.len() * size_of::<u32>();
        }
    }

    /// The first position at or behind this one whose root has a directory.
    pub(super) fn next_planted(&self, position: Position) -> Option<Position> {
        let from = position.root();
        let found = (from..self.directories.len())
            .find(|root| !self.directories[*root].places.is_empty())?;
        Some(if found == from {
            position
        } else {
            Position((found as u64) << (u64::BITS - ROOT_BITS))
        })
    }
}

impl Directory {
    #[inline]
    fn place(&self, position: Position) -> usize {
        // Two shifts, because one of 64 (depth 0) is not defined.
        (((position.0 << ROOT_BITS) >> 1) >> (u64::BITS - 1 - u32::from(self.depth))) as usize
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
        root.plant(1, 17);
        root.split(at(1, 0), 8, 90);
        root.split(at(1, 0x80), 9, 41);
        let seen = |root: &Root| [0, 0x40, 0x80, 0xc0].map(|path| root.get(at(1, path)));
        assert_eq!(seen(&root), [Some(17), Some(17), Some(90), Some(41)]);
        assert_eq!(root.get(at(2, 0)), None);
        assert_eq!(root.bytes(), 256 * size_of::<Directory>() + 16);
        root.merge(at(1, 0x80), 10, 90);
        assert_eq!(seen(&root), [Some(17), Some(17), Some(90), Some(90)]);
        assert_eq!(root.bytes(), 256 * size_of::<Directory>() + 8);
        root.merge(at(1, 0), 9, 17);
        assert_eq!(seen(&root), [Some(17); 4]);
    }

    #[test]
    fn equal_hashes_cannot_make_a_directory_sparse() {
        // Splitting the same end again and again is refused before places outnumber segments by more than 64 to 1.
        let mut root = Root::default();
        root.plant(0, 0);
        let mut depth = 8;
        while root.may_split(at(0, 0), depth) {
            root.split(at(0, 0), depth, u32::from(depth));
            depth += 1;
        }
        assert!((14..=18).contains(&depth), "depth {depth}");
    }
}
