//! The log's state in a checkpoint: which extents there were, what lived in them, and how far they were written.
//!
//! With it a recovery reads only what came later: what was appended to the extents that were open, and the extents that were
//! opened since. An extent of the state that is gone, or used again, had nothing alive that is not elsewhere now; what an index of
//! the same checkpoint says of it is *stale*.

use super::Log;
use crate::extent::{Extent, ExtentId, ExtentState};
use crate::offset::PoolOffset;
use std::collections::HashMap;

/// Bytes of the state's beginning: sequence, version, number of extents.
const HEADER_BYTES: usize = 24;
/// Bytes of an extent.
const EXTENT_BYTES: usize = 64;

/// A log as it was when a checkpoint was taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    pub(super) next_sequence: u64,
    pub(super) next_version: u64,
    /// In the order of their places.
    pub(super) extents: Vec<(u32, KnownExtent)>,
}

/// An extent as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownExtent {
    pub(super) sequence: u64,
    pub(super) used: u64,
    pub(super) live: u64,
    pub(super) records: u64,
    pub(super) tombstones: u64,
    pub(super) tombstone_version_max: u64,
    pub(super) dead_version_min: u64,
    pub(super) run: u32,
    /// It was sealed, so it is as it was.
    pub(super) is_sealed: bool,
}

impl KnownExtent {
    fn of(extent: &Extent) -> Self {
        Self {
            sequence: extent.sequence,
            used: extent.used,
            live: extent.live,
            records: extent.records,
            tombstones: extent.tombstones,
            tombstone_version_max: extent.tombstone_version_max,
            dead_version_min: extent.dead_version_min,
            run: extent.run,
            is_sealed: extent.state == ExtentState::Sealed,
        }
    }

    /// Lets an extent that was found be as it was.
    pub(super) fn apply(&self, extent: &mut Extent) {
        extent.used = self.used;
        extent.live = self.live;
        extent.records = self.records;
        extent.tombstones = self.tombstones;
        extent.tombstone_version_max = self.tombstone_version_max;
        extent.dead_version_min = self.dead_version_min;
    }
}

impl LogState {
    /// The state as it lies in a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + EXTENT_BYTES * self.extents.len());
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        [self.next_sequence, self.next_version, self.extents.len() as u64].into_iter().for_each(&mut put);
        for (index, known) in &self.extents {
            put(u64::from(*index) | u64::from(known.is_sealed) << 32 | u64::from(known.run) << 33);
            [known.sequence, known.used, known.live, known.records].into_iter().for_each(&mut put);
            [known.tombstones, known.tombstone_version_max, known.dead_version_min].into_iter().for_each(&mut put);
        }
        bytes
    }

    /// Reads a state; `None` if the bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let (next_sequence, next_version, count) = (words.next()?, words.next()?, words.next()?);
        if !rest.is_empty() || bytes.len() as u64 != HEADER_BYTES as u64 + count.checked_mul(EXTENT_BYTES as u64)? {
            return None;
        }
        let mut extents = Vec::new();
        for _ in 0..count {
            let place = words.next()?;
            let mut next = || words.next();
            let known = KnownExtent {
                sequence: next()?,
                used: next()?,
                live: next()?,
                records: next()?,
                tombstones: next()?,
                tombstone_version_max: next()?,
                dead_version_min: next()?,
                run: (place >> 33) as u32,
                is_sealed: place >> 32 & 1 == 1,
            };
            extents.push((place as u32, known));
        }
        Some(Self { next_sequence, next_version, extents })
    }
}

impl Log {
    /// The log's state, to be part of a checkpoint that counts when what was committed until now is synced.
    ///
    /// # Panics
    /// Within a group.
    pub fn log_state(&self) -> LogState {
        assert!(self.group.is_none(), "a group is whole or not at all");
        let open = &self.lanes[super::Lane::Appended as usize];
        let next_version = if open.is_closed() {
            self.next_version
        } else {
            let extent = self.extents.get(open.extent);
            extent.version_base + extent.records
        };
        let extents = self.extents.iter().map(|(id, extent)| (id.raw(), KnownExtent::of(extent)));
        LogState { next_sequence: self.extents.next_sequence(), next_version, extents: extents.collect() }
    }

    /// Seals what is open, so that the next opening finds nothing that it would have to read.
    ///
    /// # Panics
    /// Within a group.
    pub fn seal_all(&mut self) {
        assert!(self.group.is_none(), "a group is kept in one extent");
        self.seal(super::Lane::Appended);
        self.seal(super::Lane::Compacted);
        self.position.advance(crate::layout::RECORD_ALIGN as u64);
    }

    /// Whether an offset lies in an extent that is in use.
    pub fn is_in_use(&self, offset: PoolOffset) -> bool {
        let byte = offset.byte();
        byte >= crate::layout::SUPERBLOCKS_BYTES as u64
            && byte < self.medium_bytes()
            && matches!(self.extents.get(self.extent_of(offset)).state(), ExtentState::Open | ExtentState::Sealed)
    }
}

/// Extents of a checkpoint that are not there any more, or used again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stale {
    /// By the numbers of extents, a run's body included; empty if there is none.
    pub(super) extents: Vec<bool>,
}

impl Stale {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }
}

impl Log {
    /// Whether a checkpoint that says that a record lies here is out of date.
    pub fn is_stale(&self, stale: &Stale, offset: PoolOffset) -> bool {
        stale.extents.get(self.index_of(offset) as usize).copied().unwrap_or(false)
    }

    fn index_of(&self, offset: PoolOffset) -> u32 {
        self.extents.index_of(offset.byte())
    }

    /// The extents of a state that are as they were, but for what was appended since; and those that are not.
    pub(super) fn known_extents(&self, state: &LogState) -> (HashMap<ExtentId, KnownExtent>, Stale) {
        let (mut known, mut stale) = (HashMap::new(), Stale::default());
        for (index, extent) in &state.extents {
            let id = ExtentId::from_index(*index);
            let is_there = self.extents.len() > id.index() && {
                let found = self.extents.get(id);
                found.sequence == extent.sequence && found.state == ExtentState::Sealed
            };
            if is_there {
                known.insert(id, *extent);
            } else {
                let end = index.saturating_add(extent.run) as usize;
                stale.extents.resize(end.max(stale.extents.len()), false);
                stale.extents[*index as usize..end].fill(true);
            }
        }
        (known, stale)
    }
}
