//! The extents of a pool: which are in use, what lives in each, and which are free.
//!
//! An extent is free, open (records are appended to it) or sealed; the second and later extents of
//! a run are its body and speak through its head. A freed extent stays resident for a while, since
//! the next one opened may as well be one whose pages are there; of more than [`RESIDENT_FREE_MAX`]
//! such extents the rest is given back to the system, slice by slice, because giving back 8 MiB at
//! once would keep a core busy for longer than a turn may last.
//!
//! Where the pool has a medium, a freed extent is *dying* first ([`crate::sync`]), and only as many extents can be opened as
//! the medium has been seen to have room for, or is believed to: it is made to grow ahead of the need, a stretch at a time, and
//! gives space that is not needed back ([`holes`]).
//!
//! All of this is volatile: opening a pool rebuilds it.

mod holes;

use crate::checksum::ExtentSeed;
use crate::layout::{EXTENT_OVERHEAD, ExtentHeader, ExtentKind, SEAL_BYTES, SUPERBLOCKS_BYTES, extent_header};
use crate::sync::Synced;
use holes::Holes;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// How many free extents keep their memory.
pub(crate) const RESIDENT_FREE_MAX: usize = 4;
/// How many do where a freed extent may be used again only after two syncs, and half as many are in use: what is overwritten at
/// 150 MB/s meanwhile.
const RESIDENT_FREE_MAX_ON_MEDIUM: usize = 32;

/// The number of an extent in its pool, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExtentId(u32);

impl ExtentId {
    pub(crate) const FIRST: Self = Self(0);

    /// The number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_index(index: u32) -> Self {
        Self(index)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an extent is at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentState {
    /// Holds nothing.
    Free,
    /// Records are being added to it.
    Open,
    /// Full: its records only die or move.
    Sealed,
    /// The continuation of a run.
    Body,
    /// Freed, and not to be used before the medium knows.
    Dying,
}

/// What is known of one extent, or, at its head, of a run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub(crate) sequence: u64,
    pub(crate) seed: ExtentSeed,
    pub(crate) version_base: u64,
    pub(crate) used: u64,
    pub(crate) live: u64,
    pub(crate) records: u64,
    /// Bytes of its living tombstones, and the highest version that one of them had.
    pub(crate) tombstones: u64,
    pub(crate) tombstone_version_max: u64,
    /// No dead record in it is older; `u64::MAX` where nothing is dead, or the log is not replayed.
    pub(crate) dead_version_min: u64,
    /// Extents of the run at its head; in its body, how far back the head is.
    pub(crate) run: u32,
    pub(crate) kind: ExtentKind,
    pub(crate) state: ExtentState,
    /// What was known synced when it was opened.
    pub(crate) whole_before: u64,
    pub(crate) except: u64,
    /// The extent that records were appended to before.
    pub(crate) before: (u64, u32),
    pub(crate) hint: u64,
}

impl Extent {
    pub(crate) const FREE: Self = Self {
        sequence: 0,
        seed: ExtentSeed::NONE,
        version_base: 0,
        used: 0,
        live: 0,
        records: 0,
        tombstones: 0,
        tombstone_version_max: 0,
        dead_version_min: u64::MAX,
        run: 1,
        kind: ExtentKind::Appended,
        state: ExtentState::Free,
        whole_before: 0,
        except: 0,
        before: (0, 0),
        hint: 0,
    };

    /// What it is at present.
    pub const fn state(&self) -> ExtentState {
        self.state
    }

    /// What it holds.
    pub const fn kind(&self) -> ExtentKind {
        self.kind
    }

    /// Number of this opening of it: the higher, the younger.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of its records, dead or alive; its header does not count.
    pub const fn bytes_used(&self) -> u64 {
        self.used
    }

    /// Bytes of its records that are alive.
    pub const fn bytes_live(&self) -> u64 {
        self.live
    }

