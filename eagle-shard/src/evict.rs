//! Eviction: keys leave before their time, so that others fit.
//!
//! Victims are found as in Redis (`evict.c`), by sampling: some keys are looked at, the coldest seen go into a pool of the
//! [`POOL_KEYS`] best candidates, and the best of the pool leaves. What Redis calls idle time, inverse frequency or earliest end is
//! the *coldness* of a candidate.
//!
//! Keys are sampled a bucket of the index at a time. Its words hold the heat of some twenty keys in four cache lines, and no record is
//! read; so for the price of Redis' five samples there are about four times as many. `maxmemory-samples` is how many are looked at
//! at least. Where only keys with an expiry may leave and blind samples meet none, the index's bounds of expiries lead to some.
//!
//! Before a candidate leaves it is looked at again: if it has moved, gone or been used since, it is dropped from the pool. An evicted
//! key leaves as an expired one does, with a tombstone where the log is replayed.

use smallvec::SmallVec;

use crate::{
    background::Aging,
    call::{DbId, UnixMs},
    dash::{Hashed, Place, SegmentId, Word},
    heat::Measure,
    keyspace::{Found, offset_of},
    shard::Shard,
};

/// Candidates kept (`EVPOOL_SIZE`).
const POOL_KEYS: usize = 16;

/// Buckets sampled for one with a key that may leave, before the bounds of expiries are asked.
const BLIND_SAMPLES_MAX: usize = 8;

/// Records read for their expiry a sample at most, above the number of samples that is configured.
const ENDS_READ_MAX: usize = 8;

/// Keys of a shard up to which all begin anew at once when heat tells something else.
const ANEW_AT_ONCE: usize = 1 << 14;

/// Which keys leave when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Only keys with an expiry.
    pub volatile: bool,
    /// Which of them first.
    pub order: Order,
}

/// Which keys leave first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least recently used.
    Recency,
    /// The least often used.
    Frequency,
    /// Any.
    Chance,
    /// Those that expire soonest; all must have an expiry.
    Expiry,
}

/// How room is made by eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Which keys leave; `None` for none (`noeviction`).
    pub policy: Option<Policy>,
    /// Keys looked at for one that leaves, at least; not 0.
    pub samples: usize,
    /// `lfu-log-factor`: the larger, the more uses a count stands for.
    pub log_factor: u32,
    /// `lfu-decay-time`: minutes after which a count loses one, 0 for never.
    pub decay_minutes: u32,
}

impl Default for Eviction {
    /// Redis' defaults.
    fn default() -> Self {
        Self { policy: None, samples: 5, log_factor: 10, decay_minutes: 1 }
    }
}

impl Eviction {
    fn measure(&self) -> Measure {
        match self.policy {
            Some(Policy { order: Order::Frequency, .. }) => {
                Measure::Frequency { log_factor: self.log_factor, decay_minutes: self.decay_minutes }
            }
            _ => Measure::Recency,
        }
    }
}

/// Keys of a bucket, or of a segment where few may leave.
type Sampled = SmallVec<[(Place, Word); 32]>;

/// A key that may leave.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    db: u8,
    place: Place,
    /// Where its record lay: tells whether it is still the same entry.
    offset: u64,
    coldness: u64,
}

/// What eviction works with.
#[derive(Default)]
pub(crate) struct Evictor {
    eviction: Eviction,
    measure: Measure,
    /// The coldest last.
    pool: Vec<Candidate>,
    /// Where keys with an expiry are looked for when samples meet none.
    from: (u8, SegmentId),
}

impl Evictor {
    /// What heat tells at present.
    #[inline]
    pub(crate) fn measure(&self) -> Measure {
        self.measure
    }

    fn offer(&mut self, candidate: Candidate) {
        let is_full = self.pool.len() == POOL_KEYS;
        if is_full && candidate.coldness <= self.pool[0].coldness
            || self.pool.iter().any(|known| known.offset == candidate.offset)
        {
            return;
        }
        if is_full {
            self.pool.remove(0);
        }
        let at = self.pool.partition_point(|known| known.coldness < candidate.coldness);
        self.pool.insert(at, candidate);
    }
}

impl Shard {
    /// Changes how room is made by eviction, from now on.
    pub fn set_eviction(&mut self, eviction: Eviction) {
        let measure = eviction.measure();
        let begins_anew = std::mem::discriminant(&measure) != std::mem::discriminant(&self.evictor.measure);
        if eviction != self.evictor.eviction {
            self.evictor = Evictor { eviction, measure, ..Evictor::default() };
        }
        if begins_anew {
            self.aging = Aging::anew();
            self.age_heat(self.now, ANEW_AT_ONCE);
        }
    }

    /// Whether some key may leave.
    pub(crate) fn has_evictable(&self) -> bool {
        if !self.evicts {
            return false;
        }
        match self.evictor.eviction.policy {
            None => false,
            Some(Policy { volatile: true, .. }) => self.databases.iter().any(|database| database.expires > 0),
            Some(Policy { volatile: false, .. }) => !self.is_empty(),
        }
    }

    /// Evicts a key. Returns false if none may leave, or there is no room for its tombstone.
    pub(crate) fn evict_one(&mut self) -> bool {
        let Some(policy) = self.evictor.eviction.policy else {
            return false;
        };
        if !self.has_evictable() {
            return false;
        }
        if policy.order == Order::Chance {
            let (db, place, word) = self.any_evictable(policy);
            return self.evict(DbId(db), Found { place, word });
        }
        loop {
            self.fill_pool(policy);
            while let Some(candidate) = self.evictor.pool.pop() {
                if let Some(found) = self.still_cold(policy, &candidate) {
                    return self.evict(DbId(candidate.db), found);
                }
            }
        }
    }

