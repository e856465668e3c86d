//! Expiry: keys whose time has come leave without being asked for.
//!
//! The index keeps lower bounds of expiries by segment and bucket. A round goes over the segments with something due, reads the
//! records with an expiry of the buckets that are due, removes those whose time has come and bounds the others anew. Rounds
//! begin every [`EXPIRY_ROUND_MS`], so that on a mostly idle core an expired key is gone in twice that time. A read never shows
//! an expired key, swept or not ([`Shard::find`]).

use eagle_pmem::PoolOffset;

use crate::{
    background::ENTRIES_A_RECORD,
    call::{DbId, UnixMs},
    dash::{Hashed, SegmentId},
    keyspace::Found,
    shard::Shard,
};

/// Time from the beginning of one round to that of the next, in milliseconds.
pub const EXPIRY_ROUND_MS: u64 = 40;

/// Records that are asked for ahead of the one at hand.
const PREFETCHED: usize = 16;

/// Where the sweep is.
#[derive(Default)]
pub(crate) struct Sweeper {
    db: u8,
    segment: SegmentId,
    /// Whether a round is under way.
    is_under_way: bool,
    next_round: UnixMs,
    /// Records with an expiry of the segment at hand; kept for its memory.
    records: Vec<u64>,
}

impl Shard {
    /// Removes expired keys for about `units` records read or removed. Returns how many that was.
    pub(crate) fn sweep_expired(&mut self, now: UnixMs, units: usize) -> usize {
        if !self.sweeper.is_under_way {
            if now < self.sweeper.next_round {
                return 0;
            }
            let next_round = UnixMs(now.0 + EXPIRY_ROUND_MS);
            let records = std::mem::take(&mut self.sweeper.records);
            self.sweeper = Sweeper { next_round, records, is_under_way: true, ..Sweeper::default() };
        }
        let mut done = 0;
        while done < units {
            let (db, segment) = (self.sweeper.db, self.sweeper.segment);
            let Some(database) = self.databases.get(usize::from(db)) else {
                self.sweeper.is_under_way = false;
                break;
            };
            let due = if database.expires == 0 { None } else { database.dash.next_due(segment, now.0) };
            let Some(due) = due else {
                (self.sweeper.db, self.sweeper.segment) = (db + 1, SegmentId::FIRST);
                continue;
            };
            let (used, is_done) = self.sweep_segment(DbId(db), due, now, units - done);
            done += used;
            self.sweeper.segment = if is_done { due.after() } else { due };
        }
        done
    }

    /// Removes expired keys of one segment, at most `units`. Returns what it did, and whether none are left.
    fn sweep_segment(&mut self, db: DbId, segment: SegmentId, now: UnixMs, units: usize) -> (usize, bool) {
        let dash = &mut self.databases[usize::from(db.0)].dash;
        let mut records = std::mem::take(&mut self.sweeper.records);
        records.clear();
        records.extend(dash.due(segment, now.0).map(|word| word.offset()));
        let (mut read, mut kept, mut is_done) = (0, 0, true);
        dash.settle_due(segment, now.0, |word| {
            if let Some(ahead) = records.get(read + PREFETCHED) {
                self.log.prefetch(PoolOffset::from_raw(*ahead));
            }
            read += 1;
            let record = self.log.read(PoolOffset::from_raw(word.offset()));
            let expiry = record.expiry().expect("its entry says that it has one");
            if expiry > now.0 {
                return Some(expiry);
            }
            if kept == units {
                is_done = false;
                return Some(expiry);
            }
            records[kept] = word.offset();
            kept += 1;
            None
        });
        records.truncate(kept);
        let removed = records.len();
        for (at, raw) in records.iter().enumerate() {
            if !self.expire_record(db, PoolOffset::from_raw(*raw)) {
                self.keep_due(db, &records[at..], now);
                is_done = false;
                break;
            }
        }
        self.sweeper.records = records;
        (1 + removed + read / ENTRIES_A_RECORD * 4, is_done)
    }

    /// Removes the key of a record whose time has come. False if there is no room for its tombstone.
    fn expire_record(&mut self, db: DbId, offset: PoolOffset) -> bool {
        if self.log.reserve_privileged(self.log.delete_bytes(offset)).is_err() {
            return false;
        }
        let (hashed, found) = self.find_record(db, offset);
        self.expire(db, hashed, found);
        true
    }

    /// Lets records that were to be removed be due again.
    fn keep_due(&mut self, db: DbId, records: &[u64], now: UnixMs) {
        for raw in records {
            let (_, found) = self.find_record(db, PoolOffset::from_raw(*raw));
            self.databases[usize::from(db.0)].dash.note_expiry(found.place, now.0);
        }
    }

    /// The entry of a record that is in the index.
    fn find_record(&self, db: DbId, offset: PoolOffset) -> (Hashed, Found) {
        let hashed = Hashed::of_key(self.config.seed, self.log.read(offset).key());
        let dash = &self.databases[usize::from(db.0)].dash;
        let place = dash.find(hashed, |word| word.offset() == offset.raw()).expect("its entry was just read");
        let word = dash.word(place);
        (hashed, Found { place, word })
    }
}
