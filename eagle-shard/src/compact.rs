//! Compaction: what lives in an extent full of dead records moves, and the extent is free.
//!
//! A walk goes over the records of one extent, a batch at a time: their keys are hashed, their index entries asked for ahead, and a
//! record that an entry (a collection, a large string, the table of patches, a mark) points at is moved by the log and pointed at again. A walk may stop
//! anywhere and go on after any other work; when the last record has moved or died the log frees the extent.
//!
//! Above its bound of dead space it works in step with the writers, whatever the budget of a slice: for each byte appended since the
//! slice before it passes [`PACE_PERCENT`] of a dead byte, so that the bound holds however much is written.
//!
//! How eager it is (storage.md, "Compaction"):
//!
//! ```text
//!  room left                    dead space allowed            which extent
//!  plenty, core busy            lazy_percent                  cost-benefit by age
//!  a quarter, or core idle      EAGER_PERCENT                 cost-benefit by age
//!  and nothing appended lately  quiet_percent                 cost-benefit by age
//!  a few extents                none (`room`: paid by bytes)  greedy
//! ```

use eagle_pmem::{CollectionId, ExtentId, Found as Met, Kind, Log, Policy, PoolOffset, Record, Walk};

use crate::{
    call::UnixMs,
    dash::{Hashed, Located, Word},
    limit::DEAD_PERCENT_KEPT,
    shard::Shard,
    value::large,
};

/// Dead bytes of all bytes in use, in percent, above which the compactor works while memory is plenty and the core busy.
const LAZY_PERCENT: u64 = 35;
/// The same where what is copied is written to a medium besides, and room on it costs less than memory: an overwrite of one of 300,000
/// keys, in pipelines of 32 with `sync everysec`, takes 0.72 us of CPU time instead of 0.82.
const LAZY_PERCENT_ON_MEDIUM: u64 = 50;
/// The same when memory is short or the core idle.
const EAGER_PERCENT: u64 = 18;
/// The same on an idle core when nothing was appended for a while. Copying disturbs nobody then, and in memory it wears nothing out: some
/// fifty bytes are copied for the last bytes won, once.
const QUIET_PERCENT: u64 = 2;
/// The same where what is copied is written to a medium.
const QUIET_PERCENT_ON_MEDIUM: u64 = 8;
/// How long nothing was appended in a while, in milliseconds.
const QUIET_MS: u64 = 200;
/// Memory is short when less than this of the limit is left, in percent.
const SHORT_PERCENT: u64 = 25;
/// Tombstones of all bytes of records, in percent, above which the extents with the oldest dead records are compacted.
const TOMBSTONE_PERCENT: u64 = 5;
/// Extents in use below which dead space does not matter: one open, one being emptied, one to move to.
const EXTENTS_MIN: u64 = 4;
/// An extent is only compacted when this much of it is dead, in percent; below, writers are refused rather than served by copying
/// fifty bytes for each byte won.
const DEAD_PERCENT_MIN: u8 = 2;

/// Dead bytes to be passed for each byte appended, in percent: above 100, so that dead space shrinks.
const PACE_PERCENT: u64 = 125;
/// Most of them in one slice, in bytes, some 50 to 100 us; the rest waits for the next.
const PACE_BYTES_MAX: u64 = 64 << 10;
/// Most that waits, in bytes: what was appended while dead space was within its bound need not be made up for.
const OWED_BYTES_MAX: u64 = 4 << 20;

/// Records looked at between two questions whether it is enough.
const STEP_RECORDS: usize = 64;
/// Bytes moved that count as a record looked at: a slice over long records takes no longer than one over short ones.
const BYTES_A_RECORD: usize = 1 << 10;

/// Records whose index entries are asked for together.
const BATCH: usize = 16;

/// How badly room is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// A delete waits for it: whatever it costs.
    Always,
    /// A writer waits for it.
    Now,
    /// A writer waits for it, and memory in use counts: what is open is sealed to be compacted.
    Pressed,
    /// To keep dead space within its bound.
    Later,
}

/// The compactor's place.
#[derive(Default)]
pub(crate) struct Compactor {
    walk: Option<Walk>,
    /// The last record that the walk has dealt with.
    passed: Option<PoolOffset>,
    /// Tombstones up to this version may be dropped on the walk.
    floor: u64,
    is_low: bool,
    /// Bytes appended since they were last paid for.
    owed: u64,
    /// When a slice last found something appended.
    appended_at: UnixMs,
    /// Whether that is a while ago.
    is_quiet: bool,
}

