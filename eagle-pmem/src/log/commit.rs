//! The commit: what was written since the last one, and the position that it reaches.

use super::{Lane, Log};
use crate::offset::Position;
use std::ops::Range;

/// Memory given back to the system at each commit at most: 64 pages, some 5 us.
const GIVE_BACK_BYTES: u64 = 256 << 10;

/// What is to be made durable, and the position that then holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit<'a> {
    /// Every change made so far is at or below it.
    pub position: Position,
    /// The bytes of the pool written since the commit before, in the order in which they were.
    pub ranges: &'a [Range<u64>],
}

impl Log {
    /// How far the log has come, changes not yet committed included.
    #[inline]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Ends a batch: starts to make durable what was written since the last commit, and says what that was and which position it
    /// reaches. Also gives some memory of freed extents back.
    ///
    /// # Panics
    /// Within a group: half of one must not be committed.
    pub fn commit(&mut self) -> Commit<'_> {
        assert!(self.group.is_none(), "a group is committed whole");
        if std::mem::replace(&mut self.handed_out, true) {
            self.written.clear();
        }
        for lane in [Lane::Appended, Lane::Compacted] {
            let cursor = &mut self.lanes[lane as usize];
            let range = cursor.committed..cursor.next;
            cursor.committed = cursor.next;
            if !range.is_empty() {
                self.written.push(range);
            }
        }
        for range in &self.written {
            self.domain.flush(self.mapping.bytes(range.clone()));
        }
        self.domain.drain();
        self.give_back();
        Commit {
            position: self.position,
            ranges: &self.written,
        }
    }

    /// Gives a slice of the memory of freed extents back to the system, and returns whether there is more. Each commit does so;
    /// an idle shard that commits nothing should.
    pub fn give_back(&mut self) -> bool {
        match self.extents.next_to_give_back(GIVE_BACK_BYTES) {
            Some(range) => {
                self.mapping.give_back(range);
                true
            }
            None => false,
        }
    }

    /// Notes that bytes of an extent that is closed now are part of the next commit.
    pub(super) fn note_written(&mut self, range: Range<u64>) {
        if std::mem::replace(&mut self.handed_out, false) {
            self.written.clear();
        }
        if !range.is_empty() {
            self.written.push(range);
        }
    }
}
