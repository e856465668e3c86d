//! The limit: what the data of the whole node may take (`maxmemory`), as one of its shards sees it.
//!
//! What counts as taken, here and in `used_memory` of `INFO`:
//!
//! ```text
//!  log      records, dead or alive, and the headers of their extents; not what the compactor has left behind in the
//!           extent that it walks, which is free when it gets to the end
//!  index    of all databases, and of what was flushed and is not swept
//!  other    tables of large values
//!  clients  sessions and their buffers (the core adds them)
//! ```
//!
//! Not counted are a few extents that were freed and keep their pages to be used again, and what of an open extent is
//! not written yet: a bounded number of extents a shard. Program and stacks do not count either, as in Redis.
//!
//! The core says now and then how much room the node has left ([`Shard::set_room`]); in between, what the log grew by is
//! subtracted. A command that may grow is admitted ([`Shard::admit`]) while there is room. If there is none, it makes
//! some: dead records are compacted away. Only if that cannot be is it refused.

use crate::{compact::Urgency, error::Error, shard::Shard};

/// Records that the compactor looks at before it is asked again whether there is room.
const STEP_RECORDS: usize = 64;

/// Where nothing could be made of the dead bytes, one looks again when so many more died as are this part of an extent.
const DEAD_STEPS: u64 = 256;

/// The part of the limit by which it may be exceeded while other shards make room.
const EXCESS_PART: u64 = 128;

/// What a shard knows of the limit.
#[derive(Debug)]
pub(crate) struct Limit {
    room: Option<Room>,
    /// What the log had written when `room` was told.
    log_bytes: u64,
    /// Dead bytes when nothing more could be made of them.
    dead_left: u64,
}

impl Default for Limit {
    /// No limit.
    fn default() -> Self {
        Self { room: None, log_bytes: 0, dead_left: 0 }
    }
}

/// How much the node may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What the whole node may take, in bytes.
    pub limit: u64,
    /// Bytes left on the whole node; negative when it takes more than it may.
    pub bytes: i64,
    /// Whether other shards can make room.
    pub elsewhere: bool,
}

impl Shard {
    /// Memory that the shard takes, in bytes; see [the module](self) for what counts.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let index: usize = self.databases.iter().map(|database| database.dash.bytes()).sum();
        self.log_bytes() + (index + self.flushed.bytes() + self.large.bytes()) as u64
    }

    /// Tells the shard how much room the node has left now, `None` for as much as it wants.
    pub fn set_room(&mut self, room: Option<Room>) {
        let dead_left = self.limit.dead_left.min(self.log.usage().bytes_dead);
        self.limit = Limit { room, log_bytes: self.log_bytes(), dead_left };
    }

    /// Bytes of room that the node has left as far as this shard knows; negative beyond the limit.
    #[inline]
    #[must_use]
    pub fn room_left(&self) -> i64 {
        match self.limit.room {
            Some(room) => room.bytes - (self.log_bytes() as i64 - self.limit.log_bytes as i64),
            None => i64::MAX,
        }
    }

    /// Lets a command that may grow begin, as far as memory goes.
    ///
    /// # Errors
    /// Out of memory: the node takes more than it may, and no room can be made.
    #[inline]
    pub fn admit(&mut self) -> Result<(), Error> {
        if self.room_left() >= 0 { Ok(()) } else { self.make_up() }
    }

    /// Whether the shard can make room if it is asked to.
    #[must_use]
    pub fn can_make_room(&self) -> bool {
        let dead = self.log.usage().bytes_dead;
        !self.flushed.is_empty() || dead > self.limit.dead_left + self.config.extent_size as u64 / DEAD_STEPS
    }

    /// Makes room until the node is within its limit.
    #[cold]
    fn make_up(&mut self) -> Result<(), Error> {
        while self.room_left() < 0 {
            let can = self.can_make_room();
            if !can || self.reclaim(STEP_RECORDS, Urgency::Pressed).is_none() {
                self.note_nothing_to_make();
                return if self.may_exceed() { Ok(()) } else { Err(Error::OutOfMemory) };
            }
        }
        Ok(())
    }

    /// Nothing more can be made of what is dead now.
    pub(crate) fn note_nothing_to_make(&mut self) {
        self.limit.dead_left = self.log.usage().bytes_dead;
    }

    /// Whether the node may take a little more than its limit, because other shards are about to make room.
    fn may_exceed(&self) -> bool {
        self.limit.room.is_none_or(|room| room.elsewhere && -self.room_left() < (room.limit / EXCESS_PART) as i64)
    }

    #[inline]
    fn log_bytes(&self) -> u64 {
        self.log.bytes_written() - self.compactor.bytes_passed(&self.log)
    }
}
