//! A shard: one core's keys, with the log that their records lie in and the index of each database.
//!
//! [`Shard::execute`] is the one way in for commands; the runtime calls [`Shard::commit`] once a batch and
//! [`Shard::background`] when it has time. What handlers use (`find`, `put_string`, `remove`, ...) is in [`crate::keyspace`],
//! [`crate::value`] and their neighbours.
//!
//! What always holds between commands: every entry of every index points at a living record of its key, and every living
//! record is pointed at: by an entry, by a collection, by a large string, by the table of patches, or by what was flushed and is not yet swept. The log's count of
//! live bytes says the same in bytes, which [`Shard::check`] verifies.

use std::collections::HashMap;

use eagle_pmem::{
    CheckError, CollectionId, Commit, Kind, Log, MapMode, PoolError, PoolOffset, Position, RecoveryReport,
};

use crate::{
    background::Aging,
    call::{Call, DbId, Key, UnixMs},
    carry::Arrival,
    checkpoint::Taking,
    compact::Compactor,
    dash::{Hashed, Located},
    error::Error,
    evict::Evictor,
    expire::Sweeper,
    flush::Flushed,
    keyspace::{Database, offset_of},
    limit::Limit,
    replay::{Replay, log_config},
    scrub::Scrub,
    spec::Run,
    value::{
        Form, PackedLimits, collection_of,
        elements::Collections,
        is_collection_head,
        large::LargeStrings,
        packed::Packing,
        patch::{Patches, Patching},
    },
};

/// What a shard is to be.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number, below `count`.
    pub index: u16,
    /// How many shards the node has.
    pub count: u16,
    /// Seed of the hashes of keys, the same for all shards of a node.
    pub seed: u64,
    /// How many databases clients may select, 1 to 255.
    pub databases: u8,
    /// Size of an extent of the log in bytes: a power of two, 256 KiB at least.
    pub extent_size: usize,
    /// The most memory that records may take, in bytes.
    pub capacity_max: u64,
    /// Whether records may be overwritten in place and deletes leave no trace: only for a pool that nothing is ever
    /// recovered from.
    pub in_place: bool,
    /// The longest string, in bytes (`proto-max-bulk-len`).
    pub string_len_max: usize,
    /// Whether the log may lie in transparent huge pages. A record taken at random out of 100 MB costs less there, but
    /// the first touch of a page keeps the core busy for 0.1 ms, and for up to 8 ms on a virtual machine whose host has to
    /// find the memory.
    pub huge_pages: bool,
    /// Bytes that a pool's file grows by, at least.
    pub growth_bytes_min: u64,
    /// How large a hash may be that is packed.
    pub packed_hash: PackedLimits,
    /// Distinguishes the pool's bytes from any other's.
    pub pool_id: u64,
    /// How the pool's file is mapped, where there is one.
    pub map: MapMode,
}

impl Default for ShardConfig {
    /// The only shard of a node, volatile, with up to 64 GiB of records and the limits of Redis.
    fn default() -> Self {
        Self {
            index: 0,
            count: 1,
            seed: 0,
            databases: 16,
            extent_size: 8 << 20,
            capacity_max: 64 << 30,
            in_place: true,
            string_len_max: 512 << 20,
            huge_pages: false,
            growth_bytes_min: eagle_pmem::GROWTH_BYTES_MIN,
            packed_hash: PackedLimits::HASH,
            pool_id: 1,
            map: MapMode::Auto,
        }
    }
}

/// What a shard has counted since it was made (or since `CONFIG RESETSTAT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands executed.
    pub commands: u64,
    /// Lookups for reading that found a key.
    pub hits: u64,
    /// Lookups for reading that found none.
    pub misses: u64,
    /// Keys removed because their time had come.
    pub expired: u64,
    /// Keys removed to make room.
    pub evicted: u64,
    /// Records that compaction moved.
    pub moved: u64,
    /// Bytes that compaction moved.
    pub moved_bytes: u64,
    /// Patches of packed collections that were written.
    pub patches: u64,
    /// Packed collections that were written whole in place of base and patch.
    pub folded: u64,
}

