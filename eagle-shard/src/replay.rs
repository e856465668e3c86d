//! Replay: the index built from the records of a pool that was just opened, a slice at a time.
//!
//! The log hands out its records ([`eagle_pmem::Scan`]); of each key, element and chunk the newest counts. A tombstone is entered as
//! if it were the key's value, under a tag of its own, so that what it killed cannot come back whatever the order; in the end such
//! entries go. Then what has no owner is dead: keys older than the last flush of their database, elements and chunks
//! without a head, patches without a base.
//!
//! Until the last slice the shard holds nothing that may be shown; after it everything is as it was when the last whole
//! commit was written.
//!
//! From: storage.md, "Opening" and "Record".

mod headless;
mod meet;

use std::{collections::HashMap, io};

use eagle_pmem::{
    Checkpoint, CollectionId, Log, LogConfig, Persistence, PoolError, PoolFile, PoolOffset, RecoveryReport, Scan,
};

use crate::{
    call::UnixMs,
    checkpoint::Taken,
    dash::{Dash, Hashed, KeyHash, Located, Word},
    keyspace::{Database, offset_of},
    shard::{Shard, ShardConfig},
};
use meet::meet;

/// The tag of an entry that is a tombstone: no form's.
const TOMBSTONE: u8 = 7;

/// Bits of the log's hint that count keys; those above name the space.
const HINT_KEYS_BITS: u32 = 48;
const HINT_KEYS_MAX: u64 = (1 << HINT_KEYS_BITS) - 1;

/// Records that are looked up together.
const BATCH: usize = 32;

/// How far a recovery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Bytes of extents that were read.
    pub bytes_done: u64,
    /// Bytes of extents that are to be read.
    pub bytes_total: u64,
}

/// A recovery under way.
pub(crate) struct Replay {
    scan: Scan,
    /// The last flush of each space: its record and version.
    flushed: HashMap<u16, (PoolOffset, u64)>,
    /// The last swap of databases: its record and version.
    swapped: Option<(PoolOffset, u64)>,
    tombstones: Vec<Buried>,
    /// Whether a head of a collection or of a large string was met.
    has_heads: bool,
    /// Whether damage is accepted: what is damaged is left out.
    accept_damage: bool,
}

/// An entry that is a tombstone.
struct Buried {
    owner: Owner,
    hashed: Hashed,
    offset: PoolOffset,
}

/// Whose entry a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The database at this place.
    Database(usize),
    Collection(CollectionId),
    /// A large string: the chunk of this number.
    LargeString(CollectionId, usize),
    /// The patch of the base of this id.
    Patches(CollectionId),
    Flush(u16),
    Swap,
}

/// A record that was handed out, and what is known of it.
#[derive(Clone, Copy)]
struct Met {
    offset: PoolOffset,
    version: u64,
    owner: Owner,
    hashed: Option<Hashed>,
    located: Option<Located>,
    tag: u8,
    /// Something beside its record belongs to it.
    is_head: bool,
    expiry: Option<u64>,
}

/// Why a pool cannot be used.
#[derive(Debug)]
pub enum ReplayError {
    /// What was durable is damaged, and that was not to be accepted.
    Damaged(Box<RecoveryReport>),
    /// The pool has keys in a database that is not configured.
    Database {
        /// Its number.
        number: u16,
        /// How many there are.
        databases: u8,
    },
    /// A record says what no shard would have written.
    Record {
        /// Where in the pool it lies, in bytes.
        byte: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What is damaged was to be accepted, and cannot be copied to where it is kept.
    Quarantine(io::Error),
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(report) => {
                let first = report.damage.first().map(ToString::to_string).unwrap_or_default();
                write!(f, "{} damaged places, the first {first}", report.damage.len())
            }
            Self::Database { number, databases } => {
                write!(f, "it has keys in database {number}, and only {databases} are configured (databases)")
            }
            Self::Quarantine(error) => write!(f, "what is damaged cannot be copied to a file beside it: {error}"),
            Self::Record { byte, what } => write!(f, "the record at byte {byte:#x} has {what}"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Quarantine(error) => Some(error),
            _ => None,
        }
    }
}

