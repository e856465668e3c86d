//! Groups: records that are applied whole or not at all when the log is replayed.
//!
//! Each record of a group but the last says that more follows. Which is the last is known only at the end, so a record of a group
//! gets its checksum when the next is appended, or when the group ends; each is computed once.

use super::{Group, Lane, Log, Place};
use crate::layout::record_header;

impl Log {
    /// Begins a group: what is appended until [`Log::end_group`] is applied whole or not at all when the log is replayed. It takes at most
    /// `bytes`, which were reserved.
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
            let len = self.read(last.offset).bytes_on_medium();
            self.write_checksum(last, len);
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
        let count = self
            .extents
            .count_for(cursor.next - self.extents.records_start(id));
        if count < self.extents.get(id).run {
            cursor.end = self.extents.start(id) + u64::from(count) * self.extents.bytes();
            self.extents.shorten_run(id, count);
            self.write_header(id);
        }
    }

    /// Notes a record as the group's last so far; the one before it now has more following it, and gets its checksum.
    #[cold]
    pub(super) fn seal_in_group(&mut self, place: Place) {
        let last = self
            .group
            .as_mut()
            .and_then(|group| group.last.replace(place));
        if let Some(last) = last {
            let len = self.read(last.offset).bytes_on_medium();
            self.mapping.bytes_mut(last.range(len))[record_header::FLAGS] |= record_header::MORE;
            self.write_checksum(last, len);
        }
    }
}
