//! Compaction: choosing an extent, walking its records, and moving those that live.
//!
//! The log knows how much lives in an extent, not what: the shard walks the records, asks its index of each, and has the living ones
//! relocated. That may be done in slices with anything else between them. When the last record has died or moved, the extent is
//! free and the walk is over by itself.

use super::{Lane, Log};
use crate::error::Full;
use crate::extent::{Extent, ExtentId, ExtentState};
use crate::layout::record_header;
use crate::offset::PoolOffset;
use crate::record::{Record, Shape};

/// How an extent is chosen among those of which enough is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The most of age times dead bytes for each living byte to be copied: old extents have ceased to die by themselves.
    CostBenefit,
    /// The most dead bytes: for when room is needed at once.
    Greedy,
}

/// A place in a walk over an extent's records. Holds nothing: the extent may be freed meanwhile, which ends the walk.
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
    /// The sealed extent that it pays most to compact, among those with at least `dead_percent_min` of their records' bytes dead.
    pub fn victim(&self, policy: Policy, dead_percent_min: u8) -> Option<ExtentId> {
        let next_sequence = self.extents.next_sequence();
        let worth = |extent: &Extent| {
            let (dead, live) = (extent.used - extent.live, extent.live);
            match policy {
                Policy::CostBenefit => {
                    let age = (next_sequence - extent.sequence) as f64;
                    age * dead as f64 / live.max(1) as f64
                }
                Policy::Greedy => dead as f64,
            }
        };
        let wanted = |extent: &Extent| {
            let dead = extent.used - extent.live;
            extent.state == ExtentState::Sealed
                && dead > 0
                && dead * 100 >= extent.used * u64::from(dead_percent_min)
        };
        let candidates = self.extents.iter().filter(|(_, extent)| wanted(extent));
        candidates
            .max_by(|a, b| worth(a.1).total_cmp(&worth(b.1)))
            .map(|(id, _)| id)
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

    /// The next record of a walk; `None` at the end of the extent's records, or when the extent was freed.
    pub fn step(&self, walk: &mut Walk) -> Option<Found<'_>> {
        let extent = self.extents.get(walk.extent);
        if extent.sequence != walk.sequence || walk.next >= self.extents.records_end(walk.extent) {
            return None;
        }
        let offset = PoolOffset::from_byte(walk.next);
        let record = self.read(offset);
        let version = record
            .version()
            .unwrap_or(extent.version_base + walk.ordinal);
        walk.next += record.bytes_on_medium() as u64;
        walk.ordinal += 1;
        Some(Found {
            offset,
            version,
            record,
        })
    }

    /// All records of an extent with their offsets, dead or alive, in the order in which they lie.
    pub fn records(&self, extent: ExtentId) -> impl Iterator<Item = (PoolOffset, Record<'_>)> {
        let mut walk = self.walk(extent);
        std::iter::from_fn(move || {
            self.step(&mut walk)
                .map(|found| (found.offset, found.record))
        })
    }

    /// Moves a living record to the extent that compaction fills, and returns where it lies now; the old place is dead. `version` is as a
    /// walk gave it. A record whose checksum was wrong is wrong after it too: moving never makes damage look whole.
    ///
    /// # Errors
    /// There is no room, not even what is kept for this; nothing was changed.
    pub fn relocate(&mut self, offset: PoolOffset, version: u64) -> Result<PoolOffset, Full> {
        let record = self.read(offset);
        let len = record.bytes_on_medium();
        let moved = if self.replayed && (record.version().is_none() || record.more_follows()) {
            self.move_versioned(offset, version)?
        } else {
            self.move_verbatim(offset, len)?
        };
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
        shape
            .write(&record.parts(), bytes)
            .copy_from_slice(record.value());
        let crc = self.checksum.of(
            &self.mapping.bytes(place.range(shape.len))[record_header::KIND..],
            place.seed.at(place.offset),
        ) ^ damage;
        self.mapping.bytes_mut(place.range(shape.len))[record_header::CRC..record_header::KIND]
            .copy_from_slice(&crc.to_le_bytes());
        Ok(place.offset)
    }
}