/// How much a shard holds and what it takes; asking costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardUsage {
    /// Keys in all databases.
    pub keys: usize,
    /// Keys with an expiry in all databases.
    pub expires: usize,
    /// Memory of the index in bytes.
    pub index_bytes: usize,
    /// Memory of structures beside index and log (collections' tables of elements, large strings' tables of chunks, the table of patches) in bytes.
    pub other_bytes: usize,
    /// All that counts towards the limit on memory, in bytes ([`Shard::memory`]).
    pub memory: u64,
    /// Extents in use, in bytes.
    pub log_bytes: u64,
    /// Free extents that keep their pages to be used again, in bytes.
    pub log_free_bytes: u64,
    /// Living records, in bytes.
    pub log_live_bytes: u64,
    /// Dead records, in bytes.
    pub log_dead_bytes: u64,
    /// The limit on `log_bytes`.
    pub log_bytes_max: u64,
}

/// How a command is carried out, beside what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Keys count as used: not those that a client with `CLIENT NO-TOUCH` names.
    pub touches: bool,
    /// Expired keys that it comes across are removed: not by a reader while writes are paused. They are not shown either
    /// way. A command that writes must remove.
    pub removes: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { touches: true, removes: true }
    }
}

/// One core's keys.
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) log: Log,
    pub(crate) databases: Vec<Database>,
    pub(crate) large: LargeStrings,
    pub(crate) collections: Collections,
    pub(crate) patches: Patches,
    /// Large collections that come from other shards and are not yet whole.
    pub(crate) arrivals: Vec<Arrival>,
    /// Ids of collections, large strings and bases of patches that were given out.
    pub(crate) ids_used: u64,
    /// Where packed collections are changed; kept for its memory.
    pub(crate) packing: Packing,
    pub(crate) patching: Patching,
    pub(crate) flushed: Flushed,
    pub(crate) compactor: Compactor,
    pub(crate) sweeper: Sweeper,
    pub(crate) aging: Aging,
    pub(crate) limit: Limit,
    pub(crate) evictor: Evictor,
    /// The record of the last swap of databases, where the log is replayed.
    pub(crate) swap_mark: Option<PoolOffset>,
    /// The time of the last command or background slice.
    pub(crate) now: UnixMs,
    /// Chance for `RANDOMKEY` and its kin, from the seed of the configuration.
    pub(crate) rng: fastrand::Rng,
    error_line: String,
    /// A recovery under way, and what the last one found.
    pub(crate) replay: Option<Box<Replay>>,
    pub(crate) recovery: RecoveryReport,
    /// Keys of which parts were damaged and that were dropped; and their records that still count as alive.
    pub(crate) keys_lost: u64,
    /// Whether it began with a checkpoint.
    pub(crate) took_checkpoint: bool,
    /// A checkpoint that is taken, and how many were begun.
    pub(crate) taking: Option<Box<Taking>>,
    pub(crate) checkpoints: u32,
    /// Whether one is wanted as soon as it can be begun.
    pub(crate) wants_checkpoint: bool,
    pub(crate) lost_heads: Vec<PoolOffset>,
    pub(crate) scrub: Scrub,
    /// How the next command is carried out.
    pub manner: Manner,
    /// Whether expired keys leave without being asked for.
    pub sweeps: bool,
    /// Whether keys may be evicted.
    pub evicts: bool,
    /// Counters; the owner may reset them.
    pub stats: Stats,
}

impl Shard {
    /// An empty shard.
    ///
    /// # Errors
    /// The log cannot be made: extent size or capacity are impossible, or the system refuses the addresses.
    pub fn new(config: ShardConfig) -> Result<Self, PoolError> {
        let log = Log::anonymous(log_config(&config))?;
        Ok(Self::over(config, log))
    }

    /// A shard without keys over a log.
    pub(crate) fn over(config: ShardConfig, log: Log) -> Self {
        let databases = (0..config.databases).map(|number| Database::new(u16::from(number))).collect();
        let rng = fastrand::Rng::with_seed(config.seed ^ u64::from(config.index));
        Self {
            log,
            databases,
            large: LargeStrings::default(),
            collections: Collections::default(),
            patches: Patches::new(config.seed),
            arrivals: Vec::new(),
            ids_used: 0,
            packing: Packing::default(),
            patching: Patching::default(),
            flushed: Flushed::default(),
            compactor: Compactor::default(),
            sweeper: Sweeper::default(),
            aging: Aging::default(),
            limit: Limit::default(),
            evictor: Evictor::default(),
            swap_mark: None,
            now: UnixMs(0),
            rng,
            error_line: String::new(),
            manner: Manner::default(),
            sweeps: true,
            evicts: true,
            stats: Stats::default(),
            replay: None,
            recovery: RecoveryReport::default(),
            keys_lost: 0,
            took_checkpoint: false,
            taking: None,
            checkpoints: 0,
            wants_checkpoint: false,
            lost_heads: Vec::new(),
            scrub: Scrub::default(),
            config,
        }
    }

