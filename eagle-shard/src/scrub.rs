//! The background scrub: records of sealed extents are read again at a bounded rate, and what is not whole any more is told once.

use std::collections::HashSet;

use eagle_pmem::{PoolOffset, ScrubPlace};

use crate::{call::UnixMs, shard::Shard};

/// Most bytes that a slice reads: some 20 us.
const SLICE_BYTES_MAX: u64 = 64 << 10;

/// What the scrub has read and found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Passes over all sealed extents that are over.
    pub passes: u64,
    /// Bytes of records read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Records that were not whole, each counted once.
    pub damaged: u64,
}

/// The scrub's place.
#[derive(Default)]
pub(crate) struct Scrub {
    place: ScrubPlace,
    bytes_per_second: u64,
    stats: ScrubStats,
    /// What may be read since the last slice, in bytes times milliseconds of a second.
    credit: u64,
    last: UnixMs,
    /// Damage that was found, by the extent's sequence.
    known: HashSet<(PoolOffset, u64)>,
    /// The same, not told yet: where, and what is wrong.
    untold: Vec<(u64, String)>,
}

impl Shard {
    /// Lets the scrub read so many bytes a second; 0: none.
    pub fn set_scrub_rate(&mut self, bytes_per_second: u64) {
        self.scrub.bytes_per_second = bytes_per_second;
    }

    /// What the scrub has read and found.
    #[must_use]
    pub fn scrub_stats(&self) -> ScrubStats {
        self.scrub.stats
    }

    /// Damage that the scrub has found since this was asked for: the byte of the pool, and what is wrong.
    pub fn take_scrub_damage(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.scrub.untold)
    }

    /// A slice of the scrub.
    pub(crate) fn scrub_slice(&mut self, now: UnixMs) {
        let scrub = &mut self.scrub;
        let passed_ms = now.0.saturating_sub(scrub.last.0).min(1000);
        scrub.last = now;
        let earned = scrub.bytes_per_second.saturating_mul(passed_ms);
        scrub.credit = scrub.credit.saturating_add(earned).min(scrub.bytes_per_second.saturating_mul(1000));
        let bytes = (scrub.credit / 1000).min(SLICE_BYTES_MAX);
        if bytes == 0 {
            return;
        }
        let done = self.log.scrub(&mut scrub.place, bytes);
        scrub.credit = if done.is_over { 0 } else { scrub.credit.saturating_sub(done.bytes * 1000) };
        scrub.stats.records += done.records;
        scrub.stats.bytes += done.bytes;
        scrub.stats.passes += u64::from(done.is_over);
        if let Some((offset, sequence, error)) = done.damage
            && scrub.known.insert((offset, sequence))
        {
            scrub.stats.damaged += 1;
            scrub.untold.push((offset.byte(), error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Budget,
        call::{DbId, UnixMs},
        shard::{Shard, ShardConfig},
        value::Encoding,
    };

    #[test]
    fn the_scrub_keeps_its_rate() {
        // At 100 KB a second a second reads about as much, however often it is asked; without a rate nothing is read.
        let mut shard = Shard::new(ShardConfig { extent_size: 1 << 18, ..ShardConfig::default() }).unwrap();
        for number in 0..20_000_u32 {
            let name = number.to_string();
            let key = shard.key(name.as_bytes());
            shard.put_string(DbId(0), key, None, &[b'x'; 100], None, Encoding::Natural).unwrap();
        }
        shard.commit();
        let mut now = UnixMs(1_700_000_000_000);
        shard.background(now, Budget { records: 10, is_idle: false });
        assert_eq!(shard.scrub_stats().bytes, 0);
        shard.set_scrub_rate(100_000);
        for _ in 0..100 {
            now.0 += 10;
            shard.background(now, Budget { records: 10, is_idle: false });
        }
        let read = shard.scrub_stats().bytes;
        assert!((95_000..110_000).contains(&read), "{read} bytes");
        assert_eq!((shard.scrub_stats().damaged, shard.take_scrub_damage()), (0, vec![]));
    }
}
