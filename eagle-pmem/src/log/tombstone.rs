//! Tombstones: what keeps a deleted key dead when the log is replayed, and for how long.
//!
//! A tombstone of version v is needed while any extent holds a dead record older than v: it may be the
//! one that v kills, and replay would take it for alive. Each extent knows the oldest of its dead; the
//! least of them is the *floor*, and a tombstone at or below the floor of all other extents may go with
//! the extent that a walk empties. A record that died later than a tombstone was written cannot be one
//! that it kills, so a floor once seen stays good for the tombstones there were.
//!
//! The version of a dead record is its own where it carries one, else that of its extent's first: never
//! above the true one. Where there is a medium, a freed extent counts until it is clean ([`crate::sync`]).

use super::{Log, Place};
use crate::extent::{Extent, ExtentId};
use crate::offset::PoolOffset;
use crate::record::Kind;

impl Log {
    /// The version below which nothing dead lies in any extent but `except`: tombstones up to it may
    /// be dropped from there.
    pub fn floor(&self, except: ExtentId) -> u64 {
        let others = self.extents.iter().filter(|(id, _)| *id != except);
        others.map(|(_, extent)| extent.dead_version_min).min().unwrap_or(u64::MAX).min(self.dying_version_min())
    }

    /// The sealed extent with the oldest dead record, if that is the oldest of all: what must be
    /// compacted for tombstones to become droppable.
    pub fn floor_holder(&self) -> Option<ExtentId> {
        let oldest = |(_, extent): &(ExtentId, &Extent)| extent.dead_version_min;
        let (id, extent) = self.extents.iter().min_by_key(oldest)?;
        let has_dead = extent.dead_version_min != u64::MAX;
        (has_dead && self.may_compact(extent)).then_some(id)
    }

    /// A tombstone met on a walk is no longer needed.
    ///
    /// # Panics
    /// If the record is no tombstone.
    pub fn drop_tombstone(&mut self, offset: PoolOffset) {
        let record = self.read(offset);
        assert_eq!(record.kind(), Kind::Tombstone);
        let len = record.bytes_on_medium() as u64;
        self.forget_tombstone(offset, len);
        self.kill_bytes(offset, len);
    }

    /// A tombstone of `len` bytes was appended or moved to `place`.
    pub(super) fn note_tombstone(&mut self, place: &Place, len: usize, version: Option<u64>) {
        let id = self.extent_of(place.offset);
        let extent = self.extents.get_mut(id);
        let version = version.unwrap_or(extent.version_base + extent.records - 1);
        extent.tombstones += len as u64;
        extent.tombstone_version_max = extent.tombstone_version_max.max(version);
        self.bytes_tombstones += len as u64;
    }

    /// A tombstone is dropped, or moved away from `offset`.
    pub(super) fn forget_tombstone(&mut self, offset: PoolOffset, len: u64) {
        let id = self.extent_of(offset);
        self.extents.get_mut(id).tombstones -= len;
        self.bytes_tombstones -= len;
    }

    /// A record dies where it lies.
    pub(super) fn note_dead(&mut self, offset: PoolOffset) {
        let version = self.read(offset).version();
        let id = self.extent_of(offset);
        let extent = self.extents.get_mut(id);
        let version = version.unwrap_or(extent.version_base);
        extent.dead_version_min = extent.dead_version_min.min(version);
    }

    /// The two lowest of all extents' oldest dead, the first with its extent: what `floor` needs for
    /// every extent at once.
    pub(super) fn floors(&self) -> Floors {
        let mut floors = Floors { holder: None, lowest: self.dying_version_min(), second: u64::MAX };
        if self.bytes_tombstones == 0 {
            return floors;
        }
        for (id, extent) in self.extents.iter() {
            let version = extent.dead_version_min;
            if version < floors.lowest {
                floors = Floors { holder: Some(id), lowest: version, second: floors.lowest };
            } else {
                floors.second = floors.second.min(version);
            }
        }
        floors
    }
}

/// See [`Log::floors`].
#[derive(Clone, Copy)]
pub(super) struct Floors {
    holder: Option<ExtentId>,
    lowest: u64,
    second: u64,
}

impl Floors {
    /// Bytes of an extent that a walk would find dead: dead records, and tombstones if all of them are
    /// no longer needed.
    pub(super) fn bytes_dead(&self, id: ExtentId, extent: &Extent) -> u64 {
        let floor = if self.holder == Some(id) { self.second } else { self.lowest };
        let droppable = if extent.tombstone_version_max <= floor { extent.tombstones } else { 0 };
        extent.used - extent.live + droppable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogConfig, Policy, RecordParts};

    fn log() -> Log {
        Log::anonymous(LogConfig { replayed: true, extent_bytes: 64 << 10, ..LogConfig::new(1, 4 << 20) }).unwrap()
    }

    fn fill_extent(log: &mut Log, key: &[u8]) -> Vec<PoolOffset> {
        let value = [1; 2000];
        let append = |log: &mut Log| log.append(&RecordParts::new(Kind::String, key, &[&value]));
        let first = append(log);
        let (extent, mut offsets) = (log.extent_of(first), vec![first]);
        loop {
            let offset = append(log);
            offsets.push(offset);
            if log.extent_of(offset) != extent {
                return offsets;
            }
        }
    }

    #[test]
    fn a_tombstone_is_needed_while_what_it_kills_lies_somewhere() {
        // Its own extent does not count, being emptied; the extent of the dead record does, until it is free.
        let mut log = log();
        let offsets = fill_extent(&mut log, b"key");
        let old = log.extent_of(offsets[0]);
        log.delete(offsets[0]);
        let tombstone = log.extent_of(*offsets.last().unwrap());
        assert_ne!(old, tombstone);
        let version = log.records(tombstone).count() as u64 - 1 + log.extent(tombstone).version_base;
        assert!(log.floor(tombstone) < version);
        assert_eq!(log.floor_holder(), Some(old));
        for offset in &offsets[1..offsets.len() - 1] {
            log.kill(*offset);
        }
        assert_eq!(log.floor(tombstone), u64::MAX);
        assert_eq!(log.usage().bytes_tombstones, 16);
    }

    #[test]
    fn an_extent_of_tombstones_no_longer_needed_is_a_victim() {
        // All records are deleted and their extents free; what is left are tombstones, and a walk may drop them all.
        let mut log = log();
        let mut offsets = Vec::new();
        for _ in 0..5 {
            offsets.extend(fill_extent(&mut log, &[b'k'; 200]));
        }
        for offset in offsets {
            log.delete(offset);
        }
        fill_extent(&mut log, b"other");
        let victim = log.victim(Policy::Greedy, 50).expect("tombstones may go");
        let (floor, mut walk) = (log.floor(victim), log.walk(victim));
        while let Some(found) = log.step(&mut walk) {
            let (offset, version, kind) = (found.offset, found.version, found.record.kind());
            if kind == Kind::Tombstone {
                assert!(version <= floor);
                log.drop_tombstone(offset);
            }
        }
        assert_eq!(log.extent(victim).tombstones, 0);
    }
}
