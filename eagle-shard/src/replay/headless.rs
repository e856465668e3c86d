//! What a replay has found that belongs to nobody, and keys whose parts are not all there.
//!
//! Elements and chunks without a head are dead, and patches without a base; so crashes leave them. A head without its parts is what damage leaves: a collection
//! without any element, a large string without the chunks that its head was written with, two heads of one collection
//! (a lost tombstone of the old name; the same of a base of patches). Such keys go: they are taken out of the index at once, and get a tombstone as soon as the log may
//! be appended to, so that no older value of theirs comes back.

use std::collections::HashMap;

use eagle_pmem::{CollectionId, Kind, PoolOffset};

use super::{Replay, ReplayError, remove_if};
use crate::{
    dash::{Hashed, Word},
    flush::Dead,
    keyspace::offset_of,
    shard::Shard,
    value::{Form, is_collection_head},
};

/// The heads of collections, those of large strings, or bases of patches, by their ids: the database and entry of each.
type Heads = HashMap<CollectionId, (usize, Word)>;

impl Shard {
    /// Drops what has no head, and heads that have not all that is theirs. The latter is an error unless damage is accepted or
    /// shown.
    pub(super) fn drop_headless(&mut self, replay: &mut Replay) -> Result<(), ReplayError> {
        let (mut collections, mut strings, mut bases) = (Heads::new(), Heads::new(), Heads::new());
        let mut lost = Vec::new();
        for (db, database) in self.databases.iter().enumerate() {
            for (_, word) in database.dash.iter().filter(|(_, word)| word.tag() != Form::String.tag()) {
                let head = self.log.read(offset_of(word));
                let Some(id) = head.id() else { continue };
                let heads = match head.kind() {
                    Kind::Packed => &mut bases,
                    _ if is_collection_head(head) => &mut collections,
                    _ => &mut strings,
                };
                if let Some((db, older)) = heads.insert(id, (db, word)) {
                    let mut version = |word| self.log.found_version(&mut replay.scan, offset_of(word));
                    let is_newer = version(word) > version(older);
                    lost.extend(if is_newer { Some((db, older)) } else { heads.insert(id, (db, older)) });
                }
            }
        }
        let tables = &self.collections;
        take_lost(&mut collections, &mut lost, |id, _| tables.find(id).is_some_and(|elements| elements.len() > 0));
        let (large, patches, log) = (&mut self.large, &mut self.patches, &self.log);
        take_lost(&mut strings, &mut lost, |_, word| large.replayed_head(log.read(offset_of(word))));
        take_lost(&mut bases, &mut lost, |_, word| patches.fit(log, log.read(offset_of(word)), 2));
        let patches = patches.retain(log, |id| bases.contains_key(&id));
        if let Some((_, word)) = lost.first()
            && !replay.accept_damage
        {
            return Err(ReplayError::Record {
                byte: word.offset() * 8,
                what: "not the parts that it was written with",
            });
        }
        for (db, word) in lost {
            let hashed = Hashed::of_key(self.config.seed, self.log.read(offset_of(word)).key());
            remove_if(&mut self.databases[db].dash, hashed, |other| other.offset() == word.offset());
            self.databases[db].expires -= usize::from(word.has_expiry());
            self.lost_heads.push(offset_of(word));
            self.keys_lost += 1;
        }
        if !patches.is_empty() {
            self.flushed.push(Dead::Chunks(patches));
        }
        for remains in self.collections.retain(|id| collections.contains_key(&id)) {
            self.flushed.push(Dead::Table(remains));
        }
        for chunks in self.large.retain(|id| strings.contains_key(&id)) {
            self.flushed.push(Dead::Chunks(chunks));
        }
        Ok(())
    }

    /// Writes tombstones for keys that were dropped because they were not whole, now that it may be done.
    pub(crate) fn bury_lost_heads(&mut self) {
        for head in std::mem::take(&mut self.lost_heads) {
            match self.log.reserve_privileged(self.log.delete_bytes(head)) {
                Ok(()) => self.log.delete(head),
                // Without room, an older value may come back at the next opening, as damage may bring it back.
                Err(_) => self.log.kill(head),
            }
        }
    }

    /// Keys that the last recovery dropped because parts of them were lost.
    #[must_use]
    pub fn keys_lost(&self) -> u64 {
        self.keys_lost
    }

    /// Their records, as long as they count as alive.
    pub(crate) fn lost_heads(&self) -> impl Iterator<Item = PoolOffset> {
        self.lost_heads.iter().copied()
    }
}

/// Moves heads that are not whole to those that are lost.
fn take_lost(heads: &mut Heads, lost: &mut Vec<(usize, Word)>, mut is_whole: impl FnMut(CollectionId, Word) -> bool) {
    heads.retain(|id, (db, word)| {
        let whole = is_whole(*id, *word);
        if !whole {
            lost.push((*db, *word));
        }
        whole
    });
}