/// A record met on a walk, with what is asked for ahead.
#[derive(Clone, Copy)]
struct Candidate {
    offset: PoolOffset,
    version: u64,
    bytes: usize,
    kind: Kind,
    space: u16,
    /// The collection that it is an element of.
    element_of: Option<CollectionId>,
    located: Option<Located>,
    /// Where the walk stood before it.
    before: Walk,
}

impl Compactor {
    /// Whether so little room is left that appends are paid for.
    #[inline]
    pub(crate) fn is_low(&self) -> bool {
        self.is_low
    }

    pub(crate) fn set_low(&mut self, is_low: bool) {
        self.is_low = is_low;
    }

    /// Notes that `bytes` will be appended.
    #[inline]
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed += bytes as u64;
    }

    /// Bytes that the walk has left behind: free when it ends.
    #[inline]
    pub(crate) fn bytes_passed(&self, log: &Log) -> u64 {
        self.walk.as_ref().map_or(0, |walk| log.bytes_passed(walk))
    }

    /// Whether an extent is walked.
    pub(crate) fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    /// Where the walk is: its extent, and the last record of it that was dealt with.
    pub(crate) fn passed(&self, log: &Log) -> Option<(ExtentId, PoolOffset)> {
        let walk = self.walk?;
        let is_there = log.extent(walk.extent()).sequence() == walk.sequence();
        is_there.then_some((walk.extent(), self.passed?))
    }
}

impl Shard {
    /// Whether there is more dead space than there should be.
    pub(crate) fn wants_compaction(&self, is_idle: bool) -> bool {
        let usage = self.log.usage();
        let left = usage.bytes_max.saturating_sub(usage.bytes);
        let is_short = left * 100 < usage.bytes_max * SHORT_PERCENT || self.is_room_short();
        let percent = match is_idle {
            true if self.compactor.is_quiet => self.quiet_percent(),
            false if !is_short => self.lazy_percent(),
            _ => EAGER_PERCENT,
        };
        let has_dead = usage.extents as u64 > EXTENTS_MIN && usage.bytes_dead * 100 > usage.bytes * percent;
        has_dead || self.has_many_tombstones()
    }

    /// Whether tombstones take more than their share; then extents are compacted to be rid of what they kill.
    pub(crate) fn has_many_tombstones(&self) -> bool {
        let usage = self.log.usage();
        usage.extents as u64 > EXTENTS_MIN && usage.bytes_tombstones * 100 > usage.bytes_used * TOMBSTONE_PERCENT
    }

    /// A slice of compaction, as far as dead space is above its bound: `records`, or more to keep pace with the writers. Returns how
    /// many records it looked at.
    pub(crate) fn compact(&mut self, records: usize, is_idle: bool) -> usize {
        self.note_quiet();
        let owed = self.compactor.owed.min(OWED_BYTES_MAX) * PACE_PERCENT / 100;
        let (mut to_pay, mut done) = (owed.min(PACE_BYTES_MAX), 0);
        self.compactor.owed = 0;
        while (done < records || to_pay > 0) && self.flushed.is_empty() && self.wants_compaction(is_idle) {
            let Some(passed) = self.reclaim(STEP_RECORDS, Urgency::Later) else {
                break;
            };
            done += STEP_RECORDS;
            to_pay = to_pay.saturating_sub(passed as u64);
        }
        if self.wants_compaction(is_idle) {
            self.compactor.owed = owed.saturating_sub(PACE_BYTES_MAX) * 100 / PACE_PERCENT + to_pay;
        }
        done
    }

    fn note_quiet(&mut self) {
        let (now, compactor) = (self.now, &mut self.compactor);
        if compactor.owed > 0 || compactor.appended_at > now {
            compactor.appended_at = now;
        }
        compactor.is_quiet = now.0 - compactor.appended_at.0 >= QUIET_MS;
    }

    fn lazy_percent(&self) -> u64 {
        if self.config.in_place { LAZY_PERCENT } else { LAZY_PERCENT_ON_MEDIUM }
    }

    fn quiet_percent(&self) -> u64 {
        if self.config.in_place { QUIET_PERCENT } else { QUIET_PERCENT_ON_MEDIUM }
    }

