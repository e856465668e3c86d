//! The log: records appended to open extents, read where they lie, and counted when they die.
//!
//! Two extents are open at a time, one for new records and one for what compaction moves, so that
//! old and new data stay apart. A record that does not fit into what is left of an extent seals it
//! and opens another; one that fits no extent gets a run of its own.
//!
//! Space is promised by [`Log::reserve`] before a command executes, so that executing it cannot
//! fail: an append that finds no room is the shard's mistake and stops the process.
//! [`RESERVE_EXTENTS`] are left for deletes and compaction, which make room.
//!
//! A log is **replayed** or not. If it is (a file, a replica's source), its bytes alone must tell
//! the whole story: nothing is changed in place, deletes write tombstones, groups are marked and
//! kept in one extent, and records that move carry their version. If it is not (`--pool none`), a
//! new value of the same size overwrites the old in place and all of that costs nothing.
//!
//! What always holds: live bytes of an extent are those of its records that were appended and
//! neither killed nor relocated; a sealed extent with no live bytes is free by the end of the call
//! that killed the last of them.

mod append;
mod check;
mod commit;
mod compact;
mod group;
mod medium;
mod overwrite;
mod recover;
mod scrub;
mod space;
mod state;
mod tombstone;

pub use append::Edit;
pub use check::CheckError;
pub use commit::Commit;
pub use compact::{Found, Policy, Walk};
pub use recover::{Damage, DamageKind, EXTENT_KINDS, KINDS, RecoveryReport, Scan};
pub use scrub::{ScrubPlace, Scrubbed};
pub use state::{LogState, Stale};

use crate::checksum::{Checksum, ExtentSeed};
use crate::domain::{Domain, MapMode};
use crate::error::PoolError;
use crate::extent::{Extent, ExtentId, ExtentState, Extents, GROWTH_BYTES_MIN};
use crate::layout::{
    EXTENT_BYTES_DEFAULT, EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, POOL_BYTES_MAX, RECORD_ALIGN, SUPERBLOCKS_BYTES,
    extent_header,
};
use crate::mapping::{GUARD_BYTES, Mapping, Sharing};
use crate::offset::{PoolOffset, Position};
use crate::pool::PoolFile;
use crate::record::Record;
use crate::superblock::Superblock;
use crate::sync::Sync;
use std::collections::BTreeSet;
use std::ops::Range;

/// Extents that only deletes and compaction may take: one to move records to, one for tombstones.
pub(crate) const RESERVE_EXTENTS: usize = 2;

/// What a log is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Distinguishes this pool's bytes from any other's.
    pub pool_id: u64,
    /// Size of an extent in bytes: a power of two between 64 KiB and 1 GiB.
    pub extent_bytes: usize,
    /// The most that extents in use may amount to, in bytes; addresses are reserved accordingly.
    pub capacity_bytes: u64,
    /// Whether the log's bytes alone must suffice to tell what it holds.
    pub replayed: bool,
    /// Whether the system may use transparent huge pages.
    pub huge_pages: bool,
    /// How the pool's file is mapped, where there is one.
    pub map: MapMode,
    /// Bytes that a medium grows by, at least: [`GROWTH_BYTES_MIN`] but for tests of small pools.
    pub growth_bytes_min: u64,
}

