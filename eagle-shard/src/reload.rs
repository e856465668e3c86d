//! Reloading is building the index anew from the records of the log: `DEBUG RELOAD`.
//!
//! Each living record is read and entered as if the shard had just been opened: key, hash, form and expiry come from the
//! record, nothing but which records live and how lately they were used is taken from the index before. So it shows that
//! the log has all that a restart needs. It takes as long as reading every key does.

use crate::{
    background::Aging,
    call::DbId,
    dash::{Dash, KeyHash},
    expire::Sweeper,
    keyspace::offset_of,
    shard::{Shard, hash_key},
};

impl Shard {
    /// Builds the index of each database, the table of each large collection and that of patches anew.
    ///
    /// # Panics
    /// If a record and its entry disagree: the log or the index was broken.
    pub fn reload(&mut self) {
        self.give_up_checkpoint();
        for db in 0..self.databases.len() {
            self.reload_database(DbId(u8::try_from(db).expect("at most 255 databases")));
        }
        self.collections.reload(&self.log);
        self.patches.reload(&self.log);
        self.aging = Aging::default();
        self.sweeper = Sweeper::default();
    }

    fn reload_database(&mut self, db: DbId) {
        let (log, seed) = (&self.log, self.config.seed);
        let database = &mut self.databases[usize::from(db.0)];
        let before: Dash = database.dash.clear();
        let mut expires = 0;
        for (_, word) in before.iter() {
            let record = log.read(offset_of(word));
            assert_eq!(record.db(), database.space, "a record is of its database");
            let rehash = |word| KeyHash::of(seed, log.read(offset_of(word)).key());
            let expiry = record.expiry();
            let entry = word.with_expiry(expiry.is_some());
            let place = database.dash.insert(hash_key(seed, record.key()), entry, rehash);
            if let Some(at) = expiry {
                expires += 1;
                database.dash.note_expiry(place, at);
            }
        }
        assert_eq!(expires, database.expires, "as many keys expire as before");
        assert_eq!(database.dash.len(), before.len(), "as many keys as before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::UnixMs, shard::ShardConfig, value::Encoding};

    #[test]
    fn everything_is_there_after_a_reload() {
        // Strings small and large, with expiry and without, in two databases: found, counted, expired in time.
        let mut shard = Shard::new(ShardConfig { extent_size: 1 << 18, ..ShardConfig::default() }).unwrap();
        let now = UnixMs(1_700_000_000_000);
        let large = vec![7; 300_000];
        for number in 0..5_000u32 {
            let (name, db) = (format!("key{number}"), DbId((number % 2) as u8));
            let value = if number % 1000 == 0 { &large[..] } else { name.as_bytes() };
            let expiry = (number % 3 == 0).then_some(UnixMs(now.0 + 1000));
            let key = shard.key(name.as_bytes());
            shard.put_string(db, key, None, value, expiry, Encoding::Natural).unwrap();
        }
        let before = [0, 1].map(|db| shard.digest(DbId(db), now));
        let usage = shard.usage();
        shard.reload();
        shard.check().unwrap();
        assert_eq!(before, [0, 1].map(|db| shard.digest(DbId(db), now)));
        assert_eq!((usage.keys, usage.expires), (shard.usage().keys, shard.usage().expires));
        let found = shard.find(DbId(0), shard.key(b"key2000"), now).unwrap();
        assert_eq!(shard.string(found).unwrap().to_vec(), large);
        assert!(shard.find(DbId(1), shard.key(b"key3"), UnixMs(now.0 + 1001)).is_none());
        shard.check().unwrap();
    }
}
