//! A digest is 20 bytes that are the same for the same data, in whatever order it was written and however it lies: what
//! `DEBUG DIGEST` and `DEBUG DIGEST-VALUE` compare servers by.
//!
//! What has an order is mixed (the digest so far is hashed along), what has none is combined by exclusive or. As Redis
//! computes it (`src/debug.c: computeDatasetDigest`), so that a real Redis with the same keys shows the same digest. Keys
//! that have expired do not count.

use std::fmt;

use sha1_smol::Sha1;

use crate::{
    call::{DbId, UnixMs},
    keyspace::{Found, offset_of},
    shard::Shard,
    value::ValueType,
};

/// A digest of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds something whose place among the others means nothing.
    pub fn combine(&mut self, bytes: &[u8]) {
        self.merge(Self(Sha1::from(bytes).digest().bytes()));
    }

    /// Adds the digest of something that was combined elsewhere.
    pub fn merge(&mut self, other: Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own ^= other;
        }
    }

    /// Adds something that comes next.
    pub fn mix(&mut self, bytes: &[u8]) {
        self.combine(bytes);
        self.0 = Sha1::from(self.0).digest().bytes();
    }

    /// The digest of all databases from those of the ones that have keys, in the order of their numbers.
    #[must_use]
    pub fn of_databases(databases: impl IntoIterator<Item = (DbId, Self)>) -> Self {
        let mut all = Self::default();
        for (db, digest) in databases {
            all.mix(&u32::from(db.0).to_be_bytes());
            all.merge(digest);
        }
        all
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ValueType {
    /// Redis' number of the type.
    const fn number(self) -> u32 {
        match self {
            Self::String => 0,
            Self::Hash => 4,
        }
    }
}

impl Shard {
    /// The keys of a database, combined. Reads all of them.
    #[must_use]
    pub fn digest(&self, db: DbId, now: UnixMs) -> Digest {
        let mut all = Digest::default();
        for (place, word) in self.databases[usize::from(db.0)].dash.iter() {
            let record = self.log.read(offset_of(word));
            if record.expiry().is_some_and(|at| at <= now.0) {
                continue;
            }
            let mut digest = Digest::default();
            digest.mix(record.key());
            self.digest_value(Found { place, word }, &mut digest);
            all.combine(&digest.0);
        }
        all
    }

    /// The value of a key and whether it has an expiry.
    #[must_use]
    pub fn value_digest(&self, found: Found) -> Digest {
        let mut digest = Digest::default();
        self.digest_value(found, &mut digest);
        digest
    }

    fn digest_value(&self, found: Found, digest: &mut Digest) {
        digest.mix(&self.value_type(found).number().to_be_bytes());
        if let Ok(string) = self.string(found) {
            digest.mix(&string.to_vec());
        }
        if let Ok(hash) = self.hash(found) {
            hash.for_each(|(field, value)| {
                let mut pair = Digest::default();
                pair.mix(field);
                pair.mix(value);
                digest.combine(&pair.0);
            });
        }
        if self.expiry(found).is_some() {
            digest.combine(b"!!expire!!");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{shard::ShardConfig, value::Encoding};

    #[test]
    fn digests_are_those_of_redis() {
        // Recorded from redis-server 7.0.15: SET k hello, SET n 12, SET e x EX 1000 in database 0, SET k other in 3.
        let mut shard = Shard::new(ShardConfig::default()).unwrap();
        let now = UnixMs(1_700_000_000_000);
        let mut set = |db: u8, key: &[u8], value: &[u8], expiry: Option<UnixMs>| {
            let key = shard.key(key);
            shard.put_string(DbId(db), key, None, value, expiry, Encoding::Natural).unwrap();
        };
        set(0, b"k", b"hello", None);
        set(0, b"n", b"12", None);
        set(0, b"e", b"x", Some(UnixMs(now.0 + 1_000_000)));
        set(3, b"k", b"other", None);
        let digest = Digest::of_databases([0, 3].map(|db| (DbId(db), shard.digest(DbId(db), now))));
        assert_eq!(digest.to_string(), "fb8f0f67cdfcf9c257398bd6e9eda4183e0ca28f");
        let found = shard.find(DbId(0), shard.key(b"k"), now).unwrap();
        assert_eq!(shard.value_digest(found).to_string(), "36b23a1456b2dce2c3ed252c456761301dba8060");
        let late = UnixMs(now.0 + 2_000_000);
        assert_ne!(shard.digest(DbId(0), now), shard.digest(DbId(0), late), "what has expired does not count");
    }
}
