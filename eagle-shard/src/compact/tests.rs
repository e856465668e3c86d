//! The compactor at rest and in slices: what an idle core leaves dead, and how much a slice copies.

use super::*;
use crate::{
    Budget,
    call::DbId,
    shard::ShardConfig,
    value::{Encoding, PackedLimits},
};

const DB: DbId = DbId(0);
const IDLE: Budget = Budget { records: 512, is_idle: true };

fn shard(in_place: bool) -> Shard {
    let packed_hash = PackedLimits { entries_max: 512, item_bytes_max: 64 };
    Shard::new(ShardConfig { extent_size: 256 << 10, in_place, packed_hash, ..ShardConfig::default() })
        .expect("a shard")
}

/// Fills a shard with strings that are then written anew, longer, so that a third of all is dead, all over the log.
fn with_dead(in_place: bool, now: UnixMs) -> Shard {
    let mut shard = shard(in_place);
    for (step, len) in [(1, 100), (3, 130)] {
        for number in (0..60_000).step_by(step) {
            let name = format!("key:{number}");
            let key = shard.key(name.as_bytes());
            let old = shard.find(DB, key, now);
            shard.put_string(DB, key, old, &vec![b'v'; len], None, Encoding::Raw).expect("room");
        }
        shard.commit();
    }
    shard
}

/// Slices of an idle core at one time, until there is no more to do.
fn rest(shard: &mut Shard, now: UnixMs) {
    while shard.background(now, IDLE).more {
        shard.commit();
    }
    shard.commit();
}

#[test]
fn a_shard_at_rest_keeps_little_that_is_dead_and_nothing_that_is_free() {
    // At once the eager bound holds; when nothing was appended for a while the quiet one, which is lower in memory, and then the memory of
    // free extents is given back too.
    for (in_place, percent) in [(true, QUIET_PERCENT), (false, QUIET_PERCENT_ON_MEDIUM)] {
        let now = UnixMs(1_700_000_000_000);
        let mut shard = with_dead(in_place, now);
        rest(&mut shard, now);
        let usage = shard.usage();
        assert!(usage.log_dead_bytes * 100 <= usage.log_bytes * EAGER_PERCENT, "{usage:?}");
        assert!(usage.log_dead_bytes * 100 > usage.log_bytes * percent, "copying waits for quiet: {usage:?}");
        assert!(usage.log_free_bytes > 0, "what is free waits for its next use: {usage:?}");
        rest(&mut shard, UnixMs(now.0 + QUIET_MS));
        let usage = shard.usage();
        assert!(usage.log_dead_bytes * 100 <= usage.log_bytes * percent, "{usage:?}");
        assert_eq!(usage.log_free_bytes, 0, "{usage:?}");
        shard.check().expect("the log's accounts");
    }
}

#[test]
fn a_slice_over_long_records_copies_no_more_than_one_over_short_ones() {
    // Packed hashes of 30 KiB of which many are dead: a slice of 64 records moves a batch of them beyond its bytes at most, not 64.
    let now = UnixMs(1_700_000_000_000);
    let mut shard = shard(true);
    let fields: Vec<_> = (0..512).map(|number| format!("{number:03}").into_bytes()).collect();
    for number in 0..400 {
        let name = format!("key:{number}");
        let key = shard.key(name.as_bytes());
        shard.set_fields(DB, key, None, fields.iter().map(|field| (&field[..], &[b'v'; 55][..]))).expect("room");
    }
    for number in (0..400).step_by(2) {
        let name = format!("key:{number}");
        let key = shard.key(name.as_bytes());
        let found = shard.find(DB, key, now).expect("it was set");
        shard.remove(DB, key, found);
    }
    let (mut most, mut moved) = (0, 0);
    while shard.background(now, Budget { records: 64, is_idle: true }).more {
        most = most.max(shard.stats.moved_bytes - moved);
        moved = shard.stats.moved_bytes;
    }
    assert!(moved > 1 << 20, "records were moved: {moved}");
    assert!(most <= (BATCH as u64 + 2) * (32 << 10), "{most} bytes in one slice");
}
