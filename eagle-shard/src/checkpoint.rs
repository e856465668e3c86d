//! A checkpoint of a shard: the index and what belongs to it, written out so that the next opening reads the log only from there
//! on, which after an orderly end is nothing.
//!
//! ```text
//!  LOG          the log's state: extents with what lives in them
//!  SHARD        seed, ids used, last swap; for each database its space, last flush and number of keys
//!  SEGMENT      owner (a database, all patches, or a collection's id), image of a segment of its index
//!  STRING       a large string: id, offsets of its chunks, what each hashes to
//!  DEAD         offsets of records that are dead and not yet counted so
//! ```
//!
//! It is taken between two commands, of what is committed, and counts once that is synced: then it is complete in itself, and the
//! records behind it are replayed over it as over an index made from records. Words that point into extents that were
//! freed since are taken out first; what they pointed at lies behind the checkpoint.
//!
//! Its checksums are looked at when it is opened; the tables are not copied then, but served from where the file is mapped, segment by
//! segment until each changes, as all do within a few seconds when heat is aged.
//!
//! Of two copies of a record, where compaction was interrupted, an opening takes one and frees the other. So a checkpoint is good
//! only as long as every opening since has begun with it: one that was passed over must be removed before anything is
//! written.
//!
//! From: storage.md, "Opening".

use std::collections::HashMap;

use eagle_pmem::{Checkpoint, CheckpointWriter, CollectionId, LogState, PoolError, PoolOffset, Stale};

use crate::{
    dash::{Dash, Images},
    flush::Dead,
    keyspace::offset_of,
    shard::Shard,
};

mod taking;

pub(crate) use taking::{Cut, Taking};

const LOG: u8 = 1;
const SHARD: u8 = 2;
pub(crate) const SEGMENT: u8 = 3;
pub(crate) const STRING: u8 = 4;
const DEAD: u8 = 5;

/// Owners below are databases, by their places, and the last of them what has the patches; above, collections, by their ids.
pub(crate) const COLLECTIONS_FROM: u64 = 1 << 16;
pub(crate) const PATCHES: u64 = COLLECTIONS_FROM - 1;
/// Words of the block [`SHARD`] before the databases.
const SHARD_WORDS: usize = 4;
/// Words of a database in it.
const DATABASE_WORDS: usize = 4;

/// The index as a checkpoint has it.
pub(crate) struct Taken {
    ids_used: u64,
    swap_mark: Option<PoolOffset>,
    /// By their spaces.
    databases: Vec<TakenDatabase>,
    collections: Vec<(CollectionId, Dash)>,
    patches: Dash,
    /// Of each large string the offsets of its chunks, and what these hash to.
    strings: Vec<(CollectionId, Vec<u64>, Vec<u64>)>,
    dead: Vec<u64>,
}

struct TakenDatabase {
    space: u16,
    flush_mark: Option<PoolOffset>,
    len: usize,
    expires: usize,
    dash: Dash,
}

impl Shard {
    /// Whether a checkpoint can be taken now: nothing is half done.
    #[must_use]
    pub fn can_checkpoint(&self) -> bool {
        self.replay.is_none() && self.arrivals.is_empty() && !self.compactor.is_under_way()
    }

    /// Brings to an end what is half done, as far as it can be, and seals the log's open extents, for the last commit before the
    /// shard ends. Says whether a checkpoint can be taken when that is synced.
    pub fn prepare_to_end(&mut self) -> bool {
        if self.config.in_place || self.replay.is_some() {
            return false;
        }
        self.finish_walk();
        self.log.seal_all();
        self.can_checkpoint()
    }

    /// Whether the shard began with the checkpoint that it was given. If not, that must be removed before anything is committed.
    #[must_use]
    pub fn took_checkpoint(&self) -> bool {
        self.took_checkpoint
    }