    /// Whether nothing was appended for a while, as the last slice found it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.compactor.is_quiet
    }

    /// Goes over about `records` records of what is dead or may be. Returns by how many bytes that brought room nearer, or `None` if
    /// nothing can be done.
    pub(crate) fn reclaim(&mut self, records: usize, urgency: Urgency) -> Option<usize> {
        if !self.flushed.is_empty() {
            let live = self.log.usage().bytes_live;
            self.sweep_flushed(records);
            return Some((live - self.log.usage().bytes_live) as usize);
        }
        let mut walk = match self.compactor.walk {
            Some(walk) => walk,
            None => self.begin_walk(urgency)?,
        };
        let (mut passed, mut done) = (0, 0);
        while done < records {
            let moved = self.stats.moved_bytes;
            let Some((count, dead)) = self.compact_batch(&mut walk) else {
                self.compactor.walk = Some(walk);
                return if done > 0 { Some(passed) } else { None };
            };
            passed += dead;
            done += count + (self.stats.moved_bytes - moved) as usize / BYTES_A_RECORD;
            if count < BATCH {
                self.end_walk(walk);
                return Some(passed);
            }
        }
        self.compactor.walk = Some(walk);
        Some(passed)
    }

    /// Carries the walk under way to its end, as far as there is room.
    pub(crate) fn finish_walk(&mut self) {
        while self.compactor.is_under_way() && self.reclaim(STEP_RECORDS, Urgency::Always).is_some() {}
    }

    fn begin_walk(&mut self, urgency: Urgency) -> Option<Walk> {
        let victim = match urgency {
            Urgency::Always => self.log.victim(Policy::Greedy, 0),
            Urgency::Now => self.log.victim(Policy::Greedy, DEAD_PERCENT_MIN),
            Urgency::Pressed => self.victim_of_pressure(),
            Urgency::Later => {
                let percent = if self.compactor.is_quiet { self.quiet_percent() } else { EAGER_PERCENT };
                self.log.victim(Policy::CostBenefit, percent as u8 / 2)
            }
        };
        let extent = victim.or_else(|| {
            let is_due = urgency == Urgency::Always || self.has_many_tombstones();
            self.log.floor_holder().filter(|_| is_due)
        })?;
        self.compactor.passed = None;
        self.compactor.floor = self.log.floor(extent);
        Some(self.log.walk(extent))
    }

    /// The extent that gives most room when memory in use counts: an open one too, if there is no other.
    fn victim_of_pressure(&mut self) -> Option<ExtentId> {
        let log = &mut self.log;
        let found = log.victim(Policy::CostBenefit, DEAD_PERCENT_KEPT as u8);
        found.or_else(|| log.victim(Policy::Greedy, DEAD_PERCENT_MIN)).or_else(|| {
            log.seal_dead(DEAD_PERCENT_MIN);
            log.victim(Policy::Greedy, DEAD_PERCENT_MIN)
        })
    }

    fn end_walk(&mut self, mut walk: Walk) {
        debug_assert!(self.log.step(&mut walk).is_none());
        self.compactor.walk = None;
        self.compactor.passed = None;
    }

    /// Deals with the next records of a walk, fewer than [`BATCH`] at its end. Returns how many, and the bytes of the dead among
    /// them; `None` if there is no room to move the first of them.
    fn compact_batch(&mut self, walk: &mut Walk) -> Option<(usize, usize)> {
        let mut batch = [None; BATCH];
        let count = self.meet(walk, &mut batch);
        for candidate in batch.iter().flatten() {
            self.prefetch_candidate(candidate);
        }
        let mut dead = 0;
        for (at, candidate) in batch.iter().flatten().enumerate() {
            match self.move_if_alive(candidate) {
                Ok(true) => {
                    self.stats.moved += 1;
                    self.stats.moved_bytes += candidate.bytes as u64;
                }
                Ok(false) => dead += candidate.bytes,
                Err(eagle_pmem::Full { .. }) => {
                    *walk = candidate.before;
                    return if at > 0 { Some((BATCH, dead)) } else { None };
                }
            }
            self.compactor.passed = Some(candidate.offset);
        }
        Some((count, dead))
    }

    /// Reads the next records of a walk and asks for their index entries.
    fn meet(&self, walk: &mut Walk, batch: &mut [Option<Candidate>; BATCH]) -> usize {
        let mut count = 0;
        while count < BATCH {
            let before = *walk;
            let Some(Met { offset, version, record }) = self.log.step(walk) else {
                break;
            };
            let (kind, space) = (record.kind(), record.db());
            let element_of = if kind == Kind::Element { record.id() } else { None };
            let located = match kind {
                Kind::String | Kind::Packed | Kind::Head => {
                    let hashed = Hashed::of_key(self.config.seed, record.key());
                    self.database_index(space).map(|db| self.databases[db].dash.locate(hashed))
                }
                Kind::Element => {
                    let elements = element_of.and_then(|id| self.collections.find(id));
                    elements.map(|elements| elements.locate(record))
                }
                Kind::Patch => Some(self.patches.locate(record)),
                _ => None,
            };
            let bytes = record.bytes_on_medium();
            batch[count] = Some(Candidate { offset, version, bytes, kind, space, element_of, located, before });
            count += 1;
        }
        count
    }

    /// Asks for the words of a candidate's index.
    fn prefetch_candidate(&self, candidate: &Candidate) {
        let Some(at) = candidate.located else {
            return;
        };
        match candidate.element_of {
            Some(id) => self.collections.get(id).prefetch_words(at),
            None if candidate.kind == Kind::Patch => self.patches.prefetch_words(at),
            None => {
                let db = self.database_index(candidate.space).expect("it was located there");
                self.databases[db].dash.prefetch_words(at);
            }
        }
    }

    /// Moves a record if something points at it. Returns whether something does.
    fn move_if_alive(&mut self, candidate: &Candidate) -> Result<bool, eagle_pmem::Full> {
        let &Candidate { offset, version, kind, .. } = candidate;
        match kind {
            Kind::String | Kind::Packed | Kind::Head => self.move_keyed(candidate),
            Kind::Element => self.move_element(candidate),
            Kind::Patch => {
                let place = candidate.located.and_then(|at| self.patches.place_of(at, offset));
                let Some(place) = place else {
                    return Ok(false);
                };
                let moved = self.log.relocate(offset, version)?;
                self.patches.moved(place, moved);
                Ok(true)
            }
            Kind::Chunk => {
                let chunk = self.log.read(offset);
                if !self.large.owns(chunk, offset) {
                    return Ok(false);
                }
                let (id, index) = large::place_of(chunk).expect("an owned chunk names its place");
                let moved = self.log.relocate(offset, version)?;
                self.large.moved(id, index, moved);
                Ok(true)
            }
            Kind::Flush => {
                let Some(db) = self.database_index(candidate.space) else {
                    return Ok(false);
                };
                if self.databases[db].flush_mark != Some(offset) {
                    return Ok(false);
                }
                self.databases[db].flush_mark = Some(self.log.relocate(offset, version)?);
                Ok(true)
            }
            Kind::Swap => {
                if self.swap_mark != Some(offset) {
                    return Ok(false);
                }
                self.swap_mark = Some(self.log.relocate(offset, version)?);
                Ok(true)
            }
            Kind::Tombstone if version <= self.compactor.floor => {
                self.log.drop_tombstone(offset);
                Ok(false)
            }
            Kind::Tombstone => self.log.relocate(offset, version).map(|_| true),
            // The log's own.
            Kind::Meta => Ok(false),
            _ => unreachable!("the shard wrote a record of another kind"),
        }
    }

    fn move_keyed(&mut self, candidate: &Candidate) -> Result<bool, eagle_pmem::Full> {
        let (Some(located), Some(db)) = (candidate.located, self.database_index(candidate.space)) else {
            return Ok(false);
        };
        let offset = candidate.offset;
        let dash = &self.databases[db].dash;
        let Some(place) = dash.find_at(located, |word: Word| word.offset() == offset.raw()) else {
            return Ok(false);
        };
        let word = dash.word(place);
        let moved = self.log.relocate(offset, candidate.version)?;
        self.databases[db].dash.set(place, word.with_offset(moved.raw()));
        Ok(true)
    }

    fn move_element(&mut self, candidate: &Candidate) -> Result<bool, eagle_pmem::Full> {
        let (Some(at), Some(id)) = (candidate.located, candidate.element_of) else {
            return Ok(false);
        };
        let Some(place) = self.collections.get(id).place_of(at, candidate.offset) else {
            return Ok(false);
        };
        let moved = self.log.relocate(candidate.offset, candidate.version)?;
        self.collections.change(id, |elements| elements.moved(place, moved));
        Ok(true)
    }

    /// Tombstones that are alive: all but those that the walk has dealt with.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = PoolOffset> {
        let passed = self.compactor.passed(&self.log);
        let is_passed =
            move |extent: ExtentId, offset: PoolOffset| passed.is_some_and(|(at, last)| at == extent && offset <= last);
        let records = |(extent, _)| self.log.records(extent).map(move |found| (extent, found));
        let is_tombstone = |record: &Record<'_>| record.kind() == Kind::Tombstone;
        let found = self.log.extents().flat_map(records);
        found
            .filter(move |(extent, (offset, record))| is_tombstone(record) && !is_passed(*extent, *offset))
            .map(|found| found.1.0)
    }
}

#[cfg(test)]
mod tests;
