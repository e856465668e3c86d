//! Background: the work that nobody waits for, done in slices when the core has time.
//!
//! In this order, as far as the budget goes: what was flushed is counted as dead; expired keys are removed; a checkpoint goes on; near
//! the limit of memory room is made ahead of the writers; dead space is compacted down to its bound (and, beyond the budget, in step with what was
//! appended); heat is aged; memory of extents that are free is given back, of all of them when the shard is at rest. A slice of 100 records takes some 10 to 50 us.

use crate::{call::UnixMs, dash::SegmentId, heat::AGING_PERIOD_SECONDS, shard::Shard};

/// How much work a slice may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// About how many records (or index entries, by dozens) to look at.
    pub records: usize,
    /// Whether the core has nothing else to do: then dead space is kept smaller.
    pub is_idle: bool,
}

/// What a slice has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records looked at.
    pub records: usize,
    /// Whether there is more to do now. If not, another slice in [`EXPIRY_ROUND_MS`](crate::EXPIRY_ROUND_MS) is early enough.
    pub more: bool,
}

/// Index entries that count as one record of a budget: going over them is that much cheaper.
pub(crate) const ENTRIES_A_RECORD: usize = 32;

/// Records of a budget that a slice of memory given back counts as.
const RECORDS_A_SLICE: usize = 64;

/// Where the pass that ages heat is.
#[derive(Default)]
pub(crate) struct Aging {
    db: u8,
    segment: SegmentId,
    /// When the next pass begins.
    next_pass: UnixMs,
    /// Whether this pass lets all keys begin anew, because heat tells something else now.
    anew: bool,
}

impl Aging {
    /// A pass that lets all keys begin anew, at once.
    pub(crate) fn anew() -> Self {
        Self { anew: true, ..Self::default() }
    }
}

impl Shard {
    /// Does a slice of background work.
    pub fn background(&mut self, now: UnixMs, budget: Budget) -> Progress {
        self.now = now;
        let mut left = budget.records;
        if !self.flushed.is_empty() {
            left = left.saturating_sub(self.sweep_flushed(left));
        }
        if self.sweeps {
            left = left.saturating_sub(self.sweep_expired(now, left));
        }
        left = left.saturating_sub(self.go_on_with_checkpoint(left));
        left = left.saturating_sub(self.make_room_ahead(left));
        left = left.saturating_sub(self.compact(left, budget.is_idle));
        if budget.is_idle && self.is_quiet() && left > 0 {
            self.log.purge();
        }
        left = left.saturating_sub(self.age_heat(now, left));
        self.scrub_slice(now);
        let has_more = self.give_back(left);
        Progress { records: budget.records - left, more: left == 0 || has_more || self.checkpoint_has_more() }
    }

    /// Gives memory of free extents back to the system: a slice, or several if there are records left of the budget. Returns whether
    /// there is more.
    fn give_back(&mut self, records: usize) -> bool {
        let slices = 1 + records / RECORDS_A_SLICE;
        (0..slices).all(|_| self.log.give_back())
    }

    /// Ages heat, a segment of the index at a time, until the pass is over or the budget spent. Returns what it used of that.
    pub(crate) fn age_heat(&mut self, now: UnixMs, records: usize) -> usize {
        if now < self.aging.next_pass {
            return 0;
        }
        let mut done = 0;
        while done < records {
            let aging = &mut self.aging;
            let Some(database) = self.databases.get_mut(usize::from(aging.db)) else {
                let next_pass = UnixMs(now.0 + AGING_PERIOD_SECONDS * 1000 / 2);
                *aging = Aging { next_pass, ..Aging::default() };
                break;
            };
            let measure = self.evictor.measure();
            let anew = aging.anew.then(|| measure.fresh(now));
            let heat = |heat: u16| anew.unwrap_or_else(|| measure.aged(heat, now));
            match database.dash.update_words(aging.segment, |word| word.with_heat(heat(word.heat()))) {
                Some(entries) => {
                    aging.segment = aging.segment.after();
                    done += 1 + entries / ENTRIES_A_RECORD;
                }
                None => *aging = Aging { db: aging.db + 1, segment: SegmentId::FIRST, ..*aging },
            }
        }
        done
    }
}