    /// Writes a checkpoint of all that is committed; it must be synced before the checkpoint is finished.
    ///
    /// # Errors
    /// It cannot be written.
    ///
    /// # Panics
    /// If none can be taken now ([`Shard::can_checkpoint`]).
    pub fn write_checkpoint(&self, to: &mut CheckpointWriter) -> Result<(), PoolError> {
        assert!(self.can_checkpoint(), "a checkpoint is taken of what is whole");
        to.block(LOG, &[&self.log.log_state().to_bytes()])?;
        to.block(SHARD, &[&self.shard_block()])?;
        for (owner, database) in (0_u64..).zip(&self.databases) {
            write_table(owner, &database.dash, to)?;
        }
        write_table(PATCHES, self.patches.table(), to)?;
        for (id, dash) in self.collections.tables() {
            write_table(COLLECTIONS_FROM + id.raw(), dash, to)?;
        }
        for (id, chunks, stamps) in self.large.tables() {
            to.block(STRING, &[&id.raw().to_le_bytes(), &words_to_bytes(chunks), &words_to_bytes(stamps)])?;
        }
        let dead: Vec<u64> = self.flushed.offsets().map(PoolOffset::raw).collect();
        to.block(DEAD, &[&words_to_bytes(&dead)])
    }

    fn shard_block(&self) -> Vec<u8> {
        let mark = |mark: Option<PoolOffset>| mark.map_or(0, PoolOffset::raw);
        let mut words = vec![self.config.seed, self.ids_used, mark(self.swap_mark), self.databases.len() as u64];
        for database in &self.databases {
            words.extend([u64::from(database.space), mark(database.flush_mark)]);
            words.extend([database.dash.len() as u64, database.expires as u64]);
        }
        words_to_bytes(&words)
    }

    /// Takes over a checkpoint, less what is stale. The databases lie by their spaces until the last swap is applied.
    pub(crate) fn take_checkpoint(&mut self, taken: Taken, stale: &Stale) {
        self.took_checkpoint = true;
        self.ids_used = taken.ids_used;
        let log = &self.log;
        let fresh = |mark: Option<PoolOffset>| mark.filter(|mark| !log.is_stale(stale, *mark));
        self.swap_mark = fresh(taken.swap_mark);
        for (own, mut database) in self.databases.iter_mut().zip(taken.databases) {
            let expires = database.expires.saturating_sub(purge(&mut database.dash, log, stale));
            (own.flush_mark, own.expires) = (fresh(database.flush_mark), expires);
            own.dash = database.dash;
        }
        for (id, mut dash) in taken.collections {
            purge(&mut dash, log, stale);
            self.collections.restore(id, self.config.seed, dash);
        }
        let mut patches = taken.patches;
        purge(&mut patches, log, stale);
        self.patches.restore(patches);
        let keep = |raw: &u64| *raw == 0 || !log.is_stale(stale, PoolOffset::from_raw(*raw));
        for (id, mut chunks, mut stamps) in taken.strings {
            for (raw, stamp) in chunks.iter_mut().zip(&mut stamps).filter(|(raw, _)| !keep(raw)) {
                (*raw, *stamp) = (0, 0);
            }
            self.large.restore(id, chunks, stamps);
        }
        let dead: Vec<u64> = taken.dead.into_iter().filter(keep).collect();
        if !dead.is_empty() {
            self.flushed.push(Dead::Chunks(dead));
        }
    }
}