impl LogConfig {
    /// A log that is not replayed, with extents of a size fit for the capacity: some 64 of them, of
    /// at most 8 MiB.
    pub fn new(pool_id: u64, capacity_bytes: u64) -> Self {
        let fit = usize::try_from(capacity_bytes / 64).unwrap_or(EXTENT_BYTES_MAX).max(1);
        let extent_bytes = (1 << fit.ilog2()).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_DEFAULT);
        Self {
            pool_id,
            extent_bytes,
            capacity_bytes,
            replayed: false,
            huge_pages: false,
            map: MapMode::Auto,
            growth_bytes_min: GROWTH_BYTES_MIN,
        }
    }

    /// How many extents addresses are reserved for: twice the capacity, as addresses cost nothing, so that runs find neighbours
    /// however the extents are scattered, and freed ones may wait for the medium.
    fn addressable(&self) -> Result<usize, PoolError> {
        let &Self { extent_bytes, capacity_bytes, .. } = self;
        if !extent_bytes.is_power_of_two() || !(EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&extent_bytes) {
            return Err(PoolError::ExtentSize { bytes: extent_bytes });
        }
        let extent = extent_bytes as u64;
        let (bytes_min, bytes_max) = ((RESERVE_EXTENTS as u64 + 1) * extent, POOL_BYTES_MAX - extent);
        if !(bytes_min..=bytes_max).contains(&capacity_bytes) {
            return Err(PoolError::Capacity { bytes: capacity_bytes, bytes_min, bytes_max });
        }
        Ok((capacity_bytes / extent * 2).min((POOL_BYTES_MAX - SUPERBLOCKS_BYTES as u64) / extent) as usize)
    }

    /// What the pool decides is as it says.
    const fn of_pool(self, superblock: &Superblock) -> Self {
        let &Superblock { pool_id, extent_bytes, .. } = superblock;
        Self { pool_id, extent_bytes, replayed: true, ..self }
    }

    /// The same where there is a medium, which is not to grow beyond the capacity; but what it has already must be reached.
    fn addressable_on_medium(&self, medium_bytes: u64) -> Result<usize, PoolError> {
        let most = self.addressable()?;
        let capacity = (self.capacity_bytes / self.extent_bytes as u64) as usize;
        let there = medium_bytes.saturating_sub(SUPERBLOCKS_BYTES as u64).div_ceil(self.extent_bytes as u64) as usize;
        let bytes_max = POOL_BYTES_MAX;
        if medium_bytes > bytes_max {
            return Err(PoolError::Capacity { bytes: medium_bytes, bytes_min: 0, bytes_max });
        }
        Ok(most.min(capacity).max(there))
    }

    const fn mapped_bytes(&self, addressable: usize) -> usize {
        SUPERBLOCKS_BYTES + addressable * self.extent_bytes
    }
}

/// How much of a log is in use. Kept as the log changes, so that asking costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Extents that hold records or are open.
    pub extents: usize,
    /// Extents that were used and are free.
    pub extents_free: usize,
    /// Free extents whose memory is not given back.
    pub extents_free_resident: usize,
    /// Bytes of the extents in use, slack and headers included: what counts towards `maxmemory`.
    pub bytes: u64,
    /// Bytes of records, alive or dead.
    pub bytes_used: u64,
    /// Bytes of records that are alive.
    pub bytes_live: u64,
    /// Bytes of records that are dead: what compaction can win at most, slack aside.
    pub bytes_dead: u64,
    /// Bytes of tombstones that are alive.
    pub bytes_tombstones: u64,
    /// The limit on `bytes`.
    pub bytes_max: u64,
}

/// Which of the two open extents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Appended = 0,
    Compacted = 1,
}

/// Where a record being written lies, and what its checksum is seeded with.
#[derive(Clone, Copy)]
struct Place {
    offset: PoolOffset,
    seed: ExtentSeed,
}

impl Place {
    #[inline(always)]
    fn range(self, len: usize) -> Range<u64> {
        self.offset.byte()..self.offset.byte() + len as u64
    }
}

/// Bytes of records that may be without checksum: few enough that they are still cached when their
/// checksums are computed.
const UNSUMMED_BYTES_MAX: u64 = 128 << 10;

/// Where the next record of a lane goes.
#[derive(Clone, Copy)]
struct Cursor {
    next: u64,
    /// Up to here records can be added without further ado.
    stop: u64,
    /// Up to here there is room in the extent.
    end: u64,
    /// Up to here records have their checksums and are noted as written.
    summed: u64,
    seed: ExtentSeed,
    extent: ExtentId,
}

impl Cursor {
    /// No extent is open: nothing fits, so the other fields are not looked at.
    const CLOSED: Self = Self { next: 0, stop: 0, end: 0, summed: 0, seed: ExtentSeed::NONE, extent: ExtentId::FIRST };

    const fn is_closed(&self) -> bool {
        self.end == 0
    }

    /// Bytes that can be added without further ado.
    #[inline(always)]
    const fn free(&self) -> u64 {
        self.stop - self.next
    }

    /// Bytes that fit the extent.
    #[inline(always)]
    const fn room(&self) -> u64 {
        self.end - self.next
    }

    /// Lets at least `len` bytes be added, which fit.
    fn allow(&mut self, len: u64) {
        self.stop = self.end.min(self.next + len.max(UNSUMMED_BYTES_MAX));
    }

    /// Moves the end, which is not before `next`.
    fn set_end(&mut self, end: u64) {
        self.end = end;
        self.stop = self.stop.min(end);
    }
}

/// A group that is being appended.
#[derive(Clone, Copy)]
struct Group {
    /// Its last record so far.
    last: Option<PoolOffset>,
}