    /// Removes a key to make room.
    fn evict(&mut self, db: DbId, found: Found) -> bool {
        if self.log.reserve_privileged(self.log.delete_bytes(found.offset())).is_err() {
            return false;
        }
        let hashed = Hashed::of_key(self.config.seed, self.record(found).key());
        self.stats.evicted += 1;
        self.unlink(db, hashed, found);
        self.bury(found);
        true
    }

    /// The entry of a candidate, if it is still there and no warmer than it was.
    fn still_cold(&self, policy: Policy, candidate: &Candidate) -> Option<Found> {
        let dash = &self.databases[usize::from(candidate.db)].dash;
        let word = dash.word_if_there(candidate.place)?;
        let is_same = word.offset() == candidate.offset && (word.has_expiry() || !policy.volatile);
        let is_cold = is_same && self.coldness(policy.order, word) >= candidate.coldness;
        is_cold.then_some(Found { place: candidate.place, word })
    }

    /// How well the key of an entry can be done without.
    #[inline]
    fn coldness(&self, order: Order, word: Word) -> u64 {
        match order {
            Order::Expiry => {
                let expiry = self.log.read(offset_of(word)).expiry();
                UnixMs::MAX.0 - expiry.unwrap_or(UnixMs::MAX.0).min(UnixMs::MAX.0)
            }
            _ => self.evictor.measure.coldness(word.heat(), self.now),
        }
    }

    /// Offers the pool the keys of as many buckets as it takes to look at the configured number.
    fn fill_pool(&mut self, policy: Policy) {
        let samples = self.evictor.eviction.samples;
        let (mut seen, mut tries) = (0, 0);
        while seen < samples && tries < BLIND_SAMPLES_MAX + samples {
            tries += 1;
            let db = self.any_database(policy);
            let mut rng = self.rng.fork();
            let entries = self.databases[usize::from(db)].dash.sample(&mut rng);
            let found = candidates(entries, policy, samples);
            seen += self.offer_all(db, policy.order, &found);
        }
        if seen == 0 {
            let (db, found) = self.next_expiring(policy, samples);
            self.offer_all(db, policy.order, &found);
        }
    }

    fn offer_all(&mut self, db: u8, order: Order, found: &[(Place, Word)]) -> usize {
        if order == Order::Expiry {
            found.iter().for_each(|(_, word)| self.log.prefetch(offset_of(*word)));
        }
        // From any of them on: among equals the first in a bucket must not always be the one.
        let (behind, before) = found.split_at(self.rng.usize(..found.len().max(1)));
        for (place, word) in before.iter().chain(behind) {
            let coldness = self.coldness(order, *word);
            self.evictor.offer(Candidate { db, place: *place, offset: word.offset(), coldness });
        }
        found.len()
    }

    /// A key that may leave, by chance. There must be one.
    fn any_evictable(&mut self, policy: Policy) -> (u8, Place, Word) {
        for _ in 0..BLIND_SAMPLES_MAX {
            let db = self.any_database(policy);
            let dash = &self.databases[usize::from(db)].dash;
            let place = dash.random(&mut self.rng).expect("a database with keys");
            let word = dash.word(place);
            if word.has_expiry() || !policy.volatile {
                return (db, place, word);
            }
        }
        let (db, found) = self.next_expiring(policy, usize::MAX - ENDS_READ_MAX);
        let (place, word) = found[self.rng.usize(..found.len())];
        (db, place, word)
    }

    /// A database with keys that may leave, by chance and its number of them. There must be one.
    fn any_database(&mut self, policy: Policy) -> u8 {
        let count = |shard: &Self, db: usize| {
            let database = &shard.databases[db];
            if policy.volatile { database.expires } else { database.dash.len() }
        };
        let all: usize = (0..self.databases.len()).map(|db| count(self, db)).sum();
        let mut nth = self.rng.usize(..all);
        let chosen = (0..self.databases.len()).find(|db| {
            let keys = count(self, *db);
            let is_here = nth < keys;
            nth = nth.saturating_sub(keys);
            is_here
        });
        chosen.expect("as many keys as were counted") as u8
    }

    /// Keys with an expiry of the next segment that has some. There must be one.
    fn next_expiring(&mut self, policy: Policy, samples: usize) -> (u8, Sampled) {
        loop {
            let (db, from) = self.evictor.from;
            let Some(database) = self.databases.get(usize::from(db)) else {
                self.evictor.from = (0, SegmentId::FIRST);
                continue;
            };
            let next = if database.expires == 0 { None } else { database.dash.next_due(from, UnixMs::MAX.0) };
            let Some(segment) = next else {
                self.evictor.from = (db + 1, SegmentId::FIRST);
                continue;
            };
            self.evictor.from = (db, segment.after());
            let found = candidates(database.dash.entries(segment), policy, samples);
            if !found.is_empty() {
                return (db, found);
            }
        }
    }
}

/// Those of some entries that may leave: not more than are worth their records' reading, where that is needed.
fn candidates(entries: impl Iterator<Item = (Place, Word)>, policy: Policy, samples: usize) -> Sampled {
    let most = if policy.order == Order::Expiry { samples + ENDS_READ_MAX } else { usize::MAX };
    entries.filter(|(_, word)| word.has_expiry() || !policy.volatile).take(most).collect()
}

#[cfg(test)]
mod tests;
