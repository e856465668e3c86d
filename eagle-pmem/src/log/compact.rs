//! Compaction: choosing an extent, walking its records, and moving those that live.
//!
//! The log knows how much lives in an extent, not what: the shard walks the records, asks its index
//! of each, and has the living ones relocated. That may be done in slices with anything else between
//! them. When the last record has died or moved, the extent is free and the walk is over by itself.
//!
//! A walk is carried to its end. No index knows of a tombstone: it lives until a walk passes it and
//! moves it, and a second walk over the same extent would take what the first moved for alive.

use super::{Lane, Log};
use crate::error::Full;
use crate::extent::{Extent, ExtentId};
use crate::layout::record_header;
use crate::offset::PoolOffset;
use crate::record::{Kind, Record, Shape};

/// How an extent is chosen among those of which enough is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The most of age times dead bytes for each living byte to be copied: old extents have ceased
    /// to die by themselves.
    CostBenefit,
    /// The most dead bytes: for when room is needed at once.
    Greedy,
}

/// A place in a walk over an extent's records. Holds nothing: the extent may be freed meanwhile,
/// which ends the walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    extent: ExtentId,
    sequence: u64,
    next: u64,
    ordinal: u64,
}

impl Walk {
    /// The extent that is walked.
    pub const fn extent(&self) -> ExtentId {
        self.extent
    }

    /// The sequence of the extent that is walked: another one means that it was freed and opened again.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A record met on a walk, dead or alive.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Where it lies.
    pub offset: PoolOffset,
    /// Its version: its own, or its extent's base plus its ordinal.
    pub version: u64,
    /// What it is.
    pub record: Record<'a>,
}

impl Log {
    /// The sealed extent that it pays most to compact, among those with at least `dead_percent_min`
    /// of their records' bytes dead. Tombstones that nothing needs any more count as dead. With a medium, one that is
    /// synced to its end: then no copy is newer than what power loss may take away, and what is left of the log is a
    /// beginning of what was.
    pub fn victim(&self, policy: Policy, dead_percent_min: u8) -> Option<ExtentId> {
        let next_sequence = self.extents.next_sequence();
        let floors = self.floors();
        let worth = |id: ExtentId, extent: &Extent| {
            let dead = floors.bytes_dead(id, extent);
            let live = extent.used - dead;
            match policy {
                Policy::CostBenefit => {
                    let age = (next_sequence - extent.sequence) as f64;
                    age * dead as f64 / live.max(1) as f64
                }
                Policy::Greedy => dead as f64,
            }
        };
        let wanted = |id: ExtentId, extent: &Extent| {
            let dead = floors.bytes_dead(id, extent);
            self.may_compact(extent) && dead > 0 && dead * 100 >= extent.used * u64::from(dead_percent_min)
        };
        let candidates = self.extents.iter().filter(|(id, extent)| wanted(*id, extent));
        candidates.max_by(|a, b| worth(a.0, a.1).total_cmp(&worth(b.0, b.1))).map(|(id, _)| id)
    }

    /// Begins a walk over the records of an extent, from its first.
    pub fn walk(&self, extent: ExtentId) -> Walk {
        Walk {
            extent,
            sequence: self.extents.get(extent).sequence,
            next: self.extents.records_start(extent),
            ordinal: 0,
        }
    }

