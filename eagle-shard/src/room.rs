//! Room: how it is made sure, before anything is changed, that what a command appends will fit.
//!
//! As long as memory is plenty this is one comparison. When few extents are left, each byte to be appended is paid for: the
//! compactor goes over dead bytes until it has passed as many as are to be appended, and some more. Only when nothing dead is
//! left is a writer refused; reads and deletes go on, for which the log keeps a reserve.

use eagle_pmem::Log;

use crate::{call::Call, compact::Urgency, error::Error, shard::Shard};

/// Extents left below which appended bytes are paid for: besides the log's own reserve.
const LOW_EXTENTS: u64 = 4;

/// Extents that the log keeps for deletes and compaction.
const RESERVE_EXTENTS: u64 = 2;

/// Records that the compactor looks at before it asks again whether there is room.
const STEP_RECORDS: usize = 64;

/// Dead bytes to be passed for each byte appended, in percent: above 100, so that room grows.
const PAY_PERCENT: usize = 150;

/// What a tombstone may take beside its key, in bytes.
const TOMBSTONE_BYTES_MAX: usize = 48;

impl Shard {
    /// Makes sure that records of `bytes` in all can be appended. Says whether records may have moved to get there, which ends
    /// the life of every [`crate::keyspace::Found`].
    ///
    /// # Errors
    /// Out of memory, and nothing dead to make room of.
    #[inline]
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<bool, Error> {
        self.compactor.owe(bytes);
        if !self.compactor.is_low() && self.log.reserve(bytes).is_ok() {
            return Ok(false);
        }
        self.gain_room(bytes, Urgency::Now, |log| log.reserve(bytes).is_ok())
    }

    /// As [`Shard::make_room`], for what takes no more room in the end: it may take from the reserve.
    #[inline]
    pub(crate) fn make_privileged_room(&mut self, bytes: usize) -> Result<bool, Error> {
        if !self.compactor.is_low() && self.log.reserve_privileged(bytes).is_ok() {
            return Ok(false);
        }
        self.gain_room(bytes, Urgency::Always, |log| log.reserve_privileged(bytes).is_ok())
    }

    /// Makes sure that the tombstones that a command may write fit, where the log has any.
    pub(crate) fn make_room_for(&mut self, call: &Call<'_>) -> Result<(), Error> {
        self.make_tombstone_room(tombstone_bytes_max(call))
    }

    /// Begins what is nothing but tombstones for the keys that a command names, for which there is room: after a crash all of them are
    /// there or none.
    pub(crate) fn begin_tombstones(&mut self, call: &Call<'_>) {
        self.log.begin_group(tombstone_bytes_max(call));
    }

    /// Ends them.
    pub(crate) fn end_tombstones(&mut self) {
        self.log.end_group();
    }

    /// Makes sure that tombstones of `bytes` in all fit, where the log has any.
    pub(crate) fn make_tombstone_room(&mut self, bytes: usize) -> Result<(), Error> {
        if self.config.in_place {
            return Ok(());
        }
        self.make_privileged_room(bytes).map(drop)
    }

    /// Notes how much room is left. Once a batch is often enough: what the batch appends is covered by the log's own check.
    pub(crate) fn measure_room(&mut self) {
        let usage = self.log.usage();
        let left = usage.bytes_max.saturating_sub(usage.bytes) / self.config.extent_size as u64;
        self.compactor.set_low(left < LOW_EXTENTS + RESERVE_EXTENTS);
    }

    #[cold]
    fn gain_room(
        &mut self,
        bytes: usize,
        urgency: Urgency,
        has_room: impl Fn(&mut Log) -> bool,
    ) -> Result<bool, Error> {
        let mut owed = bytes * PAY_PERCENT / 100;
        loop {
            let is_enough = has_room(&mut self.log);
            if is_enough && owed == 0 {
                break;
            }
            let Some(passed) = self.reclaim(STEP_RECORDS, if is_enough { Urgency::Now } else { urgency }) else {
                if is_enough {
                    break;
                }
                return Err(Error::OutOfMemory);
            };
            owed = owed.saturating_sub(passed);
        }
        self.measure_room();
        Ok(true)
    }
}

/// What tombstones for all the keys that a command names may take, in bytes.
fn tombstone_bytes_max(call: &Call<'_>) -> usize {
    call.args.bytes_len() + call.args.len() * TOMBSTONE_BYTES_MAX
}