impl Shard {
    /// A shard over a pool's file, and the newest checkpoint of it if there is one. A new pool is empty; else the shard is loading
    /// until [`Shard::loading`] is `None`. Seed of hashes and pool id are those of the file.
    ///
    /// # Errors
    /// The log cannot be made: the capacity is impossible, or the system refuses the addresses.
    pub fn with_pool(
        config: &ShardConfig,
        pool: PoolFile,
        checkpoint: Option<&Checkpoint>,
        accept_damage: bool,
    ) -> Result<Self, PoolError> {
        let superblock = *pool.superblock();
        let config = ShardConfig {
            seed: superblock.hash_seed,
            pool_id: superblock.pool_id,
            extent_size: superblock.extent_bytes,
            in_place: false,
            ..config.clone()
        };
        let (state, taken) =
            checkpoint.and_then(|checkpoint| Taken::read(checkpoint, config.seed, config.databases.into())).unzip();
        let (log, scan) = Log::of_file(pool, log_config(&config), state.as_ref())?;
        Ok(Self::loading_from(config, log, scan, taken, accept_damage))
    }

    /// A shard over the bytes that a pool's file would hold, loading.
    ///
    /// # Errors
    /// As [`Shard::with_pool`].
    pub fn with_image(
        config: &ShardConfig,
        image: &[u8],
        checkpoint: Option<&Checkpoint>,
        accept_damage: bool,
    ) -> Result<Self, PoolError> {
        let config = ShardConfig { in_place: false, ..config.clone() };
        let (state, taken) =
            checkpoint.and_then(|checkpoint| Taken::read(checkpoint, config.seed, config.databases.into())).unzip();
        let (log, scan) = Log::of_image(image, log_config(&config), state.as_ref())?;
        Ok(Self::loading_from(config, log, scan, taken, accept_damage))
    }

    /// The same, where the bytes lie in simulated memory that is its own medium.
    ///
    /// # Errors
    /// As [`Shard::with_pool`].
    pub fn with_simulated(
        config: &ShardConfig,
        image: &[u8],
        medium: Box<dyn Persistence>,
        checkpoint: Option<&Checkpoint>,
        accept_damage: bool,
    ) -> Result<Self, PoolError> {
        let config = ShardConfig { in_place: false, ..config.clone() };
        let (state, taken) =
            checkpoint.and_then(|checkpoint| Taken::read(checkpoint, config.seed, config.databases.into())).unzip();
        let (log, scan) = Log::of_simulated(image, log_config(&config), state.as_ref(), medium)?;
        Ok(Self::loading_from(config, log, scan, taken, accept_damage))
    }

    fn loading_from(config: ShardConfig, log: Log, scan: Scan, taken: Option<Taken>, accept_damage: bool) -> Self {
        let mut shard = Self::over(config, log);
        match taken {
            Some(taken) => shard.take_checkpoint(taken, scan.stale()),
            None => shard.reserve_as_hinted(scan.hint()),
        }
        let marks = shard.databases.iter().filter_map(|database| Some((database.space, (database.flush_mark?, 0))));
        let (flushed, tombstones) = (marks.collect(), Vec::new());
        let swapped = shard.swap_mark.map(|mark| (mark, 0));
        shard.replay = Some(Box::new(Replay { scan, flushed, swapped, tombstones, has_heads: false, accept_damage }));
        shard
    }

    /// Lets the log say how many keys the largest database has, so that its index need not grow while it is built anew.
    #[inline]
    pub(crate) fn hint_size(&mut self) {
        if self.config.in_place {
            return;
        }
        let keys = |database: &Database| database.dash.len() as u64;
        if let Some(largest) = self.databases.iter().max_by_key(|database| keys(database)) {
            self.log.set_hint(keys(largest).min(HINT_KEYS_MAX) | u64::from(largest.space) << HINT_KEYS_BITS);
        }
    }

    fn reserve_as_hinted(&mut self, hint: u64) {
        // No more than there can be: a record takes 16 bytes at least.
        let keys = (hint & HINT_KEYS_MAX).min(self.log.medium_bytes() / 16);
        if let Some(database) = self.databases.get_mut((hint >> HINT_KEYS_BITS) as usize) {
            database.dash.reserve(keys as usize);
        }
    }

