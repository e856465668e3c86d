//! Groups: records that are applied whole or not at all when the log is replayed.
//!
//! Each record of a group but the last says that more follows. Which is the last is known only at
//! the end; until then each says so, and no checksum of a group is computed before it has ended.

use super::{Group, Lane, Log};
use crate::layout::record_header;
use crate::offset::PoolOffset;

impl Log {
    /// Begins a group: what is appended until [`Log::end_group`] is applied whole or not at all
    /// when the log is replayed. It takes at most `bytes`, which were reserved.
    ///
    /// # Panics
    /// If a group has begun already. Appending more than `bytes` to it panics too.
    pub fn begin_group(&mut self, bytes: usize) {
        assert!(self.group.is_none(), "groups do not nest");
        if !self.replayed {
            return;
        }
        if bytes as u64 > self.lanes[Lane::Appended as usize].room() {
            self.open_next(Lane::Appended, bytes as u64);
        }
        self.group = Some(Group { last: None });
    }

    /// Ends the group: the last record appended is its last.
    pub fn end_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        if let Some(last) = group.last {
            *self.flags_mut(last) &= !record_header::MORE;
        }
        self.shorten_run();
    }

    /// Frees what a group's run did not need.
    fn shorten_run(&mut self) {
        let cursor = &mut self.lanes[Lane::Appended as usize];
        if cursor.is_closed() {
            return;
        }
        let id = cursor.extent;
        let count = self.extents.count_for(cursor.next - self.extents.records_start(id));
        if count < self.extents.get(id).run {
            let freed = self.extents.shorten_run(id, count);
            cursor.set_end(self.extents.records_stop(id));
            self.unopen(freed);
            if let Some(sync) = &mut self.sync {
                sync.shorten_run(id.raw(), count);
            }
            // Where memory is the medium a header cannot be changed at once, and without it the bodies would show no trace of their use:
            // it stays, and what lies in the places that it speaks for beyond its run has a higher sequence.
            if !self.domain.is_in_place() {
                self.write_header(id);
            }
        }
    }

    /// Marks a record as one of the group, and for the time being not its last.
    #[cold]
    pub(super) fn appended_in_group(&mut self, offset: PoolOffset) {
        *self.flags_mut(offset) |= record_header::MORE;
        if let Some(group) = &mut self.group {
            group.last = Some(offset);
        }
    }

    fn flags_mut(&mut self, offset: PoolOffset) -> &mut u8 {
        let at = offset.byte() + record_header::FLAGS as u64;
        &mut self.mapping.bytes_mut(at..at + 1)[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExtentState, Kind, LogConfig, RecordParts};

    const EXTENT: usize = 64 << 10;

    fn log(replayed: bool) -> Log {
        let config = LogConfig { extent_bytes: EXTENT, replayed, ..LogConfig::new(1, 64 * EXTENT as u64) };
        Log::anonymous(config).unwrap()
    }

    fn append(log: &mut Log, value: &[u8]) -> PoolOffset {
        let pieces = [value];
        log.append(&RecordParts::new(Kind::String, b"key", &pieces))
    }

    fn append_group(log: &mut Log, records: usize, value: &[u8], bytes_said: usize) -> Vec<PoolOffset> {
        log.reserve(bytes_said).unwrap();
        log.begin_group(bytes_said);
        let offsets = (0..records).map(|_| append(log, value)).collect();
        log.end_group();
        offsets
    }

    fn flags(log: &Log, offsets: &[PoolOffset]) -> Vec<bool> {
        offsets.iter().map(|offset| log.read(*offset).more_follows()).collect()
    }

    #[test]
    fn all_but_the_last_say_that_more_follows() {
        // And a record alone, or a group of one or none, does not.
        let mut log = log(true);
        let alone = append(&mut log, b"alone");
        let three = append_group(&mut log, 3, b"value", 1000);
        let one = append_group(&mut log, 1, b"value", 1000);
        assert!(append_group(&mut log, 0, b"", 1000).is_empty());
        assert_eq!(flags(&log, &[alone]), [false]);
        assert_eq!(flags(&log, &three), [true, true, false]);
        assert_eq!(flags(&log, &one), [false]);
        log.commit();
        log.check(|_| true).unwrap();
    }

    #[test]
    fn a_group_never_crosses_an_extent() {
        // Groups of every size that fits, begun at whatever place the one before ended.
        let mut log = log(true);
        for records in 1..200 {
            let bytes = records * 312;
            let group = append_group(&mut log, records, &[1; 299], bytes);
            let extents: Vec<_> = group.iter().map(|offset| log.extent_of(*offset)).collect();
            assert!(extents.iter().all(|extent| *extent == extents[0]), "{records} records");
            group.iter().for_each(|offset| log.kill(*offset));
        }
    }

    #[test]
    fn a_group_too_large_for_an_extent_gets_a_run() {
        // It lies in one run, and extents that were asked for and not used are free again.
        let mut log = log(true);
        append(&mut log, b"before");
        let group = append_group(&mut log, 1000, &[1; 299], 20 * EXTENT);
        let run = log.extent_of(group[0]);
        assert!(group.iter().all(|offset| log.extent_of(*offset) == run));
        assert_eq!(u64::from(log.extent(run).run()), (1000 * 312 + 64_u64).div_ceil(EXTENT as u64));
        assert_eq!(log.usage().extents, 1 + log.extent(run).run() as usize);
        append(&mut log, b"after");
        log.commit();
        log.check(|_| true).unwrap();
    }

    #[test]
    fn a_run_is_freed_when_its_last_record_dies() {
        // All of its extents, wherever the last record lies.
        let mut log = log(true);
        let group = append_group(&mut log, 1000, &[1; 299], 1000 * 312);
        let run = log.extent_of(group[0]);
        append_group(&mut log, 1, &[1; EXTENT / 2], EXTENT);
        let alive = append_group(&mut log, 1, &[1; EXTENT / 2], EXTENT);
        assert_eq!(log.extent(run).state(), ExtentState::Sealed);
        group.iter().rev().for_each(|offset| log.kill(*offset));
        assert!(log.extents().all(|(id, _)| id != run || log.extent_of(alive[0]) == id));
    }

    #[test]
    #[should_panic(expected = "a group exceeds what it said it would take")]
    fn a_group_that_grows_beyond_its_word_is_a_mistake() {
        // Otherwise it would cross an extent, and half of it could survive a crash.
        append_group(&mut log(true), 2000, &[1; 299], 1000);
    }

    #[test]
    fn groups_cost_nothing_where_nobody_replays() {
        // No flag is set, and the group may say anything.
        let mut log = log(false);
        let group = append_group(&mut log, 3, b"value", 0);
        assert_eq!(flags(&log, &group), [false, false, false]);
    }
}
