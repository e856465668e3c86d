//! A cursor: how far a SCAN has come along the line of positions.
//!
//! A cursor is the first [`CURSOR_BITS`] bits of a position: everything before it has been visited. A call visits
//! the entries of one home bucket, displaced and stashed ones with it, and returns where the next home begins.
//! Splits, merges and other numbers of buckets move entries between buckets but never along the line, so
//! an entry that is there during the whole scan is visited; twice at most where a bucket has become larger under
//! the scan.
//!
//! No state is kept between calls, and a client may send any number.

use super::hash::{Position, UNIT_BITS};
use super::{Dash, Place, Word};

/// Cursors are below 2 to the power of this. That leaves 11 bits of Redis clients' 53 for the number of a shard.
pub const CURSOR_BITS: u32 = 42;

/// The depth from which on the end of a home could no longer be told in a cursor.
pub(super) const DEPTH_MAX: u8 = (CURSOR_BITS - UNIT_BITS) as u8;

/// Where a scan goes on. The start is also the end: a scan is over when it is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(u64);

impl Cursor {
    /// The beginning, and what a finished scan returns.
    pub const START: Cursor = Cursor(0);

    /// A cursor from its number, or `None` if no scan ever returned it.
    pub const fn from_raw(number: u64) -> Option<Cursor> {
        if number >> CURSOR_BITS == 0 { Some(Cursor(number)) } else { None }
    }

    /// Its number, below 2^[`CURSOR_BITS`].
    pub const fn raw(self) -> u64 {
        self.0
    }

    fn position(self) -> Position {
        Position(self.0 << (u64::BITS - CURSOR_BITS))
    }
}

impl Dash {
    /// Visits the entries of the home bucket at `cursor` (often a few dozen, perhaps none) and returns where to go on.
    pub fn scan(&self, cursor: Cursor, mut emit: impl FnMut(Word, Place)) -> Cursor {
        let Some(position) = self.root.next_planted(cursor.position()) else {
            return Cursor::START;
        };
        let id = self.root.get(position).expect("a planted root covers all its positions");
        let segment = &self.segments[id as usize];
        let home = segment.home(position);
        segment.entries_of_home(home, |(bucket, entry), word| {
            emit(word, Place { segment: id, bucket: bucket as u32, entry: entry as u8 });
        });
        match segment.end_of_home(home) {
            Some(end) => Cursor(end.0 >> (u64::BITS - CURSOR_BITS)),
            None => Cursor::START,
        }
    }
}