    /// Records in it, dead or alive.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// How many neighbouring extents it stands for, 1 but for a run.
    pub const fn run(&self) -> u32 {
        self.run
    }
}

/// All extents of a pool.
pub(crate) struct Extents {
    table: Vec<Extent>,
    /// Free with their memory, the most recently freed last; the first is being given back if
    /// there are too many.
    resident: VecDeque<u32>,
    /// How much of the first of `resident` is given back already.
    given_back: u64,
    /// How many free extents keep their memory, within what is usual.
    kept_free: usize,
    /// Whether none is to keep it, until all is given back.
    is_purging: bool,
    /// Free without memory.
    returned: BTreeSet<u32>,
    /// A gap of free extents, in neither set, kept for runs of the present reserve.
    held: Range<u32>,
    in_use: usize,
    next_sequence: u64,
    /// The most extents that addresses are reserved for.
    addressable: usize,
    /// How the medium grows, where there is one.
    growth: Option<Growth>,
    pool_id: u64,
    shift: u32,
}

/// How the medium grows.
#[derive(Default)]
struct Growth {
    /// Extents that are being allocated and zeroed; dying until then.
    under_way: Option<Range<u32>>,
    /// What there was no room for. While there is such, no extent is opened that the medium has not been seen to have.
    failed: Option<Range<u32>>,
    /// Whether none ever is: where memory is the medium, there is nothing at addresses that it has not grown to.
    is_in_place: bool,
    /// That are holes, and not new to the medium.
    fills_holes: bool,
    /// Extents that it grows by, at least.
    min: u64,
    holes: Holes,
}

/// The part of the pool by which it grows, within bounds in bytes.
const GROWTH_PART: u64 = 8;
/// Bytes that a medium grows by, at least.
pub const GROWTH_BYTES_MIN: u64 = 4 << 20;
const GROWTH_BYTES_MAX: u64 = 64 << 20;

impl Extents {
    pub(crate) fn new(pool_id: u64, extent_bytes: usize, addressable: usize) -> Self {
        Self {
            table: Vec::new(),
            resident: VecDeque::new(),
            given_back: 0,
            kept_free: usize::MAX,
            is_purging: false,
            returned: BTreeSet::new(),
            held: 0..0,
            in_use: 0,
            next_sequence: 1,
            addressable,
            growth: None,
            pool_id,
            shift: extent_bytes.trailing_zeros(),
        }
    }

    /// The extents of a pool whose medium has room for `extents`, all of them free and clean; `is_in_place`: memory is the medium.
    pub(crate) fn on_medium(
        pool_id: u64,
        extent_bytes: usize,
        addressable: usize,
        extents: usize,
        is_in_place: bool,
    ) -> Self {
        let mut table = Self::new(pool_id, extent_bytes, addressable);
        table.table = vec![Extent::FREE; extents];
        table.returned = (0..extents as u32).collect();
        table.growth =
            Some(Growth { is_in_place, min: GROWTH_BYTES_MIN.div_ceil(extent_bytes as u64), ..Growth::default() });
        table
    }

    /// Size of an extent in bytes.
    #[inline(always)]
    pub(crate) const fn bytes(&self) -> u64 {
        1 << self.shift
    }

    /// What of an extent is for records.
    #[inline(always)]
    pub(crate) const fn payload(&self) -> u64 {
        self.bytes() - EXTENT_OVERHEAD
    }

    /// How many extents are open, sealed or body.
    #[inline(always)]
    pub(crate) const fn in_use(&self) -> usize {
        self.in_use
    }

    /// Free extents that once were used, and how many of them hold memory.
    pub(crate) fn free_counts(&self) -> (usize, usize) {
        (self.table.len() - self.in_use, self.resident.len() + self.held.len())
    }

    pub(crate) const fn pool_id(&self) -> u64 {
        self.pool_id
    }

    pub(crate) const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn get(&self, id: ExtentId) -> &Extent {
        &self.table[id.index()]
    }

    pub(crate) fn get_mut(&mut self, id: ExtentId) -> &mut Extent {
        &mut self.table[id.index()]
    }

