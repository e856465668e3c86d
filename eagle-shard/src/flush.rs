//! Flushing: a database, the chunks of a long string or the elements of a collection go at once; that their records are dead is
//! counted later.
//!
//! `FLUSHDB` takes the whole index of the database and puts it on a heap of what is gone; slices of background work go through it
//! and tell the log, segment by segment, which records died. Until then these count as alive, so the compactor would move
//! them for nothing and could not ask for them: it waits until the heap is empty. When nothing is left in any database the
//! log is simply cleared.
//!
//! `SWAPDB` changes two databases' indexes and the spaces that their records carry (see [`crate::keyspace`]).
//!
//! Where the log is replayed, a flush is a record that kills the lower versions of its space, and a swap one with the spaces of all
//! databases; the last of each is kept alive, which is as much as replay needs.

use eagle_pmem::{CheckpointBlocks, Kind, PoolOffset, RecordParts, layout::record_bytes_max};
use smallvec::SmallVec;

use crate::{
    call::DbId,
    dash::{Remains, Word},
    error::Error,
    keyspace::offset_of,
    shard::Shard,
    value::Form,
};

/// How many records ahead of the one at hand are asked for.
const PREFETCHED: usize = 16;

/// What the record of a flush takes at most.
const FLUSH_BYTES: usize = record_bytes_max(0, 0);

/// What is gone, with records that still count as alive.
pub(crate) enum Dead {
    /// What is left of the index of a flushed database, or of the table of a collection.
    Table(Remains),
    /// Offsets of chunks; 0 is none.
    Chunks(Vec<u64>),
}

/// The heap of what is gone.
#[derive(Default)]
pub(crate) struct Flushed {
    heap: Vec<Dead>,
    /// Memory of all of it in bytes.
    bytes: usize,
}

impl Dead {
    fn bytes(&self) -> usize {
        match self {
            Self::Table(remains) => remains.bytes(),
            Self::Chunks(chunks) => chunks.capacity() * size_of::<u64>(),
        }
    }
}

impl Flushed {
    pub(crate) fn push(&mut self, dead: Dead) {
        self.bytes += dead.bytes();
        self.heap.push(dead);
    }

    /// Forgets the last, of which nothing is left.
    fn pop(&mut self) {
        let dead = self.heap.pop();
        self.bytes -= dead.map_or(0, |dead| dead.bytes());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Memory that it takes in bytes. O(1).
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes on with the images of tables that were flushed since a checkpoint began, by up to `segments`. Returns how many segments it
    /// wrote; fewer were the last.
    pub(crate) fn image_slice(&mut self, segments: usize, to: &mut CheckpointBlocks) -> usize {
        let mut done = 0;
        for dead in &mut self.heap {
            if let Dead::Table(remains) = dead {
                done += remains.image_slice(segments - done, to);
            }
            if done == segments {
                break;
            }
        }
        done
    }

    /// Whether an image of something on the heap is under way.
    pub(crate) fn is_imaging(&self) -> bool {
        self.heap.iter().any(|dead| matches!(dead, Dead::Table(remains) if remains.is_imaging()))
    }

    /// Ends the images that are not wanted any more.
    pub(crate) fn end_image(&mut self) {
        for dead in &mut self.heap {
            if let Dead::Table(remains) = dead {
                remains.end_image();
            }
        }
    }

    /// All records that still count as alive.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = PoolOffset> {
        self.heap.iter().flat_map(|dead| {
            let (table, chunks) = match dead {
                Dead::Table(remains) => (Some(remains), None),
                Dead::Chunks(chunks) => (None, Some(chunks)),
            };
            let words = table.into_iter().flat_map(Remains::words).map(Word::offset);
            let chunks = chunks.into_iter().flatten().copied();
            words.chain(chunks).filter(|raw| *raw != 0).map(PoolOffset::from_raw)
        })
    }
}

impl Shard {
    /// Removes all keys of a database, at once.
    ///
    /// # Errors
    /// Out of memory: where the log is replayed, and has no room for the record that says so.
    pub fn clear(&mut self, db: DbId) -> Result<(), Error> {
        if self.databases[usize::from(db.0)].dash.is_empty() {
            return Ok(());
        }
        self.make_tombstone_room(FLUSH_BYTES)?;
        self.clear_in_room(db);
        self.forget_all_if_empty();
        Ok(())
    }