    /// A key with its slot and hash under the shard's seed.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hashed: hash_key(self.config.seed, bytes) }
    }

    /// What the shard was made with.
    #[must_use]
    pub fn config(&self) -> &ShardConfig {
        &self.config
    }

    /// Executes a command that a shard runs: writes exactly one reply, which is the error's line if it fails.
    ///
    /// # Panics
    /// If the command's row says that the node runs it, or its handler fails after it began a reply.
    #[inline]
    pub fn execute(&mut self, call: &mut Call<'_>) {
        let Run::Shard(run) = call.spec.run else { panic!("{} is no command of a shard", call.spec.name) };
        self.now = call.now;
        self.stats.commands += 1;
        let begin = call.reply.out.len();
        let done = match self.prepare(call) {
            Ok(()) => run(self, call),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            assert_eq!(call.reply.out.len(), begin, "{} failed after it began its reply", call.spec.name);
            self.error_line.clear();
            error.write(&mut self.error_line);
            call.reply.error_line(&self.error_line);
        }
    }

    /// Makes room for what the command may append, before it changes anything.
    #[inline]
    fn prepare(&mut self, call: &Call<'_>) -> Result<(), Error> {
        if call.spec.writes() || !self.config.in_place {
            return self.make_room_for(call);
        }
        Ok(())
    }

    /// First stage of a lookup ahead of time: finds the key's bucket and asks for its fingerprints. Nothing is changed;
    /// some tens of nanoseconds should lie between the stages.
    #[inline]
    pub fn prefetch_bucket(&self, db: DbId, hashed: Hashed) -> Located {
        self.databases[usize::from(db.0)].dash.locate(hashed)
    }

    /// Second stage: asks for the entries whose fingerprints match.
    #[inline]
    pub fn prefetch_words(&self, db: DbId, at: Located) {
        self.databases[usize::from(db.0)].dash.prefetch_words(at);
    }

    /// Third stage: asks for the record that is most likely the key's.
    #[inline]
    pub fn prefetch_record(&self, db: DbId, at: Located) {
        if let Some(word) = self.databases[usize::from(db.0)].dash.candidate(at) {
            self.log.prefetch(offset_of(word));
        }
    }

    /// Ends a batch: what is to be made durable, and the position that replies to it wait for.
    pub fn commit(&mut self) -> Commit<'_> {
        self.measure_room();
        self.hint_size();
        self.log.commit()
    }

    /// How far the log has come, changes not yet committed included.
    #[inline]
    pub fn position(&self) -> Position {
        self.log.position()
    }

    /// Up to where the next commit comes ([`Log::committable`]).
    #[inline]
    #[must_use]
    pub fn committable(&self) -> Position {
        self.log.committable()
    }

    /// How much the shard holds and what it takes.
    #[must_use]
    pub fn usage(&self) -> ShardUsage {
        let log = self.log.usage();
        let sum = |of: fn(&Database) -> usize| self.databases.iter().map(of).sum::<usize>();
        ShardUsage {
            keys: sum(|database| database.dash.len()),
            expires: sum(|database| database.expires),
            index_bytes: self.index_bytes(),
            other_bytes: self.other_bytes(),
            memory: self.memory(),
            log_bytes: log.bytes,
            log_free_bytes: log.extents_free_resident as u64 * self.config.extent_size as u64,
            log_live_bytes: log.bytes_live,
            log_dead_bytes: log.bytes_dead,
            log_bytes_max: log.bytes_max,
        }
    }

    /// Gives memory that is not needed back to the system, by and by: also of the free extents that are kept for the next use.
    pub fn purge(&mut self) {
        self.log.purge();
    }

    /// Memory of a database's index in bytes.
    #[must_use]
    pub fn index_bytes_of(&self, db: DbId) -> usize {
        self.databases[usize::from(db.0)].dash.bytes()
    }

    /// Memory of the index in bytes, of what was flushed too.
    pub(crate) fn index_bytes(&self) -> usize {
        self.databases.iter().map(|database| database.dash.bytes()).sum::<usize>() + self.flushed.bytes()
    }

    /// Memory of structures beside index and log in bytes.
    pub(crate) fn other_bytes(&self) -> usize {
        self.large.bytes() + self.collections.bytes() + self.patches.bytes()
    }

    /// Changes the limit on the memory of records, in bytes, within the capacity that the shard was made with.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.log.set_limit(bytes);
    }

    /// Changes how long a string may become, in bytes; longer ones stay.
    pub fn set_string_len_max(&mut self, bytes: usize) {
        self.config.string_len_max = bytes;
    }

    /// Changes how large a hash may be that is packed; those that are stay so until they are changed.
    pub fn set_packed_hash(&mut self, limits: PackedLimits) {
        self.config.packed_hash = limits;
    }

    /// An id that was never used, for a collection, a large string or a base of patches.
    pub(crate) fn new_id(&mut self) -> CollectionId {
        self.ids_used += 1;
        CollectionId::from_raw(self.ids_used)
    }

    /// Reads everything and compares it with all accounts: for tests and the scrub.
    ///
    /// # Errors
    /// The first thing wrong with the log.
    ///
    /// # Panics
    /// If two entries point at one record, or an entry at another key's; if a large collection has no head or no elements.
    pub fn check(&self) -> Result<(), CheckError> {
        let mut alive = HashMap::new();
        let mut add = |offset: PoolOffset, what: &'static str| {
            let before = alive.insert(offset, what);
            assert_eq!(before, None, "two owners of one record, the second a {what}");
        };
        let (mut heads, mut patched) = (0, 0);
        for database in &self.databases {
            let mut expires = 0;
            for (place, word) in database.dash.iter() {
                let record = self.log.read(offset_of(word));
                let key = self.key(record.key());
                let found = database.dash.find(key.hashed, |other| other == database.dash.word(place));
                assert_eq!(found, Some(place), "an entry is found by its record's key");
                assert_eq!((record.db(), record.expiry().is_some()), (database.space, word.has_expiry()));
                expires += usize::from(word.has_expiry());
                if is_collection_head(record) {
                    let id = record.id().expect("a head carries an id");
                    assert!(self.collections.get(id).len() > 0, "an empty collection is none");
                    heads += 1;
                } else if word.tag() == Form::LargeString.tag() {
                    assert!(self.config.in_place || self.large.is_whole(record), "a string is of its chunks");
                }
                if record.kind() == Kind::Packed && self.patches.get(&self.log, record).is_some() {
                    assert!(self.patches.fit(&self.log, record, 2), "a patch is of its base");
                    patched += 1;
                }
                add(offset_of(word), "key");
            }
            assert_eq!(expires, database.expires, "keys with expiry are counted");
            database.flush_mark.into_iter().for_each(|offset| add(offset, "flush mark"));
        }
        self.swap_mark.into_iter().for_each(|offset| add(offset, "swap mark"));
        self.lost_heads().for_each(|offset| add(offset, "head of a lost key"));
        self.large.chunks().for_each(|offset| add(offset, "chunk"));
        self.collections.offsets(&self.log).into_iter().for_each(|offset| add(offset, "element"));
        self.patches.offsets().for_each(|offset| add(offset, "patch"));
        self.flushed.offsets().for_each(|offset| {
            let record = self.log.read(offset);
            // Of a head that a checkpoint had as dead the elements are dead already.
            heads += usize::from(collection_of(record).is_some_and(|id| self.collections.find(id).is_some()));
            let is_base = record.kind() == Kind::Packed && self.patches.get(&self.log, record).is_some();
            patched += usize::from(is_base);
            add(offset, "flushed record");
        });
        let collections = heads + self.arrivals.len();
        assert_eq!(collections, self.collections.len(), "each collection has one head or is still to get it");
        assert_eq!(patched, self.patches.len(), "each patch has one base");
        self.tombstones().for_each(|offset| add(offset, "tombstone"));
        self.log.check(|offset| alive.contains_key(&offset))
    }
}

/// Hashes a key under a node's seed, as its shards and its router both need it.
#[inline]
#[must_use]
pub fn hash_key(seed: u64, bytes: &[u8]) -> Hashed {
    Hashed::of_key(seed, bytes)
}