    /// The extent, or head of a run, that the byte lies in.
    #[inline]
    pub(crate) fn id_of(&self, byte: u64) -> ExtentId {
        let index = (byte - SUPERBLOCKS_BYTES as u64) >> self.shift;
        match self.table[index as usize] {
            Extent { state: ExtentState::Body, run, .. } => ExtentId(index as u32 - run),
            _ => ExtentId(index as u32),
        }
    }

    /// The number of the extent that the byte lies in, of a run's body too.
    pub(crate) const fn index_of(&self, byte: u64) -> u32 {
        ((byte - SUPERBLOCKS_BYTES as u64) >> self.shift) as u32
    }

    /// Where the extent begins.
    pub(crate) const fn start(&self, id: ExtentId) -> u64 {
        SUPERBLOCKS_BYTES as u64 + ((id.0 as u64) << self.shift)
    }

    /// Where its first record lies.
    pub(crate) const fn records_start(&self, id: ExtentId) -> u64 {
        self.start(id) + extent_header::BYTES as u64
    }

    /// Where its last record ends.
    pub(crate) fn records_end(&self, id: ExtentId) -> u64 {
        self.records_start(id) + self.get(id).used
    }

    /// Up to where it has room for records: its seal comes behind.
    pub(crate) fn records_stop(&self, id: ExtentId) -> u64 {
        self.start(id) + u64::from(self.get(id).run) * self.bytes() - SEAL_BYTES as u64
    }

