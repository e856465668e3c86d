//! Holes: free extents whose space the file system has back.
//!
//! ```text
//!  clean ──(more than enough of them)──▶ being punched ──▶ hole ──(too few clean)──▶ being filled, as the medium grows ──▶ clean
//!                                                           └──(no time for that)──▶ open
//! ```
//!
//! While fewer extents are clean than the medium grows by ([`Extents::ahead`]), there is to be more room: holes are filled
//! before the medium is made longer. When more than three times as many are clean, all but twice as many are punched, the
//! farthest first: so what is used and freed again in turns moves the file system only if it swings by that much.
//!
//! What always holds: only clean extents are punched, and those have headers that are durably invalid; the page that a header lies in
//! stays, because it tells that the place was used. A hole that is opened without having been filled is believed to have room, as an extent
//! is that the medium has not yet grown to; while growing fails, neither is opened. A medium in place has no holes: a store into one would
//! wait for the file system, and is fatal where that is full; and they would cost the mapping its huge pages.

use super::{Extent, ExtentId, ExtentState, Extents, GROWTH_BYTES_MAX, GROWTH_PART};
use crate::layout::PAGE_BYTES;
use std::collections::BTreeSet;
use std::ops::Range;

/// Most extents that are punched at once.
const PUNCHED_MAX: usize = 64;

/// The holes of a medium.
#[derive(Default)]
pub(super) struct Holes {
    /// Free ones.
    free: BTreeSet<u32>,
    /// Extents that were opened as holes, and have space as far as they were written.
    opened: BTreeSet<u32>,
    /// Extents that are being punched; dying until then.
    under_way: Option<Range<u32>>,
    /// More are to be punched.
    goes_on: bool,
    /// The file system knows no holes.
    is_refused: bool,
}

impl Extents {
    /// Lets the medium grow by so many bytes at least.
    pub(crate) fn set_growth_min(&mut self, bytes: u64) {
        let min = bytes.div_ceil(self.bytes()).max(1);
        if let Some(growth) = &mut self.growth {
            growth.min = min;
        }
    }

    /// Extents that are to be clean, at least: what the medium grows by.
    pub(super) fn ahead(&self) -> usize {
        let there = self.table.len() - self.hole_count();
        let min = self.growth.as_ref().map_or(1, |growth| growth.min);
        let max = GROWTH_BYTES_MAX / self.bytes();
        (there as u64 / GROWTH_PART).clamp(min, max.max(min)) as usize
    }

    /// Free extents without space.
    pub(crate) fn hole_count(&self) -> usize {
        self.growth.as_ref().map_or(0, |growth| growth.holes.free.len())
    }

    /// These parts of the file have no space, or were never written: free extents that they are part of are holes. Before any extent is opened.
    pub(crate) fn found_holes(&mut self, parts: &[Range<u64>]) {
        let mut found = Vec::new();
        for part in parts {
            let first = self.index_of(part.start.max(self.start(ExtentId::FIRST)));
            let end = self.table.len() as u32;
            let is_in = |index: &u32| self.body_of(*index).start < part.end && part.start < self.body_of(*index).end;
            found.extend((first..end).take_while(|index| self.start(ExtentId(*index)) < part.end).filter(is_in));
        }
        let Some(growth) = self.growth.as_mut().filter(|growth| !growth.is_in_place) else { return };
        for index in found {
            if self.returned.remove(&index) {
                growth.holes.free.insert(index);
            }
        }
    }

    /// What of an extent is punched: all behind the page of its header.
    fn body_of(&self, index: u32) -> Range<u64> {
        let start = self.start(ExtentId(index));
        start + PAGE_BYTES..start + self.bytes()
    }

    fn bodies_of(&self, range: Range<u32>) -> Vec<Range<u64>> {
        range.map(|index| self.body_of(index)).collect()
    }

    /// What is to be punched next; `None` while something is, or is little enough. Then [`Extents::punched`] is called.
    pub(crate) fn next_punch(&mut self) -> Option<Vec<Range<u64>>> {
        let (clean, ahead) = (self.returned.len(), self.ahead());
        let growth = self.growth.as_mut()?;
        let holes = &mut growth.holes;
        let is_free = growth.under_way.is_none() && growth.failed.is_none() && holes.under_way.is_none();
        if growth.is_in_place || holes.is_refused || !is_free {
            return None;
        }
        if clean <= if holes.goes_on { 2 * ahead } else { 3 * ahead } {
            holes.goes_on = false;
            return None;
        }
        holes.goes_on = true;
        let count_max = (clean - 2 * ahead).min(PUNCHED_MAX);
        let last = *self.returned.last()?;
        let side_by_side = (0..=last).rev().zip(self.returned.iter().rev()).take(count_max);
        let count = side_by_side.take_while(|(place, index)| place == *index).count() as u32;
        let range = last + 1 - count..last + 1;
        holes.under_way = Some(range.clone());
        for index in range.clone() {
            self.returned.remove(&index);
            self.table[index as usize].state = ExtentState::Dying;
        }
        Some(self.bodies_of(range))
    }