/// A shard's log of records.
pub struct Log {
    mapping: Mapping,
    extents: Extents,
    lanes: [Cursor; 2],
    checksum: Checksum,
    replayed: bool,
    domain: Domain,
    bytes_used: u64,
    bytes_live: u64,
    bytes_tombstones: u64,
    /// Version of the next extent's first record.
    next_version: u64,
    /// The extent that was opened last for appending: its sequence, 0 for none, and its number.
    last_appended: (u64, u32),
    /// What the next extent's header will say for the layer above.
    hint: u64,
    position: Position,
    /// Extents up to which room is granted: with [`RESERVE_EXTENTS`] kept back, and with none.
    extents_max: usize,
    extents_max_privileged: usize,
    group: Option<Group>,
    /// Ranges written since the last commit, but for what has no checksums yet.
    written: Vec<Range<u64>>,
    /// Whether `written` was handed out and is to be forgotten.
    handed_out: bool,
    /// What is known of the medium, where there is one.
    sync: Option<Box<Sync>>,
    /// Extents of what the file held when it was opened that have been given fresh memory since.
    replaced: BTreeSet<u32>,
    /// The medium, if it is a file.
    file: Option<PoolFile>,
    /// How it is mapped, where memory is the medium.
    sharing: Sharing,
}

/// A log may be made on one thread and used on another.
const _: fn() = || {
    fn assert_send<T: Send>() {}
    assert_send::<Log>();
};

impl Log {
    /// A log in anonymous memory: gone with the process.
    ///
    /// # Errors
    /// The extent size or capacity is not possible, or the system refuses the address range.
    pub fn anonymous(config: LogConfig) -> Result<Self, PoolError> {
        let addressable = config.addressable()?;
        let mapping = Mapping::anonymous(config.mapped_bytes(addressable), config.huge_pages)?;
        let extents = Extents::new(config.pool_id, config.extent_bytes, addressable);
        Ok(Self::of_parts(config, mapping, extents))
    }

    fn of_parts(config: LogConfig, mapping: Mapping, extents: Extents) -> Self {
        let extents_max = (config.capacity_bytes / config.extent_bytes as u64) as usize;
        Self {
            mapping,
            extents,
            lanes: [Cursor::CLOSED; 2],
            checksum: Checksum::new(),
            replayed: config.replayed,
            domain: Domain::Volatile,
            bytes_used: 0,
            bytes_live: 0,
            bytes_tombstones: 0,
            next_version: 1,
            last_appended: (0, 0),
            hint: 0,
            position: Position::default(),
            extents_max,
            extents_max_privileged: extents_max,
            group: None,
            written: Vec::new(),
            handed_out: false,
            replaced: BTreeSet::new(),
            sync: None,
            file: None,
            sharing: Sharing::Sync,
        }
    }

    /// Where the pool's stores become durable.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the log's bytes alone must tell what it holds: then nothing is overwritten in place
    /// and deletes take room.
    pub const fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// The largest record, by [`crate::RecordParts::bytes`], that shares an extent; a larger one takes
    /// extents of its own.
    pub const fn shared_record_bytes_max(&self) -> usize {
        self.extents.payload() as usize
    }

    /// How much of the log is in use.
    pub fn usage(&self) -> Usage {
        let (extents_free, extents_free_resident) = self.extents.free_counts();
        Usage {
            extents: self.extents.in_use(),
            extents_free,
            extents_free_resident,
            bytes: self.extents.in_use() as u64 * self.extents.bytes(),
            bytes_used: self.bytes_used,
            bytes_live: self.bytes_live,
            bytes_dead: self.bytes_used - self.bytes_live,
            bytes_tombstones: self.bytes_tombstones,
            bytes_max: self.extents_max as u64 * self.extents.bytes(),
        }
    }

    /// Bytes of all records, dead ones included, with the headers of their extents, and of the free extents whose memory is
    /// not given back: all that takes memory, but for what of an open extent is not written yet.
    #[inline]
    pub fn bytes_taken(&self) -> u64 {
        let headers = self.extents.in_use() as u64 * extent_header::BYTES as u64;
        self.bytes_used + headers + self.extents.bytes_free_resident() + self.bytes_unreleased() + self.bytes_kept()
    }

    /// What is known of an extent.
    ///
    /// # Panics
    /// If the pool has no such extent.
    pub fn extent(&self, id: ExtentId) -> &Extent {
        self.extents.get(id)
    }

    /// Every extent that holds records, a run once by its head.
    pub fn extents(&self) -> impl Iterator<Item = (ExtentId, &Extent)> {
        self.extents.iter()
    }

    /// The extent, or head of the run, that a record lies in.
    #[inline]
    pub fn extent_of(&self, offset: PoolOffset) -> ExtentId {
        self.extents.id_of(offset.byte())
    }

