//! The budget is what all cores take together of the memory that the node may take (`maxmemory`), without a lock.
//!
//! Each core adds what it has come to take since it last did so, at the end of a turn in which that changed and only while there
//! is a limit; so the sum is as exact as the cores' own accounts are, a turn late. What counts is said in
//! `eagle_shard::limit`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What all cores take together.
#[derive(Debug, Default)]
pub struct Budget {
    /// Bytes.
    used: AtomicU64,
    /// Cores that can make room.
    relievers: AtomicU32,
    /// Keys evicted.
    evicted: AtomicU64,
    /// Since when more is used than may be, monotonic microseconds; 0: it is not.
    exceeded_since_us: AtomicU64,
    /// How long more was used before that, in microseconds.
    exceeded_us: AtomicU64,
}

/// A core's part of it, as it last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Bytes that it takes.
    pub bytes: u64,
    /// Whether it can make room.
    pub can_make_room: bool,
}

impl Budget {
    /// Replaces what a core said before.
    pub fn replace(&self, before: Part, part: Part) {
        if before.bytes != part.bytes {
            self.used.fetch_add(part.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
        }
        if before.can_make_room != part.can_make_room {
            let change = if part.can_make_room { 1 } else { u32::MAX };
            self.relievers.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Adds keys that a core evicted; returns how many all have.
    pub fn add_evicted(&self, keys: u64) -> u64 {
        if keys == 0 {
            self.evicted.load(Ordering::Relaxed)
        } else {
            self.evicted.fetch_add(keys, Ordering::Relaxed) + keys
        }
    }

    /// Notes whether more is used than `limit` (0 for none) allows.
    pub fn note_excess(&self, limit: u64, now_us: u64) {
        let exceeds = limit > 0 && self.used() > limit;
        let since_us = self.exceeded_since_us.load(Ordering::Relaxed);
        if exceeds == (since_us > 0) {
            return;
        }
        let (next, order) = (if exceeds { now_us } else { 0 }, Ordering::Relaxed);
        let is_ours = self.exceeded_since_us.compare_exchange(since_us, next, order, order).is_ok();
        if is_ours && !exceeds {
            self.exceeded_us.fetch_add(now_us.saturating_sub(since_us), Ordering::Relaxed);
        }
    }

    /// For how long more has been used than may be: at present, and ever, in microseconds.
    pub fn exceeded_us(&self, now_us: u64) -> (u64, u64) {
        let since_us = self.exceeded_since_us.load(Ordering::Relaxed);
        let present = if since_us > 0 { now_us.saturating_sub(since_us) } else { 0 };
        (present, present + self.exceeded_us.load(Ordering::Relaxed))
    }

    /// Bytes that all cores take.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a core other than the one that said `part` can make room.
    pub fn relief_beside(&self, part: Part) -> bool {
        self.relievers.load(Ordering::Relaxed) > u32::from(part.can_make_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_beyond_the_limit_is_added_up() {
        // Begun, looked at while it lasts, ended, begun again; lifting the limit ends it too.
        let budget = Budget::default();
        budget.replace(Part::default(), Part { bytes: 100, can_make_room: false });
        budget.note_excess(100, 1_000);
        assert_eq!(budget.exceeded_us(2_000), (0, 0));
        budget.note_excess(99, 3_000);
        budget.note_excess(99, 4_000);
        assert_eq!(budget.exceeded_us(5_000), (2_000, 2_000));
        budget.note_excess(100, 6_000);
        assert_eq!(budget.exceeded_us(7_000), (0, 3_000));
        budget.note_excess(50, 8_000);
        budget.note_excess(0, 9_000);
        assert_eq!(budget.exceeded_us(9_000), (0, 4_000));
    }

    #[test]
    fn parts_replace_what_was_there_before() {
        // Two cores' parts, growing and shrinking, are always summed up as they are.
        let budget = Budget::default();
        let mut parts = [Part::default(); 2];
        for (core, bytes, can_make_room) in [(0, 100, true), (1, 50, false), (0, 10, true), (1, 0, true), (0, 7, false)]
        {
            let part = Part { bytes, can_make_room };
            budget.replace(std::mem::replace(&mut parts[core], part), part);
            assert_eq!(budget.used(), parts[0].bytes + parts[1].bytes);
            assert_eq!(budget.relief_beside(parts[0]), parts[1].can_make_room);
            assert_eq!(budget.relief_beside(parts[1]), parts[0].can_make_room);
        }
    }
}