    /// What was to be punched is; or the file system cannot, and then is not asked again.
    pub(crate) fn punched(&mut self, is_done: bool) {
        let growth = self.growth.as_mut().expect("a medium");
        let range = growth.holes.under_way.take().expect("something is punched");
        growth.holes.is_refused |= !is_done;
        for index in range {
            // Also what was punched in part has to be filled again.
            self.table[index as usize].state = ExtentState::Free;
            self.growth.as_mut().expect("a medium").holes.free.insert(index);
        }
    }

    /// Takes holes or new extents, at most so many.
    pub(super) fn next_to_fill(&mut self, count: usize) -> Option<Range<u32>> {
        let holes = self.take_holes_to_fill(count);
        self.growth.as_mut()?.fills_holes = holes.is_some();
        let len = self.table.len();
        let end = (len + count).min(self.addressable);
        holes.or_else(|| {
            self.table.resize(end, Extent { state: ExtentState::Dying, ..Extent::FREE });
            (end > len).then_some(len as u32..end as u32)
        })
    }

    /// Neighbouring holes that are to be filled, at most so many.
    pub(super) fn take_holes_to_fill(&mut self, count_max: usize) -> Option<Range<u32>> {
        let free = &mut self.growth.as_mut()?.holes.free;
        let first = *free.first()?;
        let count = (first..).zip(free.iter()).take(count_max).take_while(|(place, index)| place == *index).count();
        let range = first..first + count as u32;
        for index in range.clone() {
            free.remove(&index);
            self.table[index as usize] = Extent { state: ExtentState::Dying, ..Extent::FREE };
        }
        Some(range)
    }

    /// The bytes of extents that the medium grows by or that are filled: new ones as a whole.
    pub(super) fn bytes_to_fill(&self, range: &Range<u32>) -> Vec<Range<u64>> {
        if self.growth.as_ref().is_some_and(|growth| growth.fills_holes) {
            self.bodies_of(range.clone())
        } else {
            std::iter::once(self.start(ExtentId(range.start))..self.start(ExtentId(range.end))).collect()
        }
    }

    /// How many holes can be opened as they are.
    pub(super) fn openable_holes(&self) -> usize {
        self.growth.as_ref().filter(|growth| growth.failed.is_none()).map_or(0, |growth| growth.holes.free.len())
    }

    /// The first of these.
    pub(super) fn take_hole(&mut self) -> Option<u32> {
        let growth = self.growth.as_mut().filter(|growth| growth.failed.is_none())?;
        let index = growth.holes.free.pop_first()?;
        growth.holes.opened.insert(index);
        Some(index)
    }

    /// Whether a free extent may be opened, as far as its space goes.
    pub(super) fn may_open(&self, index: u32) -> bool {
        self.growth.as_ref().is_none_or(|growth| growth.failed.is_none() || !growth.holes.free.contains(&index))
    }

    /// A gap is opened.
    pub(super) fn open_holes_in(&mut self, gap: &Range<u32>) {
        if let Some(growth) = &mut self.growth {
            let opened: Vec<u32> = growth.holes.free.range(gap.clone()).copied().collect();
            for index in opened {
                growth.holes.free.remove(&index);
                growth.holes.opened.insert(index);
            }
        }
    }

    /// A free extent may be opened again. One that was opened as a hole is one still.
    pub(super) fn revive_free(&mut self, index: u32) {
        let holes = &mut self.growth.as_mut().expect("a medium").holes;
        let was_opened = holes.opened.remove(&index);
        if was_opened {
            holes.free.insert(index)
        } else {
            self.returned.insert(index)
        };
    }

    /// The free extent that is opened last, or one of the last.
    pub(crate) fn last_free(&self) -> Option<ExtentId> {
        let hole = || self.growth.as_ref()?.holes.free.last().copied();
        self.returned.last().copied().or_else(hole).map(ExtentId)
    }

    /// Adds an extent of which the medium has the first page: a hole.
    pub(crate) fn add(&mut self) -> Option<ExtentId> {
        let index = self.grow(1)?;
        self.growth.as_mut()?.holes.free.insert(index);
        Some(ExtentId(index))
    }

    /// Whether an extent was opened as a hole: it may have no space behind what was written.
    pub(crate) fn was_hole(&self, index: u32) -> bool {
        self.growth.as_ref().is_some_and(|growth| growth.holes.opened.contains(&index))
    }

    /// A hole that is found to be in use was opened as one. Whether it was one.
    pub(super) fn found_in_hole(&mut self, index: u32) -> bool {
        let Some(growth) = &mut self.growth else { return false };
        let was_hole = growth.holes.free.remove(&index);
        if was_hole {
            growth.holes.opened.insert(index);
        }
        was_hole
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BYTES, open};
    use super::*;
    use crate::sync::Synced;

    /// As many clean extents as that; 64 are grown by.
    fn clean(count: usize) -> Extents {
        Extents::on_medium(1, BYTES, 2000, count, false)
    }