    /// The record at an offset that the log returned and that is alive. Neither its checksum nor
    /// its kind is checked. At any other offset it is some bytes of the pool.
    ///
    /// # Panics
    /// If the offset is beyond the pool.
    #[inline(always)]
    pub fn read(&self, offset: PoolOffset) -> Record<'_> {
        let byte = offset.byte() as usize;
        let len = self.mapping.len();
        assert!(byte < len, "the offset is beyond the pool");
        // SAFETY: the record begins within the mapping, which is readable and initialised; with
        // short lengths it ends within the guard behind it at the latest, and long ones are
        // checked. It changes only through `&mut self`.
        unsafe { Record::trusted(self.mapping.base().add(byte), len + GUARD_BYTES - byte) }
    }

    /// Starts to load the first two cache lines of a record, where its header and, mostly, its key
    /// lie.
    #[inline(always)]
    pub fn prefetch(&self, offset: PoolOffset) {
        let byte = (offset.byte() as usize).min(self.mapping.len());
        // SAFETY: within the mapping and its guard.
        let start = unsafe { self.mapping.base().add(byte) };
        prefetch_line(start);
        prefetch_line(start.wrapping_add(64));
    }

    /// The record is superseded: counts it as dead. Its extent is freed at once if that was the
    /// last alive in it.
    ///
    /// Nothing is written: in a log that is replayed, a record appended since must be what
    /// supersedes it.
    #[inline]
    pub fn kill(&mut self, offset: PoolOffset) {
        let len = self.read(offset).bytes_on_medium() as u64;
        self.kill_bytes(offset, len);
    }

    #[inline]
    fn kill_bytes(&mut self, offset: PoolOffset, len: u64) {
        if self.replayed {
            self.note_dead(offset);
        }
        let id = self.extent_of(offset);
        let extent = self.extents.get_mut(id);
        extent.live = extent.live.checked_sub(len).expect("a record dies once");
        self.bytes_live -= len;
        let (sequence, is_empty) = (extent.sequence, extent.live == 0 && extent.state == ExtentState::Sealed);
        if let Some(sync) = &mut self.sync
            && !sync.synced.covers(sequence)
        {
            sync.dead_unsynced += len;
        }
        if is_empty {
            self.free(id);
        }
    }

    /// The place of a record, with its seed.
    #[inline]
    fn place_of(&self, offset: PoolOffset) -> Place {
        Place { offset, seed: self.extents.get(self.extent_of(offset)).seed }
    }

    /// Everything is dead: frees all extents. Where the log is replayed, a flush record must
    /// follow.
    ///
    /// # Panics
    /// Within a group, or with a medium.
    pub fn clear(&mut self) {
        assert!(self.group.is_none() && self.sync.is_none(), "a medium is told of every death");
        self.seal(Lane::Appended);
        self.seal(Lane::Compacted);
        let ids: Vec<ExtentId> = self.extents.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.bytes_live -= self.extents.get(id).live;
            self.extents.get_mut(id).live = 0;
            self.free(id);
        }
        self.bytes_tombstones = 0;
        self.written.clear();
        self.position.advance(RECORD_ALIGN as u64);
    }

    /// Frees an extent in which nothing lives.
    fn free(&mut self, id: ExtentId) {
        let extent = self.extents.get(id);
        debug_assert_eq!(extent.live, 0);
        self.bytes_used -= extent.used;
        let extent = *extent;
        let freed = self.extents.free(id);
        self.bury(freed, &extent);
    }
}

#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it reads nothing and faults at no address.
        unsafe { _mm_prefetch(line.cast(), _MM_HINT_T0) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: a hint; it reads nothing and faults at no address.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly))
        };
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _no_hint = line;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, RecordParts};

    #[test]
    fn appended_records_are_read_and_die() {
        // A record is read as it was appended; when the records of a sealed extent are dead, the
        // extent is free.
        let mut log = Log::anonymous(LogConfig::new(1, 1 << 20)).unwrap();
        let mut last: Option<PoolOffset> = None;
        for i in 0..10_000u32 {
            let (key, value) = (i.to_le_bytes(), [i as u8; 64]);
            let pieces = [&value[..]];
            let parts = RecordParts::new(Kind::String, &key, &pieces);
            log.reserve(parts.bytes()).unwrap();
            let offset = log.append(&parts);
            let record = log.read(offset);
            assert_eq!((record.kind(), record.key(), record.value()), (Kind::String, &key[..], &value[..]));
            log.verify(offset).unwrap();
            if let Some(last) = last.replace(offset) {
                log.kill(last);
            }
        }
        assert!(log.usage().extents <= 2);
        log.check(|offset| Some(offset) == last).unwrap();
    }
}