    /// The next record of a walk; `None` at the end of the extent's records, or when the extent was
    /// freed.
    pub fn step(&self, walk: &mut Walk) -> Option<Found<'_>> {
        let extent = self.extents.get(walk.extent);
        if extent.sequence != walk.sequence || walk.next >= self.extents.records_end(walk.extent) {
            return None;
        }
        let offset = PoolOffset::from_byte(walk.next);
        let record = self.read(offset);
        let version = record.version().unwrap_or(extent.version_base + walk.ordinal);
        walk.next += record.bytes_on_medium() as u64;
        walk.ordinal += record.ordinals();
        Some(Found { offset, version, record })
    }

    /// Bytes of the records that a walk has left behind in its extent: all of them dead or moved, and free when the
    /// walk ends. 0 once the extent is freed.
    pub fn bytes_passed(&self, walk: &Walk) -> u64 {
        if self.extents.get(walk.extent).sequence == walk.sequence {
            walk.next - self.extents.records_start(walk.extent)
        } else {
            0
        }
    }

    /// Seals the open extents of which at least `dead_percent_min` of what is written is dead, so that they can be
    /// compacted. Returns whether there was one.
    ///
    /// # Panics
    /// Within a group.
    pub fn seal_dead(&mut self, dead_percent_min: u8) -> bool {
        assert!(self.group.is_none(), "a group is kept in one extent");
        let mut any = false;
        for lane in [Lane::Appended, Lane::Compacted] {
            let cursor = &self.lanes[lane as usize];
            if cursor.is_closed() {
                continue;
            }
            let extent = self.extents.get(cursor.extent);
            let dead = extent.used - extent.live;
            if dead > 0 && dead * 100 >= extent.used * u64::from(dead_percent_min) {
                self.seal(lane);
                any = true;
            }
        }
        any
    }

    /// All records of an extent with their offsets, dead or alive, in the order in which they lie.
    pub fn records(&self, extent: ExtentId) -> impl Iterator<Item = (PoolOffset, Record<'_>)> {
        let mut walk = self.walk(extent);
        std::iter::from_fn(move || self.step(&mut walk).map(|found| (found.offset, found.record)))
    }

    /// Moves a living record to the extent that compaction fills, and returns where it lies now;
    /// the old place is dead. `version` is as a walk gave it. A record whose checksum was wrong
    /// is wrong after it too: moving never makes damage look whole.
    ///
    /// # Errors
    /// There is no room, not even what is kept for this; nothing was changed.
    pub fn relocate(&mut self, offset: PoolOffset, version: u64) -> Result<PoolOffset, Full> {
        if !self.is_summed(offset) {
            self.sum(Lane::Appended);
        }
        let record = self.read(offset);
        let len = record.bytes_on_medium();
        let moved = if self.replayed && (record.version().is_none() || record.more_follows()) {
            self.move_versioned(offset, version)?
        } else {
            self.move_verbatim(offset, len)?
        };
        if self.replayed && self.read(offset).kind() == Kind::Tombstone {
            self.forget_tombstone(offset, len as u64);
            let moved_len = self.read(moved).bytes_on_medium();
            self.note_tombstone(&self.place_of(moved), moved_len, Some(version));
        }
        self.kill_bytes(offset, len as u64);
        Ok(moved)
    }

    /// Copies a record byte for byte; only the checksum's seed changes.
    fn move_verbatim(&mut self, offset: PoolOffset, len: usize) -> Result<PoolOffset, Full> {
        self.reserve_to_move(len)?;
        let old_seed = self.place_of(offset).seed.at(offset);
        let place = self.claim(Lane::Compacted, len);
        let (record, bytes) = self.record_beside(offset, place.offset, len);
        bytes.copy_from_slice(record.as_bytes());
        let crc = record.crc() ^ old_seed ^ place.seed.at(place.offset);
        bytes[record_header::CRC..record_header::KIND].copy_from_slice(&crc.to_le_bytes());
        self.note_summed(Lane::Compacted);
        Ok(place.offset)
    }

    /// Writes a record anew, as the last of its group and with its version.
    fn move_versioned(&mut self, offset: PoolOffset, version: u64) -> Result<PoolOffset, Full> {
        let old_seed = self.place_of(offset).seed;
        let record = self.read(offset);
        let damage = record.damage(&self.checksum, old_seed, offset);
        let shape = Shape::of(&record.parts(), record.value().len(), Some(version));
        self.reserve_to_move(shape.len)?;
        let place = self.claim(Lane::Compacted, shape.len);
        let (record, bytes) = self.record_beside(offset, place.offset, shape.len);
        shape.write(&record.parts(), bytes).copy_from_slice(record.value());
        self.write_checksum(place, shape.len);
        let at = place.offset.byte() + record_header::CRC as u64;
        for (byte, wrong) in self.mapping.bytes_mut(at..at + 4).iter_mut().zip(damage.to_le_bytes()) {
            *byte ^= wrong;
        }
        self.note_summed(Lane::Compacted);
        Ok(place.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExtentState;
    use crate::{Kind, LogConfig, RecordParts};

    const EXTENT: usize = 64 << 10;

    /// A log of a few extents of which every `nth` record lives.
    fn log(replayed: bool, nth: usize) -> (Log, Vec<PoolOffset>) {
        let config = LogConfig { extent_bytes: EXTENT, replayed, ..LogConfig::new(1, 64 * EXTENT as u64) };
        let mut log = Log::anonymous(config).unwrap();
        let all: Vec<PoolOffset> =
            (0..3000_u32).map(|i| log.append(&RecordParts::new(Kind::String, &i.to_le_bytes(), &[&[1; 64]]))).collect();
        let lives = |i: usize| i.is_multiple_of(nth);
        let dead = all.iter().enumerate().filter(|(i, _)| !lives(*i));
        dead.for_each(|(_, offset)| log.kill(*offset));
        let live = all.iter().enumerate().filter(|(i, _)| lives(*i)).map(|(_, offset)| *offset).collect();
        (log, live)
    }

    #[test]
    fn an_extent_is_freed_by_moving_what_lives() {
        // Walked in slices of three records, each walk ends by itself, and the records read the
        // same where they are now.
        for replayed in [false, true] {
            let (mut log, mut live) = log(replayed, 4);
            let before = log.usage();
            while let Some(victim) = log.victim(Policy::CostBenefit, 20) {
                let mut walk = log.walk(victim);
                loop {
                    let slice: Vec<_> =
                        std::iter::from_fn(|| log.step(&mut walk).map(|found| (found.offset, found.version)))
                            .take(3)
                            .collect();
                    if slice.is_empty() {
                        break;
                    }
                    for (offset, version) in slice {
                        if let Some(at) = live.iter().position(|live| *live == offset) {
                            live[at] = log.relocate(offset, version).unwrap();
                        }
                    }
                    log.commit();
                }
            }
            assert!(log.usage().extents <= before.extents / 2);
            for (i, offset) in live.iter().enumerate() {
                assert_eq!(log.read(*offset).key(), (4 * i as u32).to_le_bytes());
                let version = replayed.then_some(1 + 4 * i as u64).filter(|_| log.read(*offset).version().is_some());
                assert_eq!(log.read(*offset).version(), version);
            }
            log.check(|offset| live.contains(&offset)).unwrap();
        }
    }

    #[test]
    fn a_walk_ends_when_its_extent_is_freed() {
        // Also when the extent has been opened again since and holds other records.
        let (mut log, live) = log(false, 1);
        let victim = log.extent_of(live[0]);
        let mut walk = log.walk(victim);
        assert!(log.step(&mut walk).is_some());
        for offset in &live {
            if log.extent_of(*offset) == victim {
                log.kill(*offset);
            }
        }
        assert!(log.step(&mut walk).is_none());
        while log.extents().all(|(id, _)| id != victim) {
            log.append(&RecordParts::new(Kind::String, b"key", &[&[1; 64]]));
        }
        assert!(log.step(&mut walk).is_none());
        assert!(log.step(&mut log.walk(victim)).is_some());
    }

    #[test]
    fn an_open_extent_is_sealed_to_be_compacted() {
        // Not while too little of it is dead; and what a walk has passed is known until the extent is free.
        let (mut log, _) = log(false, 1);
        let last = log.append(&RecordParts::new(Kind::String, b"last", &[&[1; 64]]));
        let open = log.extent_of(last);
        assert!(!log.seal_dead(2));
        let records: Vec<_> = log.records(open).map(|(offset, _)| offset).collect();
        for offset in &records[..records.len() / 2] {
            log.kill(*offset);
        }
        assert!(!log.seal_dead(60) && log.extent(open).state() == ExtentState::Open);
        assert!(log.seal_dead(40) && log.extent(open).state() == ExtentState::Sealed);
        let (mut walk, mut passed) = (log.walk(open), 0);
        while let Some(found) = log.step(&mut walk) {
            let (offset, version, len) = (found.offset, found.version, found.record.bytes_on_medium());
            passed += len as u64;
            assert_eq!(log.bytes_passed(&walk), passed);
            if records.iter().position(|known| *known == offset) >= Some(records.len() / 2) {
                log.relocate(offset, version).unwrap();
            }
        }
        assert_eq!(log.bytes_passed(&walk), 0, "the extent is free");
    }

    #[test]
    fn old_extents_are_chosen_before_young_ones() {
        // With the same share dead in each, cost-benefit takes the oldest; greedy takes the one
        // with most dead.
        let (mut log, live) = log(false, 2);
        assert_eq!(log.victim(Policy::CostBenefit, 20), Some(log.extent_of(live[0])));
        assert_eq!(log.victim(Policy::CostBenefit, 60), None);
        let young = log.extent_of(live[1000]);
        let more: Vec<_> = live.iter().filter(|offset| log.extent_of(**offset) == young).take(50).copied().collect();
        more.iter().for_each(|offset| log.kill(*offset));
        assert_eq!(log.victim(Policy::Greedy, 20), Some(young));
    }

    #[test]
    fn moving_works_in_a_full_log() {
        // Where nothing more can be reserved, compaction still has room to work in, and makes room.
        let (mut log, live) = log(false, 2);
        log.set_limit(log.usage().bytes);
        assert!(log.reserve(EXTENT).is_err());
        let victim = log.victim(Policy::CostBenefit, 20).unwrap();
        let moved: Vec<_> = live.iter().filter(|offset| log.extent_of(**offset) == victim).copied().collect();
        for offset in moved {
            log.relocate(offset, 0).unwrap();
        }
        assert!(log.extents().all(|(id, _)| id != victim));
    }
}