    fn punch_all(extents: &mut Extents) -> usize {
        let mut count = 0;
        while let Some(parts) = extents.next_punch() {
            count += parts.len();
            extents.punched(true);
        }
        count
    }

    #[test]
    fn what_is_clean_beyond_need_is_punched_and_filled_again() {
        // Not before three times the need, then down to twice as many, from the end, and without the pages of headers; filled in the
        // places of lowest numbers before the medium grows; after that the medium grows as a whole.
        let mut extents = clean(192);
        assert_eq!(extents.next_punch(), None);
        let mut extents = clean(193);
        let first = extents.next_punch().unwrap();
        assert_eq!(extents.next_punch(), None, "one at a time");
        assert_eq!(first.len(), PUNCHED_MAX);
        assert!(first.iter().all(|part| part.end - part.start == BYTES as u64 - PAGE_BYTES));
        assert_eq!(first[63].end, extents.start(ExtentId(193)));
        extents.punched(true);
        assert_eq!(punch_all(&mut extents), 1);
        assert_eq!((extents.hole_count(), extents.next_growth()), (65, None));
        for _ in 0..65 {
            open(&mut extents, 1).unwrap();
        }
        let filled = extents.next_growth().unwrap();
        assert_eq!((filled.len(), filled[0].start), (64, extents.start(ExtentId(128)) + PAGE_BYTES));
        extents.grown();
        assert_eq!((extents.hole_count(), extents.next_growth()), (1, None));
        assert!((0..64).all(|_| open(&mut extents, 1).is_some()));
        assert_eq!(extents.next_growth().unwrap().len(), 1, "the last hole");
        extents.grown();
        assert_eq!(extents.next_growth(), None);
        open(&mut extents, 2).unwrap();
        let grown = extents.next_growth().unwrap();
        assert_eq!(
            (grown.len(), grown[0].start, grown[0].end),
            (1, extents.start(ExtentId(193)), extents.start(ExtentId(257)))
        );
        extents.growth_failed();
        assert_eq!(extents.next_growth().unwrap(), grown, "the same again");
    }

    #[test]
    fn holes_are_opened_in_need_and_not_while_the_medium_is_full() {
        // At the end of the addresses single extents and runs are opened in holes; one that was opened and is free again is a hole;
        // while filling fails, none is opened.
        let mut extents = Extents::on_medium(1, BYTES, 200, 200, false);
        assert_eq!(punch_all(&mut extents), 72);
        let ids: Vec<ExtentId> = (0..128).map(|_| open(&mut extents, 1).unwrap()).collect();
        assert_eq!(extents.openable(), 72);
        let run = open(&mut extents, 3).unwrap();
        assert_eq!((run, extents.openable()), (ExtentId(128), 69));
        extents.shorten_run(run, 1).for_each(|index| extents.revive(index));
        assert_eq!((extents.hole_count(), extents.openable()), (71, 71));
        assert_eq!(open(&mut extents, 1).unwrap(), ExtentId(129));
        assert!(extents.next_growth().is_some());
        extents.growth_failed();
        assert_eq!((extents.openable(), open(&mut extents, 1), open(&mut extents, 2)), (0, None, None));
        extents.free(ids[5]).for_each(|index| extents.revive(index));
        assert_eq!(open(&mut extents, 1), Some(ids[5]));
        assert!(extents.next_growth().is_some());
        extents.grown();
        assert!(open(&mut extents, 2).is_some());
    }

    #[test]
    fn a_file_is_found_with_its_holes() {
        // Extents of which a part has no space; not those of which only the header's page does. One that bears a header is none until it is
        // free.
        let mut extents = clean(10);
        let at = |index: u32| SUPERBLOCKS + u64::from(index) * BYTES as u64;
        extents.found_holes(&[0..at(1), at(2) + PAGE_BYTES..at(4), at(5)..at(5) + PAGE_BYTES, at(9) - 1..at(9) + 1]);
        assert_eq!(extents.growth.as_ref().unwrap().holes.free, BTreeSet::from([0, 2, 3, 8]));
        assert_eq!(extents.openable(), 2000);
        let header = extents.header_of_body();
        extents.found(ExtentId(3), &header);
        assert_eq!(extents.hole_count(), 3);
        extents.free(ExtentId(3)).for_each(|index| extents.revive(index));
        assert_eq!(extents.hole_count(), 4);
        assert_eq!(
            (extents.last_free(), extents.add(), extents.hole_count()),
            (Some(ExtentId(9)), Some(ExtentId(10)), 5)
        );
        let mut in_place = Extents::on_medium(1, BYTES, 1000, 1000, true);
        in_place.found_holes(&[0..at(3), at(4)..at(9)]);
        assert_eq!((in_place.hole_count(), in_place.next_punch()), (0, None));
        let mut refused = clean(500);
        refused.next_punch().unwrap();
        refused.punched(false);
        assert_eq!(refused.next_punch(), None);
        refused.open(1, crate::ExtentKind::Appended, 1, &Synced::default()).unwrap();
    }

    const SUPERBLOCKS: u64 = crate::layout::SUPERBLOCKS_BYTES as u64;
}