    /// How far a recovery has come; `None` when it is over and what it had to write is durable.
    #[must_use]
    pub fn loading(&self) -> Option<Loading> {
        if let Some(replay) = &self.replay {
            let (bytes_done, bytes_total) = replay.scan.progress();
            return Some(Loading { bytes_done, bytes_total });
        }
        let total = self.recovery.bytes;
        (!self.log.is_settled()).then_some(Loading { bytes_done: total, bytes_total: total })
    }

    /// What the last recovery found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Goes on with a recovery by about `records` records. When it is over, commits and syncs are due until
    /// [`Shard::loading`] is `None`.
    ///
    /// # Errors
    /// The pool cannot be used. Nothing of it was changed.
    pub fn load(&mut self, now: UnixMs, records: usize) -> Result<(), ReplayError> {
        self.now = now;
        let Some(mut replay) = self.replay.take() else {
            return Ok(());
        };
        let mut left = records;
        loop {
            let count = self.replay_batch(&mut replay)?;
            if count < BATCH {
                return self.end_replay(*replay);
            }
            left = left.saturating_sub(count);
            if left == 0 {
                self.replay = Some(replay);
                return Ok(());
            }
        }
    }

    /// Enters the next records; fewer than [`BATCH`] were the last.
    fn replay_batch(&mut self, replay: &mut Replay) -> Result<usize, ReplayError> {
        let mut batch = [None; BATCH];
        let mut count = 0;
        while count < BATCH {
            let Some(found) = self.log.scan_next(&mut replay.scan) else { break };
            let met = meet(&found, self.config.seed, self.databases.len())?;
            if let (Owner::Database(db), Some(hashed)) = (met.owner, met.hashed) {
                self.databases[db].dash.prefetch_segment(hashed);
            }
            batch[count] = Some(met);
            count += 1;
        }
        for met in batch.iter_mut().flatten() {
            if let (Owner::Database(db), Some(hashed)) = (met.owner, met.hashed) {
                met.located = Some(self.databases[db].dash.locate(hashed));
            }
        }
        for met in batch.iter().flatten() {
            if let (Owner::Database(db), Some(at)) = (met.owner, met.located) {
                self.databases[db].dash.prefetch_place(at);
            }
        }
        for met in batch.iter().flatten() {
            if let (Owner::Database(db), Some(at)) = (met.owner, met.located)
                && let Some(word) = self.databases[db].dash.candidate(at)
            {
                self.log.prefetch(offset_of(word));
            }
        }
        for met in batch.iter().flatten() {
            self.enter(met, replay);
        }
        Ok(count)
    }

    fn enter(&mut self, met: &Met, replay: &mut Replay) {
        match met.owner {
            Owner::Database(db) => {
                let heat = self.evictor.measure().fresh(self.now);
                let database = &mut self.databases[db];
                replay.has_heads |= met.is_head;
                let entry = Entry { dash: &mut database.dash, log: &mut self.log, seed: self.config.seed, heat };
                let (before, after) = entry.enter(met, replay);
                database.expires = database.expires + usize::from(after) - usize::from(before);
            }
            Owner::Collection(id) => {
                let (log, seed) = (&mut self.log, self.config.seed);
                self.collections.change_or_add(id, seed, |elements| {
                    let hashed = elements.hashed(log.read(met.offset).key());
                    let (dash, seed) = elements.table();
                    let _ = Entry { dash, log, seed, heat: 0 }.enter(&Met { hashed: Some(hashed), ..*met }, replay);
                });
            }
            Owner::LargeString(id, index) => self.enter_chunk(id, index, met, replay),
            Owner::Patches(id) => self.enter_patch(id, met, replay),
            Owner::Flush(space) => {
                let before = replay.flushed.get(&space).copied();
                if enter_mark(&mut self.log, met, before) {
                    replay.flushed.insert(space, (met.offset, met.version));
                }
            }
            Owner::Swap => {
                if enter_mark(&mut self.log, met, replay.swapped) {
                    replay.swapped = Some((met.offset, met.version));
                }
            }
        }
    }

