//! Going through keys: `SCAN`, `KEYS`, `RANDOMKEY`.
//!
//! Expired keys are passed over, not removed: the sweep will.

use crate::{
    call::{DbId, UnixMs},
    dash::{Cursor, Word},
    keyspace::{Found, offset_of},
    shard::Shard,
    value::{Form, ValueType},
};

/// Index entries that [`Shard::average_ttl_ms`] looks at, at most.
const TTL_ENTRIES_MAX: usize = 4096;
/// Keys with an expiry that it reads, at most: each may cost a cache miss.
const TTL_KEYS_MAX: usize = 32;

/// How often [`Shard::random`] tries again when it meets an expired key.
const RANDOM_TRIES: usize = 100;

impl Shard {
    /// Goes on with a scan: hands the keys of one bucket to `emit` and returns where to go on.
    pub fn scan(&self, db: DbId, cursor: Cursor, now: UnixMs, mut emit: impl FnMut(&[u8], ValueType)) -> Cursor {
        let dash = &self.databases[usize::from(db.0)].dash;
        dash.scan(cursor, |word, _| self.emit_unexpired(word, now, &mut emit))
    }

    /// Hands every key of the database to `emit`.
    pub fn for_each_key(&self, db: DbId, now: UnixMs, mut emit: impl FnMut(&[u8], ValueType)) {
        for (_, word) in self.databases[usize::from(db.0)].dash.iter() {
            self.emit_unexpired(word, now, &mut emit);
        }
    }

    /// Time to live in milliseconds of the keys of the database that have one, estimated from a few; `None` if none was come
    /// across. Keys lie in the order of their hashes, so the first are as good as any.
    #[must_use]
    pub fn average_ttl_ms(&self, db: DbId, now: UnixMs) -> Option<u64> {
        let database = &self.databases[usize::from(db.0)];
        if database.expires == 0 {
            return None;
        }
        let expiring = database.dash.iter().take(TTL_ENTRIES_MAX).filter(|(_, word)| word.has_expiry());
        let ttls = expiring.filter_map(|(_, word)| self.log.read(offset_of(word)).expiry()?.checked_sub(now.0));
        let (sum, count) = ttls.take(TTL_KEYS_MAX).fold((0u64, 0), |(sum, count), ttl| (sum + ttl, count + 1));
        sum.checked_div(count)
    }

    /// Some key of the database, each about as likely as any other; `None` if it is empty.
    pub fn random(&mut self, db: DbId, now: UnixMs) -> Option<&[u8]> {
        let dash = &self.databases[usize::from(db.0)].dash;
        let mut tries = 0;
        let found = loop {
            let place = dash.random(&mut self.rng)?;
            let found = Found { place, word: dash.word(place) };
            tries += 1;
            if !found.word.has_expiry() || self.log.read(found.offset()).expiry().is_none_or(|at| at > now.0) {
                break Some(found);
            }
            if tries == RANDOM_TRIES {
                break None;
            }
        };
        // Nearly all are expired: the first that is not.
        let is_alive =
            |word: &Word| !word.has_expiry() || self.log.read(offset_of(*word)).expiry().is_none_or(|at| at > now.0);
        let word = match found {
            Some(found) => found.word,
            None => dash.iter().map(|(_, word)| word).find(is_alive)?,
        };
        Some(self.log.read(offset_of(word)).key())
    }

    fn emit_unexpired(&self, word: Word, now: UnixMs, emit: &mut impl FnMut(&[u8], ValueType)) {
        let record = self.log.read(offset_of(word));
        if record.expiry().is_none_or(|at| at > now.0) {
            emit(record.key(), Form::of_tag(word.tag()).value_type());
        }
    }
}
