//! The limit: what the data of the whole node may take (`maxmemory`), as one of its shards sees it.
//!
//! What counts as taken, here and in `used_memory` of `INFO`:
//!
//! ```text
//!  log      records, dead or alive, the headers of their extents, and free extents whose memory is not given back; not what
//!           the compactor has left behind in the extent that it walks, which is free when it gets to the end
//!  index    of all databases, and of what was flushed and is not swept
//!  other    tables of large values and of collections
//!  clients  sessions and their buffers (the core adds them)
//! ```
//!
//! Not counted is what of two open extents a shard is not written yet. Program, stacks and the rings of the sockets do not count
//! either, some 20 MB with two shards; Redis does not count its own. Any limit can be set. Each shard has two extents open, of 64 KiB at least where
//! the limit is set at the start and of up to 1 MiB where it comes later; below some 1 MiB a shard hardly more than these fits, and below what
//! the connections take nothing does: then all is evicted, and who wants to grow is refused.
//!
//! The core says now and then how much room the node has left ([`Shard::set_room`]); in between, what the log grew by is
//! subtracted. Room is made *ahead* of the writers, in slices of background work, while less than [`Room::ahead`] is left. Where that is not
//! enough, a command that may grow makes room itself before it begins ([`Shard::admit`]): as much as it is about to take when half of
//! what is ahead is used up, and until the node is within its limit when all is; but only so much at a time that it waits for some
//! hundred microseconds. It is refused if no room can be made.
//!
//! Where there is a medium, dead records are won only after a sync: until then they count as room (else keys would be evicted for
//! nothing), and one is asked for when they have become more than what is kept ahead ([`Shard::wants_sync`]).
//!
//! Room is made of dead records, by compaction. While few are dead, keys are evicted, if the policy allows it: they are the dead of
//! the next compaction. So no key leaves while [`DEAD_PERCENT_KEPT`] or more of the log could be had without.

use crate::{compact::Urgency, error::Error, shard::Shard};

/// Records that the compactor looks at before it is asked again whether there is room.
const STEP_RECORDS: usize = 64;

/// Extents of the shard's part of the limit for each free one that keeps its memory for the next use.
const EXTENTS_FOR_ONE_FREE: u64 = 64;

/// Where nothing could be made of the dead bytes, one looks again when so many more died as are this part of an extent.
const DEAD_STEPS: u64 = 256;

/// The part of the limit by which it may be exceeded while room is being made.
const EXCESS_PART: u64 = 128;
/// The part of the limit that is kept free ahead of the writers, and the bounds of that in bytes.
const AHEAD_PART: u64 = 64;
const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// Dead bytes of all that the log has written, in percent, below which keys are evicted rather than records compacted.
pub(crate) const DEAD_PERCENT_KEPT: u64 = 12;

/// Room made by a writer for each byte that it takes, in percent, while less than half of what is ahead is left.
const PAY_PERCENT: u64 = 150;

/// Work of a writer that makes room: for each command, and for each so many bytes that it takes.
const WORK_MAX: usize = 256;
const WORK_BYTES: usize = 256;
/// Work of a writer beyond that, when the limit is exceeded by more than it should be.
const WORK_LAST: usize = 1 << 16;
/// What evicting a key counts as, in records that the compactor looks at.
const EVICTION_WORK: usize = 8;