impl Taken {
    /// Reads a checkpoint of a shard whose hashes have this seed, and that has so many databases, with the state of its log.
    /// `None` if it is none that fits.
    pub(crate) fn read(checkpoint: &Checkpoint, seed: u64, databases: usize) -> Option<(LogState, Self)> {
        let (mut log, mut taken) = (None, None);
        let mut images: HashMap<u64, Images> = HashMap::new();
        for (kind, payload) in checkpoint.blocks() {
            match (kind, &mut taken) {
                (LOG, None) => log = Some(LogState::parse(payload)?),
                (SHARD, None) => taken = Some(Self::of_shard_block(&words_of(payload)?, seed, databases)?),
                (SEGMENT, Some(_)) => {
                    let (owner, image) = payload.split_first_chunk::<8>()?;
                    if !images.entry(u64::from_le_bytes(*owner)).or_default().add(image, checkpoint) {
                        return None;
                    }
                }
                (STRING, Some(taken)) => {
                    let words = words_of(payload)?;
                    let (id, chunks) = words.split_first()?;
                    let (chunks, stamps) = chunks.split_at(chunks.len() / 2);
                    if chunks.len() != stamps.len() {
                        return None;
                    }
                    taken.strings.push((id_of(*id)?, chunks.to_vec(), stamps.to_vec()));
                }
                (DEAD, Some(taken)) => taken.dead = words_of(payload)?,
                _ => return None,
            }
        }
        let mut taken = taken?;
        for (owner, images) in images {
            let dash = images.into_dash()?;
            match owner.checked_sub(COLLECTIONS_FROM) {
                None if owner == PATCHES => taken.patches = dash,
                None => taken.databases.get_mut(usize::try_from(owner).ok()?)?.dash = dash,
                Some(id) => taken.collections.push((id_of(id)?, dash)),
            }
        }
        let is_whole = taken.databases.iter().all(|database| database.dash.len() == database.len);
        taken.databases.sort_by_key(|database| database.space);
        let by_space = (0..).zip(&taken.databases).all(|(space, database)| database.space == space);
        (is_whole && by_space).then_some((log?, taken))
    }

    fn of_shard_block(words: &[u64], seed: u64, databases: usize) -> Option<Self> {
        let (&[of_seed, ids_used, swap_mark, count], rows) = words.split_first_chunk::<SHARD_WORDS>()?;
        let (rows, rest) = rows.as_chunks::<DATABASE_WORDS>();
        if of_seed != seed || count != databases as u64 || rows.len() != databases || !rest.is_empty() {
            return None;
        }
        let database = |&[space, flush_mark, len, expires]: &[u64; DATABASE_WORDS]| {
            Some(TakenDatabase {
                space: u16::try_from(space).ok()?,
                flush_mark: mark_of(flush_mark),
                len: usize::try_from(len).ok()?,
                expires: usize::try_from(expires).ok()?,
                dash: Dash::new(),
            })
        };
        Some(Self {
            ids_used,
            swap_mark: mark_of(swap_mark),
            databases: rows.iter().map(database).collect::<Option<_>>()?,
            collections: Vec::new(),
            patches: Dash::new(),
            strings: Vec::new(),
            dead: Vec::new(),
        })
    }
}

/// How many databases the shard had of which this is a checkpoint; `None` if it is none.
#[must_use]
pub fn databases_of(checkpoint: &Checkpoint) -> Option<u8> {
    let (_, payload) = checkpoint.blocks().find(|(kind, _)| *kind == SHARD)?;
    u8::try_from(*words_of(payload)?.get(SHARD_WORDS - 1)?).ok()
}

/// Takes out what points into extents that are not what they were. Returns how many of it had an expiry.
fn purge(dash: &mut Dash, log: &eagle_pmem::Log, stale: &Stale) -> usize {
    let mut expires = 0;
    if !stale.is_empty() {
        dash.retain(|word| {
            let is_stale = log.is_stale(stale, offset_of(word));
            expires += usize::from(is_stale && word.has_expiry());
            !is_stale
        });
    }
    expires
}

fn write_table(owner: u64, dash: &Dash, to: &mut CheckpointWriter) -> Result<(), PoolError> {
    let owner = owner.to_le_bytes();
    dash.write_images(|&[header, buckets, bounds]| to.block(SEGMENT, &[&owner, header, buckets, bounds]))
}

pub(crate) fn words_to_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Option<Vec<u64>> {
    let (words, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

fn id_of(raw: u64) -> Option<CollectionId> {
    (raw >> CollectionId::BITS == 0).then(|| CollectionId::from_raw(raw))
}

fn mark_of(raw: u64) -> Option<PoolOffset> {
    (raw != 0 && raw >> PoolOffset::BITS == 0).then(|| PoolOffset::from_raw(raw))
}