    fn enter_chunk(&mut self, id: CollectionId, index: usize, met: &Met, replay: &mut Replay) {
        let before = self.large.replayed(id, index);
        let is_newer = before.is_none_or(|old| self.log.is_newer(&mut replay.scan, met.version, old));
        if !is_newer {
            return self.log.found_dead(met.offset);
        }
        if let Some(old) = before {
            self.log.found_superseded(old);
        }
        self.log.found_live(met.offset, met.version);
        self.large.replayed_chunk(id, index, met.offset, self.log.read(met.offset).value());
    }

    fn enter_patch(&mut self, id: CollectionId, met: &Met, replay: &mut Replay) {
        let before = self.patches.offset(&self.log, id);
        let is_newer = before.is_none_or(|old| self.log.is_newer(&mut replay.scan, met.version, old));
        if !is_newer {
            return self.log.found_dead(met.offset);
        }
        if let Some(old) = before {
            self.log.found_superseded(old);
        }
        self.log.found_live(met.offset, met.version);
        self.patches.set(&self.log, id, met.offset);
    }

    fn end_replay(&mut self, mut replay: Replay) -> Result<(), ReplayError> {
        if !replay.accept_damage && !replay.scan.report().damage.is_empty() {
            return Err(ReplayError::Damaged(Box::new(replay.scan.report().clone())));
        }
        self.apply_flushes(&mut replay);
        self.unbury(&replay.tombstones);
        self.apply_swap(&replay)?;
        // Without them there is nothing to go through all keys for.
        let has_large = replay.has_heads || self.collections.len() > 0 || !self.large.is_empty();
        let has_parts = has_large || self.patches.len() > 0;
        let report = replay.scan.report();
        // What a checkpoint had as dead may have left behind what is beside it.
        let is_newer = report.records > 0 || !replay.scan.stale().is_empty() || !self.flushed.is_empty();
        if has_parts && is_newer || !report.damage.is_empty() {
            self.drop_headless(&mut replay)?;
        }
        let damage = &replay.scan.report().damage;
        let quarantine = if damage.is_empty() { Ok(None) } else { self.log.quarantine(damage, self.now.0 / 1000) };
        let quarantine = quarantine.map_err(ReplayError::Quarantine)?;
        let (report, id_max) = self.log.end_scan(replay.scan);
        self.ids_used = self.ids_used.max(id_max);
        self.recovery = RecoveryReport { quarantine, ..report };
        Ok(())
    }

    /// Keys that were older than the last flush of their database are dead.
    fn apply_flushes(&mut self, replay: &mut Replay) {
        for (space, (mark, version)) in std::mem::take(&mut replay.flushed) {
            let Some(db) = self.database_index(space) else { continue };
            let (log, seed, scan) = (&mut self.log, self.config.seed, &mut replay.scan);
            let database = &mut self.databases[db];
            database.flush_mark = Some(mark);
            if version == 0 {
                // A checkpoint's: what it killed is not in the index.
                continue;
            }
            let is_dead = |word: &Word| log.is_newer(scan, version, offset_of(*word));
            let dead: Vec<Word> = database.dash.iter().map(|(_, word)| word).filter(is_dead).collect();
            for word in dead {
                let hashed = Hashed::of_key(seed, log.read(offset_of(word)).key());
                remove_if(&mut database.dash, hashed, |other| other.offset() == word.offset());
                database.expires -= usize::from(word.has_expiry());
                if word.tag() != TOMBSTONE {
                    log.found_superseded(offset_of(word));
                }
            }
        }
    }

    /// Takes the entries that are tombstones out.
    fn unbury(&mut self, tombstones: &[Buried]) {
        for Buried { owner, hashed, offset } in tombstones {
            let is_it = |word: Word| word.tag() == TOMBSTONE && word.offset() == offset.raw();
            match *owner {
                Owner::Database(db) => remove_if(&mut self.databases[db].dash, *hashed, is_it),
                Owner::Collection(id) => {
                    self.collections.change(id, |elements| remove_if(elements.table().0, *hashed, is_it));
                }
                _ => unreachable!("chunks, patches and marks have no tombstones"),
            }
        }
    }