/// What a shard knows of the limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limit {
    room: Option<Room>,
    /// What the log had written when `room` was told.
    log_bytes: u64,
    /// Dead bytes when nothing more could be made of them.
    dead_left: u64,
    /// Room that writers have taken and not made, in bytes.
    owed: u64,
    /// Keys to be evicted for the room of all shards.
    evictions_due: u64,
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
    /// Memory that the shard takes, in bytes; the page of this module says what counts.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.log_bytes() + (self.index_bytes() + self.other_bytes()) as u64
    }

    /// Tells the shard how much room the node has left now, `None` for as much as it wants.
    pub fn set_room(&mut self, room: Option<Room>) {
        let part = room.map_or(u64::MAX, |room| room.limit / u64::from(self.config.count));
        self.log.keep_free((part / EXTENTS_FOR_ONE_FREE / self.config.extent_size as u64) as usize);
        let dead_left = self.limit.dead_left.min(self.dead_bytes());
        self.limit = Limit { room, log_bytes: self.log_bytes(), dead_left, ..self.limit };
    }

    /// Bytes of room that the node has left as far as this shard knows; negative beyond the limit.
    #[inline]
    #[must_use]
    pub fn room_left(&self) -> i64 {
        match self.limit.room {
            Some(room) => {
                let grown = self.log_bytes() as i64 - self.limit.log_bytes as i64;
                room.bytes - grown + self.log.bytes_awaiting() as i64
            }
            None => i64::MAX,
        }
    }

    /// Lets a command that may grow, and takes about `bytes`, begin, as far as memory goes.
    ///
    /// # Errors
    /// Out of memory: the node takes more than it may, and no room can be made.
    #[inline]
    pub fn admit(&mut self, bytes: usize) -> Result<(), Error> {
        if self.room_left() >= self.limit.room.map_or(i64::MIN, |room| room.ahead() / 2) {
            return Ok(());
        }
        self.make_room_for_growth(bytes)
    }

    /// Whether the shard can make room if it is asked to.
    #[must_use]
    pub fn can_make_room(&self) -> bool {
        !self.flushed.is_empty() || self.has_evictable() || self.has_more_dead()
    }

    /// Whether room is to be made ahead of the writers, and can be.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        let is_short = self.limit.room.is_some_and(|room| self.room_left() < room.ahead());
        is_short
            && (!self.flushed.is_empty()
                || self.has_evictable()
                || self.has_many_dead()
                || self.room_left() < 0 && self.has_more_dead())
    }

    /// Lets so many keys be evicted by and by, because other shards have evicted theirs for the room of all.
    pub fn owe_evictions(&mut self, keys: u64) {
        self.limit.evictions_due = keys;
    }

    /// Whether so much is dead and waits for a sync that one should begin.
    pub(crate) fn awaits_room(&self) -> bool {
        let is_much = |room: Room| self.log.bytes_awaiting() as i64 > room.ahead();
        self.compactor.is_low() && self.log.bytes_awaiting() > 0 || self.limit.room.is_some_and(is_much)
    }

    /// Whether a quarter of the limit or less is left.
    pub(crate) fn is_room_short(&self) -> bool {
        self.limit.room.is_some_and(|room| self.room_left() < (room.limit / 4) as i64)
    }

    /// Makes room ahead of the writers, for about `records` records looked at. Returns how many that was.
    pub(crate) fn make_room_ahead(&mut self, records: usize) -> usize {
        let Some(room) = self.limit.room else {
            return 0;
        };
        let mut done = 0;
        while done < records && self.limit.evictions_due > 0 && self.evict_one() {
            self.limit.evictions_due -= 1;
            done += EVICTION_WORK;
        }
        if self.room_left() < room.ahead() {
            // Some more, so that it is not for a slice or two.
            while done < records && self.room_left() < room.ahead() * 5 / 4 {
                match self.make_some_room() {
                    Some((_, work)) => done += work,
                    None => break,
                }
            }
        }
        done
    }

    #[cold]
    fn make_room_for_growth(&mut self, bytes: usize) -> Result<(), Error> {
        self.limit.owed += bytes as u64 * PAY_PERCENT / 100;
        let work_max = WORK_MAX + bytes / WORK_BYTES;
        let mut work = 0;
        while self.limit.owed > 0 || self.room_left() < 0 {
            if work >= work_max && self.is_within_excess() {
                break;
            }
            if work >= work_max + WORK_LAST {
                return Err(Error::OutOfMemory);
            }
            let Some((bytes, done)) = self.make_some_room() else {
                self.limit.owed = 0;
                let elsewhere = self.limit.room.is_some_and(|room| room.elsewhere) && self.is_within_excess();
                return if self.room_left() >= 0 || elsewhere { Ok(()) } else { Err(Error::OutOfMemory) };
            };
            self.limit.owed = self.limit.owed.saturating_sub(bytes);
            work += done;
        }
        Ok(())
    }

    /// Makes some room, or something of which room can be made. Returns how many bytes that was, and how many records were looked
    /// at for it; `None` if nothing can be done.
    fn make_some_room(&mut self) -> Option<(u64, usize)> {
        let before = self.log.bytes_taken();
        if self.log.give_back() {
            return Some((before - self.log.bytes_taken(), STEP_RECORDS));
        }
        if self.flushed.is_empty() && !self.has_many_dead() {
            if self.evict_one() {
                return Some((0, EVICTION_WORK));
            }
            if self.room_left() >= 0 || !self.has_more_dead() {
                return None;
            }
        }
        match self.reclaim(STEP_RECORDS, Urgency::Pressed) {
            Some(bytes) => Some((bytes as u64, STEP_RECORDS)),
            None if self.evict_one() => Some((0, EVICTION_WORK)),
            None => {
                self.limit.dead_left = self.dead_bytes();
                None
            }
        }
    }

    /// Dead bytes that the compactor has not passed, and may pass.
    fn dead_bytes(&self) -> u64 {
        let passed = self.compactor.bytes_passed(&self.log);
        (self.log.usage().bytes_dead - passed).saturating_sub(self.log.bytes_dead_unsynced())
    }

    /// Whether so much is dead that nothing need be evicted.
    fn has_many_dead(&self) -> bool {
        self.has_more_dead() && self.dead_bytes() * 100 > self.log_bytes() * DEAD_PERCENT_KEPT
    }

    /// Whether more is dead than when nothing could be made of it.
    fn has_more_dead(&self) -> bool {
        self.dead_bytes() > self.limit.dead_left + self.config.extent_size as u64 / DEAD_STEPS
            || self.has_many_tombstones()
    }

    /// Whether the node takes at most a little more than its limit.
    fn is_within_excess(&self) -> bool {
        self.limit.room.is_none_or(|room| self.room_left() > -((room.limit / EXCESS_PART) as i64))
    }

    #[inline]
    fn log_bytes(&self) -> u64 {
        self.log.bytes_taken() - self.compactor.bytes_passed(&self.log)
    }
}

impl Room {
    /// What is kept free ahead of the writers, in bytes.
    #[inline]
    fn ahead(self) -> i64 {
        (self.limit / AHEAD_PART).min(AHEAD_BYTES_MAX) as i64
    }
}

#[cfg(test)]
mod tests;