    /// Removes all keys of all databases, at once: after a crash all of them are there or none.
    ///
    /// # Errors
    /// As [`Shard::clear`].
    pub fn clear_all(&mut self) -> Result<(), Error> {
        let databases = (0..self.config.databases).map(DbId).filter(|db| self.len(*db) > 0);
        let databases: SmallVec<[DbId; 16]> = databases.collect();
        let bytes = databases.len() * FLUSH_BYTES;
        self.make_tombstone_room(bytes)?;
        self.log.begin_group(bytes);
        databases.into_iter().for_each(|db| self.clear_in_room(db));
        self.log.end_group();
        self.forget_all_if_empty();
        Ok(())
    }

    /// Removes all keys of a database; there is room to say so.
    fn clear_in_room(&mut self, db: DbId) {
        self.mark_flush(db);
        let database = &mut self.databases[usize::from(db.0)];
        let gone = database.dash.clear();
        database.expires = 0;
        self.flushed.push(Dead::Table(gone.into_remains()));
    }

    /// Lets two databases change their keys.
    ///
    /// # Errors
    /// Out of memory: where the log is replayed, and has no room for the record that says so.
    pub fn swap(&mut self, first: DbId, second: DbId) -> Result<(), Error> {
        if first == second {
            return Ok(());
        }
        self.databases.swap(usize::from(first.0), usize::from(second.0));
        if let Err(error) = self.mark_swap() {
            self.databases.swap(usize::from(first.0), usize::from(second.0));
            return Err(error);
        }
        Ok(())
    }

    /// The index of the database whose records carry `space`.
    #[inline]
    pub(crate) fn database_index(&self, space: u16) -> Option<usize> {
        let own = usize::from(space);
        if self.databases.get(own)?.space == space {
            return Some(own);
        }
        self.databases.iter().position(|database| database.space == space)
    }

    /// If no key is left, and none is to come, nothing in a log that is not replayed is alive.
    fn forget_all_if_empty(&mut self) {
        if self.is_empty() && self.arrivals.is_empty() && self.config.in_place {
            self.log.clear();
            self.flushed = Flushed::default();
            self.large.clear();
            self.collections.clear();
        }
    }

    /// Writes that the database is flushed.
    fn mark_flush(&mut self, db: DbId) {
        if self.config.in_place {
            return;
        }
        let space = self.databases[usize::from(db.0)].space;
        let parts = RecordParts { db: space, ..RecordParts::new(Kind::Flush, &[], &[]) };
        let mark = self.log.append(&parts);
        if let Some(before) = self.databases[usize::from(db.0)].flush_mark.replace(mark) {
            self.log.kill(before);
        }
    }

    /// Writes which space each database has.
    fn mark_swap(&mut self) -> Result<(), Error> {
        if self.config.in_place {
            return Ok(());
        }
        let spaces: Vec<u8> = self.databases.iter().flat_map(|database| database.space.to_le_bytes()).collect();
        let value: &[&[u8]] = &[&spaces];
        let parts = RecordParts::new(Kind::Swap, &[], value);
        self.make_privileged_room(parts.bytes())?;
        let mark = self.log.append(&parts);
        if let Some(before) = self.swap_mark.replace(mark) {
            self.log.kill(before);
        }
        Ok(())
    }

    /// Goes on counting as dead what is gone: about `units` records, by whole segments of a table. Returns how many it was.
    pub(crate) fn sweep_flushed(&mut self, units: usize) -> usize {
        let mut done = 0;
        while done < units {
            match self.flushed.heap.last_mut() {
                None => break,
                Some(Dead::Chunks(chunks)) => {
                    let rest = chunks.len().saturating_sub(units - done);
                    done += chunks.len() - rest;
                    for raw in chunks.drain(rest..).filter(|raw| *raw != 0) {
                        self.log.kill(PoolOffset::from_raw(raw));
                    }
                    if chunks.is_empty() {
                        self.flushed.pop();
                    }
                }
                Some(Dead::Table(remains)) => match remains.pop() {
                    None => {
                        // What was written into a checkpoint ahead of its turn, last of all.
                        if let Some(taking) = &mut self.taking {
                            taking.take_over(remains);
                        }
                        self.flushed.pop();
                    }
                    Some((words, bytes)) => {
                        self.flushed.bytes -= bytes;
                        self.kill_words(&words);
                        done += words.len() + 1;
                    }
                },
            }
        }
        done
    }

    /// The records of these words are dead, with what belongs to them.
    fn kill_words(&mut self, words: &[Word]) {
        for (at, word) in words.iter().enumerate() {
            if let Some(ahead) = words.get(at + PREFETCHED) {
                self.log.prefetch(offset_of(*ahead));
            }
            // The words of elements have the tag of what has nothing beside its record.
            self.disown(Form::of_tag(word.tag()), offset_of(*word));
            self.log.kill(offset_of(*word));
        }
    }
}