    /// Lets each database have the space that the last swap gave it.
    fn apply_swap(&mut self, replay: &Replay) -> Result<(), ReplayError> {
        let Some((mark, _)) = replay.swapped else {
            return Ok(());
        };
        self.swap_mark = Some(mark);
        let spaces: Vec<u16> =
            self.log.read(mark).value().as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        for (db, space) in spaces.into_iter().enumerate() {
            let at = self.databases.iter().position(|database| database.space == space);
            match at {
                Some(at) if db < self.databases.len() => self.databases.swap(db, at),
                _ if usize::from(space) == db => {}
                _ => return Err(ReplayError::Database { number: db as u16, databases: self.config.databases }),
            }
        }
        Ok(())
    }
}

/// What an entry is made in: an index and the log that it is of.
struct Entry<'a> {
    dash: &'a mut Dash,
    log: &'a mut Log,
    seed: u64,
    heat: u16,
}

impl Entry<'_> {
    /// Lets the entry of a record's key point at it, if it is the newest so far. Tombstones live until the compactor drops them.
    /// Returns whether the key's entry had an expiry, and whether it has.
    fn enter(self, met: &Met, replay: &mut Replay) -> (bool, bool) {
        let Self { dash, log, seed, heat } = self;
        let hashed = met.hashed.expect("what is indexed is hashed");
        let is_tombstone = met.tag == TOMBSTONE;
        let key = log.read(met.offset).key();
        let is_same = |word: Word| log.read(offset_of(word)).key() == key;
        let place = match met.located {
            Some(at) => dash.find_at(at, is_same),
            None => dash.find(hashed, is_same),
        };
        let old = place.map(|place| dash.word(place));
        let is_newer = old.is_none_or(|old| log.is_newer(&mut replay.scan, met.version, offset_of(old)));
        if is_newer || is_tombstone {
            log.found_live(met.offset, met.version);
        } else {
            log.found_dead(met.offset);
        }
        let had_expiry = old.is_some_and(Word::has_expiry);
        if !is_newer {
            return (had_expiry, had_expiry);
        }
        if let Some(old) = old.filter(|old| old.tag() != TOMBSTONE) {
            log.found_superseded(offset_of(old));
        }
        if is_tombstone {
            replay.tombstones.push(Buried { owner: met.owner, hashed, offset: met.offset });
        }
        // A tombstone's would be none of a key.
        let expiry = met.expiry.filter(|_| !is_tombstone);
        let word = Word::new(met.offset.raw(), met.tag).with_heat(heat).with_expiry(expiry.is_some());
        let place = match place {
            Some(place) => {
                dash.set(place, word);
                place
            }
            None => dash.insert(hashed, word, |word| KeyHash::of(seed, log.read(offset_of(word)).key())),
        };
        if let Some(at) = expiry {
            dash.note_expiry(place, at);
        }
        (had_expiry, word.has_expiry())
    }
}

/// Keeps the newer of two marks, of which only one counts. Returns whether that is the one just met.
fn enter_mark(log: &mut Log, met: &Met, before: Option<(PoolOffset, u64)>) -> bool {
    if before.is_some_and(|(_, version)| met.version <= version) {
        log.found_dead(met.offset);
        return false;
    }
    if let Some((old, _)) = before {
        log.found_superseded(old);
    }
    log.found_live(met.offset, met.version);
    true
}

fn remove_if(dash: &mut Dash, hashed: Hashed, is_it: impl FnMut(Word) -> bool) {
    if let Some(place) = dash.find(hashed, is_it) {
        dash.remove(place, hashed);
    }
}

/// The log of a shard that is configured so.
pub(crate) fn log_config(config: &ShardConfig) -> LogConfig {
    LogConfig {
        pool_id: config.pool_id,
        extent_bytes: config.extent_size,
        capacity_bytes: config.capacity_max,
        replayed: !config.in_place,
        huge_pages: config.huge_pages,
        growth_bytes_min: config.growth_bytes_min,
        map: config.map,
    }
}