    /// Every extent that is open or sealed, a run once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ExtentId, &Extent)> {
        let heads = |extent: &Extent| matches!(extent.state, ExtentState::Open | ExtentState::Sealed);
        self.table
            .iter()
            .enumerate()
            .filter(move |(_, extent)| heads(extent))
            .map(|(i, extent)| (ExtentId(i as u32), extent))
    }

    /// How many extents side by side hold `len` bytes of records.
    pub(crate) const fn count_for(&self, len: u64) -> u32 {
        (len + EXTENT_OVERHEAD).div_ceil(self.bytes()) as u32
    }

    /// Opens a free extent, one with memory if there is one; or a run of `count`.
    pub(crate) fn open(
        &mut self,
        count: u32,
        kind: ExtentKind,
        version_base: u64,
        synced: &Synced,
    ) -> Option<ExtentId> {
        let index = if count == 1 {
            self.take_resident()
                .or_else(|| self.returned.pop_first())
                .or_else(|| self.take_hole())
                .or_else(|| self.grow(1))?
        } else if self.growth.is_some() {
            // Room that the medium has comes before room that it would have to make.
            self.take_held(count).or_else(|| self.take_gap(count)).or_else(|| self.grow(count))?
        } else {
            self.take_held(count).or_else(|| self.grow(count)).or_else(|| self.take_gap(count))?
        };
        Some(self.start_run(index, count, kind, version_base, synced))
    }

    /// Keeps `count` neighbouring extents for runs, so that opening runs of as many extents in all
    /// cannot fail; what was kept before is let go.
    pub(crate) fn hold_run(&mut self, count: u32) -> bool {
        let held = std::mem::replace(&mut self.held, 0..0);
        if self.growth.is_some() {
            held.for_each(|index| self.revive_free(index));
        } else {
            self.resident.extend(held);
        }
        if self.growable() >= count as usize {
            return true;
        }
        match self.take_gap(count) {
            Some(first) => {
                self.held = first..first + count;
                true
            }
            None => false,
        }
    }

    /// How many single extents can still be opened, as far as addresses go.
    pub(crate) fn openable(&self) -> usize {
        self.resident.len() + self.returned.len() + self.openable_holes() + self.growable()
    }

    /// How many extents can be added at the end.
    fn growable(&self) -> usize {
        let is_full = self.growth.as_ref().is_some_and(|growth| growth.failed.is_some() || growth.is_in_place);
        if is_full { 0 } else { self.addressable - self.table.len() }
    }

    /// The most extents that addresses are reserved for.
    pub(crate) const fn addressable(&self) -> usize {
        self.addressable
    }

    /// The header of an extent that is open or sealed.
    pub(crate) fn header(&self, id: ExtentId) -> ExtentHeader {
        let extent = self.get(id);
        ExtentHeader {
            pool_id: self.pool_id,
            sequence: extent.sequence,
            version_base: extent.version_base,
            kind: extent.kind,
            run: extent.run,
            whole_before: extent.whole_before,
            except: extent.except,
            before: extent.before,
            hint: extent.hint,
        }
    }

    /// What an extent that was part of a run's body is given for a header, but for the sequence.
    pub(crate) const fn header_of_body(&self) -> ExtentHeader {
        ExtentHeader {
            pool_id: self.pool_id,
            sequence: 0,
            version_base: 0,
            kind: ExtentKind::Large,
            run: 1,
            whole_before: 0,
            except: 0,
            before: (0, 0),
            hint: 0,
        }
    }

    /// Frees an extent or a whole run. With a medium they are dying, and returned for [`Extents::revive`].
    pub(crate) fn free(&mut self, id: ExtentId) -> Range<u32> {
        debug_assert!(matches!(self.get(id).state, ExtentState::Open | ExtentState::Sealed));
        self.free_range(id.0..id.0 + self.get(id).run)
    }

    /// Cuts a run down to its first `count` extents and frees the others, as [`Extents::free`] does.
    pub(crate) fn shorten_run(&mut self, id: ExtentId, count: u32) -> Range<u32> {
        let run = self.get(id).run;
        debug_assert!(count >= 1 && count <= run);
        self.get_mut(id).run = count;
        self.free_range(id.0 + count..id.0 + run)
    }

    /// An extent that was dying, and whose memory is given back, may be used again.
    pub(crate) fn revive(&mut self, index: u32) {
        debug_assert_eq!(self.table[index as usize].state, ExtentState::Dying);
        self.table[index as usize].state = ExtentState::Free;
        self.revive_free(index);
    }

    /// The same of one that has kept its memory.
    pub(crate) fn revive_resident(&mut self, index: u32) {
        debug_assert_eq!(self.table[index as usize].state, ExtentState::Dying);
        self.table[index as usize].state = ExtentState::Free;
        self.resident.push_back(index);
    }

    /// Whether one more free extent may keep its memory, beside `kept` that are not clean yet.
    pub(crate) fn may_keep(&self, kept: usize) -> bool {
        !self.is_purging && self.resident.len() + kept < self.keeps()
    }

    /// How many free extents keep their memory.
    fn keeps(&self) -> usize {
        let usual = match self.growth {
            Some(_) => (self.in_use / 2).clamp(RESIDENT_FREE_MAX, RESIDENT_FREE_MAX_ON_MEDIUM),
            None => RESIDENT_FREE_MAX,
        };
        self.kept_free.min(usual)
    }

    /// Where the medium should grow, or its holes be filled: `None` while it does, or has enough extents that are clean. At most one growth
    /// is under way.
    pub(crate) fn next_growth(&mut self) -> Option<Vec<Range<u64>>> {
        let (clean, ahead) = (self.returned.len(), self.ahead());
        let growth = self.growth.as_ref()?;
        if growth.under_way.is_some() {
            return None;
        }
        let range = match growth.failed.clone() {
            Some(failed) => failed,
            None if clean >= ahead => return None,
            None => self.next_to_fill(ahead)?,
        };
        let bytes = self.bytes_to_fill(&range);
        self.growth.as_mut()?.under_way = Some(range);
        Some(bytes)
    }

    /// The bytes of the growth under way.
    pub(crate) fn growing(&self) -> Option<Range<u64>> {
        let range = self.growth.as_ref()?.under_way.clone()?;
        Some(self.start(ExtentId(range.start))..self.start(ExtentId(range.end)))
    }

    /// The bytes of `count` extents that a medium in place could grow by beyond that, unless it is known to be full.
    pub(crate) fn urgent_growth(&self, count: usize) -> Option<Range<u64>> {
        let can_grow = self.growth.as_ref().is_some_and(|growth| growth.is_in_place && growth.failed.is_none());
        let len = self.table.len();
        (can_grow && len + count <= self.addressable)
            .then(|| self.start(ExtentId(len as u32))..self.start(ExtentId((len + count) as u32)))
    }

    /// The medium has grown by `count` extents at its end.
    pub(crate) fn grown_urgently(&mut self, count: usize) {
        let len = self.table.len();
        self.table.resize(len + count, Extent::FREE);
        self.returned.extend(len as u32..(len + count) as u32);
    }

    /// The growth under way is done: there is room for these extents, and they are zeros.
    pub(crate) fn grown(&mut self) {
        let growth = self.growth.as_mut().expect("a medium");
        let range = growth.under_way.take().expect("a growth is under way");
        growth.failed = None;
        range.for_each(|index| self.revive(index));
    }

    /// The growth under way failed: the medium is full. The next one tries the same again.
    pub(crate) fn growth_failed(&mut self) {
        let growth = self.growth.as_mut().expect("a medium");
        growth.failed = growth.under_way.take();
    }

    /// Lets no extent be opened with a sequence below this one.
    pub(crate) fn skip_sequences(&mut self, next: u64) {
        self.next_sequence = self.next_sequence.max(next);
    }

    /// How many extents the pool has, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// An extent is as recovery found it; a free one until then.
    pub(crate) fn found(&mut self, id: ExtentId, header: &ExtentHeader) {
        for back in 0..header.run {
            let index = id.0 + back;
            let is_first = self.returned.remove(&index) || self.found_in_hole(index);
            assert!(is_first, "an extent is found once");
            self.table[index as usize] = Extent { state: ExtentState::Body, run: back, ..Extent::FREE };
        }
        self.in_use += header.run as usize;
        self.next_sequence = self.next_sequence.max(header.sequence + 1);
        self.table[id.index()] = Extent {
            sequence: header.sequence,
            seed: ExtentSeed::new(self.pool_id, header.sequence),
            version_base: header.version_base,
            run: header.run,
            kind: header.kind,
            state: ExtentState::Sealed,
            whole_before: header.whole_before,
            except: header.except,
            before: header.before,
            hint: header.hint,
            ..Extent::FREE
        };
    }

    /// Bytes of free extents whose memory is not given back.
    #[inline]
    pub(crate) fn bytes_free_resident(&self) -> u64 {
        ((self.resident.len() + self.held.len()) as u64) * self.bytes() - self.given_back
    }

    /// Changes of how many free extents the memory is kept.
    pub(crate) fn keep_free(&mut self, extents: usize) {
        self.kept_free = extents;
    }

    /// Lets the memory of all extents that are free now be given back.
    pub(crate) fn purge(&mut self) {
        self.is_purging = true;
    }

    /// The next piece of memory to be given back, at most `bytes_max`; `None` when few enough free
    /// extents hold any.
    pub(crate) fn next_to_give_back(&mut self, bytes_max: u64) -> Option<Range<u64>> {
        if self.resident.len() <= if self.is_purging { 0 } else { self.keeps() } {
            self.is_purging = false;
            return None;
        }
        let start = self.start(ExtentId(self.resident[0])) + self.given_back;
        let len = bytes_max.min(self.bytes() - self.given_back);
        self.given_back += len;
        if self.given_back == self.bytes() {
            self.given_back = 0;
            self.returned.extend(self.resident.pop_front());
        }
        Some(start..start + len)
    }

    fn start_run(&mut self, index: u32, count: u32, kind: ExtentKind, version_base: u64, synced: &Synced) -> ExtentId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.in_use += count as usize;
        for back in 1..count {
            self.table[(index + back) as usize] = Extent { state: ExtentState::Body, run: back, ..Extent::FREE };
        }
        self.table[index as usize] = Extent {
            sequence,
            seed: ExtentSeed::new(self.pool_id, sequence),
            version_base,
            run: count,
            kind,
            state: ExtentState::Open,
            whole_before: synced.whole_before(),
            except: synced.except(),
            ..Extent::FREE
        };
        ExtentId(index)
    }

    fn free_range(&mut self, range: Range<u32>) -> Range<u32> {
        self.in_use -= range.len();
        for index in range.clone() {
            if self.growth.is_some() {
                self.table[index as usize] = Extent { state: ExtentState::Dying, ..Extent::FREE };
            } else {
                self.table[index as usize] = Extent::FREE;
                self.resident.push_back(index);
            }
        }
        range
    }

    fn take_resident(&mut self) -> Option<u32> {
        let index = self.resident.pop_back();
        if self.resident.is_empty() {
            self.given_back = 0;
        }
        index
    }

    /// Adds extents that were never used.
    fn grow(&mut self, count: u32) -> Option<u32> {
        let len = self.table.len();
        if self.growable() < count as usize {
            return None;
        }
        self.table.resize(len + count as usize, Extent::FREE);
        Some(len as u32)
    }

    fn take_held(&mut self, count: u32) -> Option<u32> {
        if self.held.len() < count as usize {
            return None;
        }
        let first = self.held.start;
        self.held.start += count;
        Some(first)
    }

    /// Takes `count` neighbouring free extents out of the free sets. Looks through the whole table:
    /// only for runs, and only once all addresses were used.
    fn take_gap(&mut self, count: u32) -> Option<u32> {
        let held = self.held.clone();
        let mut len = 0;
        let end = (0..self.table.len() as u32).find(|index| {
            let free = self.table[*index as usize].state == ExtentState::Free
                && !held.contains(index)
                && self.may_open(*index);
            len = if free { len + 1 } else { 0 };
            len == count
        })?;
        let gap = end + 1 - count..end + 1;
        if self.resident.front().is_some_and(|first| gap.contains(first)) {
            self.given_back = 0;
        }
        self.resident.retain(|index| !gap.contains(index));
        self.returned.retain(|index| !gap.contains(index));
        self.open_holes_in(&gap);
        Some(gap.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const BYTES: usize = 64 << 10;

    pub(super) fn open(extents: &mut Extents, count: u32) -> Option<ExtentId> {
        extents.open(count, ExtentKind::Appended, 1, &Synced::default())
    }

    #[test]
    fn a_freed_extent_is_the_next_to_be_opened() {
        // Its pages are there and perhaps even cached; it is a new opening with a new seed all the
        // same.
        let mut extents = Extents::new(1, BYTES, 8);
        let (a, _b) = (open(&mut extents, 1).unwrap(), open(&mut extents, 1).unwrap());
        let before = *extents.get(a);
        extents.free(a);
        assert_eq!(open(&mut extents, 1), Some(a));
        assert_ne!(extents.get(a).seed, before.seed);
        assert!(extents.get(a).sequence > before.sequence);
    }

    #[test]
    fn memory_of_few_free_extents_is_kept() {
        // Of ten freed extents all but four are given back, in slices that cover them exactly, and
        // all ten can be opened again.
        let mut extents = Extents::new(1, BYTES, 10);
        let ids: Vec<ExtentId> = (0..10).map(|_| open(&mut extents, 1).unwrap()).collect();
        for id in &ids {
            extents.free(*id);
        }
        let given: Vec<Range<u64>> = std::iter::from_fn(|| extents.next_to_give_back(24 << 10)).collect();
        assert_eq!(given.iter().map(|range| range.end - range.start).sum::<u64>(), 6 * BYTES as u64);
        assert_eq!(given[0].start, extents.start(ids[0]));
        assert_eq!(extents.free_counts(), (10, RESIDENT_FREE_MAX));
        assert!((0..10).all(|_| open(&mut extents, 1).is_some()));
        assert_eq!(open(&mut extents, 1), None);
    }

    #[test]
    fn fewer_free_extents_keep_their_memory_if_told_so() {
        // And what is free and resident is known to the byte while it is being given back.
        let mut extents = Extents::new(1, BYTES, 10);
        let ids: Vec<ExtentId> = (0..10).map(|_| open(&mut extents, 1).unwrap()).collect();
        extents.keep_free(1);
        for id in &ids[..3] {
            extents.free(*id);
        }
        let mut left = 3 * BYTES as u64;
        while let Some(given) = extents.next_to_give_back(24 << 10) {
            left -= given.end - given.start;
            assert_eq!(extents.bytes_free_resident(), left);
        }
        assert_eq!((left, extents.free_counts()), (BYTES as u64, (3, 1)));
        extents.keep_free(RESIDENT_FREE_MAX + 1);
        for id in &ids[3..] {
            extents.free(*id);
        }
        while extents.next_to_give_back(1 << 20).is_some() {}
        assert_eq!(extents.bytes_free_resident(), (RESIDENT_FREE_MAX * BYTES) as u64);
    }

    #[test]
    fn a_purge_gives_back_all_that_is_free_once() {
        // Extents freed after it are kept again.
        let mut extents = Extents::new(1, BYTES, 10);
        let ids: Vec<ExtentId> = (0..10).map(|_| open(&mut extents, 1).unwrap()).collect();
        for id in &ids[..6] {
            extents.free(*id);
        }
        extents.purge();
        let given = std::iter::from_fn(|| extents.next_to_give_back(1 << 20)).count();
        assert_eq!((given, extents.free_counts()), (6, (6, 0)));
        for id in &ids[6..] {
            extents.free(*id);
        }
        assert_eq!((extents.next_to_give_back(1 << 20), extents.free_counts()), (None, (10, 4)));
    }

    #[test]
    fn a_run_finds_a_gap_and_keeps_it() {
        // When all addresses were used, a gap is held for a run: single extents do not take it
        // away.
        let mut extents = Extents::new(1, BYTES, 8);
        let ids: Vec<ExtentId> = (0..8).map(|_| open(&mut extents, 1).unwrap()).collect();
        for i in [1, 3, 4, 5, 7] {
            extents.free(ids[i]);
        }
        assert!(!extents.hold_run(4));
        assert!(extents.hold_run(3));
        assert_eq!(extents.openable(), 2);
        let singles = [open(&mut extents, 1).unwrap(), open(&mut extents, 1).unwrap()];
        assert!(singles.contains(&ids[1]) && singles.contains(&ids[7]));
        assert_eq!(open(&mut extents, 1), None);
        let run = open(&mut extents, 3).unwrap();
        assert_eq!((run, extents.get(run).run), (ids[3], 3));
        assert_eq!(extents.id_of(extents.start(ids[5]) + 100), run);
    }

    #[test]
    fn a_gap_let_go_is_free_again() {
        // The next reserve may be for something else.
        let mut extents = Extents::new(1, BYTES, 4);
        let ids: Vec<ExtentId> = (0..4).map(|_| open(&mut extents, 1).unwrap()).collect();
        for id in &ids {
            extents.free(*id);
        }
        assert!(extents.hold_run(4));
        assert_eq!((extents.openable(), open(&mut extents, 1)), (0, None));
        assert!(extents.hold_run(0));
        assert!((0..4).all(|_| open(&mut extents, 1).is_some()));
    }

    #[test]
    fn a_run_cut_short_frees_its_tail() {
        // What a group did not need can be opened at once.
        let mut extents = Extents::new(1, BYTES, 4);
        let run = open(&mut extents, 4).unwrap();
        extents.shorten_run(run, 1);
        assert_eq!((extents.in_use(), extents.get(run).run), (1, 1));
        assert!((0..3).all(|_| open(&mut extents, 1).is_some()));
    }
}
