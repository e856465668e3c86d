//! A hash: fields with values, packed in one record while it is small, else a record each.
//!
//! A hash is packed (`packed`: field, value, field, value, in the order in which fields came) until it has more fields, or a
//! longer field or value, than [`PackedLimits`] say; then it is large (`elements`) and stays so, as in Redis. The record tells
//! which of the two: a large hash's carries an id.
//!
//! ```text
//!  HSET ─▶ packed, one field, value as long as before ─▶ those bytes, in place where the log allows it
//!       ├▶ packed                                     ─▶ changed in a copy, written over the old or as a new record
//!       ├▶ packed, too large now                      ─▶ a record for each field, then the head in place of the packed one
//!       └▶ large                                      ─▶ a record for each field given, as one group
//! ```
//!
//! Where the log is replayed each change of a packed hash writes its record anew (patch records would spare some of that above 1 KiB:
//! they are not there yet). This is the pattern for other collections: a view (`HashRef`) for who reads; a few verbs
//! on the shard for who changes, that take what [`Shard::find`] gave; forms that only this file tells apart.
//!
//! From: `t_hash.c` of Redis 7.2, for what becomes large when.

use eagle_pmem::{CollectionId, Log, layout::record_bytes_max};

use super::{
    Form,
    elements::{Elements, PREFETCHED, element_bytes_max},
    packed::{self, Packed, Packing},
};
use crate::{
    call::{DbId, Key},
    dash::Cursor,
    error::Error,
    keyspace::Found,
    shard::Shard,
};

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// How large a collection may be that is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLimits {
    /// Most entries: fields of a hash, members of a set.
    pub entries_max: usize,
    /// Longest field, value or member in bytes.
    pub item_bytes_max: usize,
}

impl PackedLimits {
    /// Those of hashes, as Redis has them unless told otherwise.
    pub const HASH: Self = Self { entries_max: 512, item_bytes_max: 64 };

    /// Whether a packed collection of `step` items an entry is within them, and within what can be packed at all.
    fn allow(&self, packed: Packed<'_>, step: usize) -> bool {
        packed.len() <= (self.entries_max.saturating_mul(step)).min(packed::ITEMS_MAX)
            && packed.bytes_len() <= packed::BYTES_MAX
    }

    /// Whether an item may be packed.
    fn allow_item(&self, item: &[u8]) -> bool {
        item.len() <= self.item_bytes_max.min(packed::BYTES_MAX)
    }
}

/// A hash where it lies.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// In one record.
    Packed(Packed<'a>),
    /// In a record a field.
    Large(&'a Elements, &'a Log),
}

impl<'a> HashRef<'a> {
    /// How many fields it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty hash is none")]
    pub fn len(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len() / 2,
            Self::Large(elements, _) => elements.len(),
        }
    }

    /// The value of a field.
    #[inline]
    #[must_use]
    pub fn get(&self, field: &[u8]) -> Option<&'a [u8]> {
        match self {
            Self::Packed(packed) => {
                let spot = packed.find(field, 2)?;
                Some(packed.item(packed.behind(spot)))
            }
            Self::Large(elements, log) => Some(elements.get(log, field)?.value()),
        }
    }

    /// Goes through the values of these fields, in their order.
    pub fn get_each<'f>(&self, fields: impl Iterator<Item = &'f [u8]> + Clone, mut emit: impl FnMut(Option<&'a [u8]>)) {
        let mut ahead = fields.clone();
        for (nth, field) in fields.enumerate() {
            if let Self::Large(elements, log) = self
                && nth % PREFETCHED == 0
            {
                elements.prefetch(log, &mut ahead);
            }
            emit(self.get(field));
        }
    }

    /// Goes through all fields: a packed hash's in the order in which they came.
    pub fn for_each(&self, mut emit: impl FnMut(Pair<'a>)) {
        match self {
            Self::Packed(packed) => {
                let mut items = packed.items();
                while let (Some(field), Some(value)) = (items.next(), items.next()) {
                    emit((field, value));
                }
            }
            Self::Large(elements, log) => {
                elements.records(log).for_each(|record| emit((record.key(), record.value())));
            }
        }
    }

    /// Goes on with a scan: hands out all fields of a packed hash, or those of a bucket of a large one, and returns where to go on.
    pub fn scan(&self, cursor: Cursor, mut emit: impl FnMut(Pair<'a>)) -> Cursor {
        match self {
            Self::Packed(_) => {
                self.for_each(emit);
                Cursor::START
            }
            Self::Large(elements, log) => elements.scan(log, cursor, |record| emit((record.key(), record.value()))),
        }
    }

    /// Some field, each about as likely as any other.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Pair<'a> {
        match self {
            Self::Packed(packed) => {
                let mut items = packed.items().skip(2 * rng.usize(..self.len()));
                items.next().zip(items.next()).expect("a hash has fields")
            }
            Self::Large(elements, log) => {
                let record = elements.random(log, rng);
                (record.key(), record.value())
            }
        }
    }
}

impl Shard {
    /// The hash under a key.
    ///
    /// # Errors
    /// The key holds another type.
    #[inline]
    pub fn hash(&self, found: Found) -> Result<HashRef<'_>, Error> {
        if found.form() != Form::Hash {
            return Err(Error::WrongType);
        }
        let record = self.record(found);
        Ok(match record.id() {
            None => HashRef::Packed(Packed::new(record.value())),
            Some(id) => HashRef::Large(self.collections.get(id), &self.log),
        })
    }

    /// Sets fields of the hash under a key, which begins empty where there is none. Returns how many fields are new.
    ///
    /// # Errors
    /// Another type, or out of memory. Nothing was changed.
    pub fn set_fields<'p>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        pairs: impl Iterator<Item = Pair<'p>> + Clone,
    ) -> Result<usize, Error> {
        if let Some(found) = old {
            self.hash(found)?;
            if let Some(id) = self.record(found).id() {
                self.touch(db, found, self.now);
                return self.set_elements(id, pairs);
            }
            if self.set_value_in_place(found, pairs.clone()) {
                self.touch(db, found, self.now);
                return Ok(0);
            }
        }
        let mut packing = std::mem::take(&mut self.packing);
        packing.begin(old.map(|found| Packed::new(self.record(found).value())));
        let before = packing.packed().len() / 2;
        let added = if pack(&mut packing, pairs.clone(), &self.config.packed_hash) {
            let added = packing.packed().len() / 2 - before;
            let expiry = old.and_then(|found| self.expiry(found));
            self.put_packed(db, key, old, Form::Hash, &mut packing, expiry).map(|()| added)
        } else {
            packing.begin(old.map(|found| Packed::new(self.record(found).value())));
            self.make_large(db, key, old, packing.packed(), pairs)
        };
        self.packing = packing;
        added
    }

    /// Takes fields out of the hash under a key, and the key with the last of them. Returns how many there were.
    ///
    /// # Errors
    /// Another type, or out of memory: nothing was changed.
    pub fn delete_fields<'f>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        fields: impl Iterator<Item = &'f [u8]> + Clone,
    ) -> Result<usize, Error> {
        self.hash(found)?;
        if let Some(id) = self.record(found).id() {
            self.touch(db, found, self.now);
            return Ok(self.delete_elements(db, key, found, id, fields));
        }
        let mut packing = std::mem::take(&mut self.packing);
        packing.begin(Some(Packed::new(self.record(found).value())));
        let before = packing.packed().len();
        for field in fields {
            if let Some(spot) = packing.packed().find(field, 2) {
                packing.remove(spot, 2);
            }
        }
        let left = packing.packed().len();
        let done = if left == before {
            Ok(())
        } else if left == 0 {
            self.remove(db, key, found);
            Ok(())
        } else {
            let expiry = self.expiry(found);
            self.put_packed(db, key, Some(found), Form::Hash, &mut packing, expiry)
        };
        self.packing = packing;
        done.map(|()| (before - left) / 2)
    }

    /// The encoding that `OBJECT ENCODING` shows for a hash.
    pub(crate) fn hash_encoding_name(&self, found: Found) -> &'static str {
        if self.record(found).id().is_some() { "hashtable" } else { "listpack" }
    }

    /// Gives the only field of `pairs` another value where the old one lies, if the hash has it, its value stays as long, and the
    /// log allows it.
    fn set_value_in_place<'p>(&mut self, found: Found, mut pairs: impl Iterator<Item = Pair<'p>>) -> bool {
        let (Some((field, value)), None) = (pairs.next(), pairs.next()) else {
            return false;
        };
        let limits = self.config.packed_hash;
        let packed = Packed::new(self.record(found).value());
        let Some(spot) = packed.find(field, 2).map(|spot| packed.behind(spot)) else {
            return false;
        };
        let stays = spot.bytes().len() == value.len() && limits.allow_item(value) && limits.allow(packed, 2);
        stays && self.log.change_value(found.offset(), |bytes| bytes[spot.bytes()].copy_from_slice(value))
    }

    /// Makes a hash large: writes what was `packed` and then `pairs` as elements, and a head in place of `old`. Returns how many
    /// fields are new.
    fn make_large<'p>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        packed: Packed<'_>,
        pairs: impl Iterator<Item = Pair<'p>> + Clone,
    ) -> Result<usize, Error> {
        let before = HashRef::Packed(packed);
        let mut bytes = elements_bytes(pairs.clone()) + record_bytes_max(key.bytes.len(), 0);
        before.for_each(|(field, value)| bytes += element_bytes_max(field, value));
        let moved = self.make_room(bytes)?;
        let old = if moved { old.map(|_| self.find_again(db, key)) } else { old };
        let id = self.new_collection();
        let log = &mut self.log;
        let added = self.collections.change(id, |elements| {
            before.for_each(|(field, value)| {
                elements.put(log, field, value);
            });
            pairs.filter(|(field, value)| elements.put(log, field, value)).count()
        });
        let expiry = old.and_then(|found| self.expiry(found));
        self.put_collection_head(db, key, old, Form::Hash, id, expiry);
        Ok(added)
    }

    fn set_elements<'p>(
        &mut self,
        id: CollectionId,
        pairs: impl Iterator<Item = Pair<'p>> + Clone,
    ) -> Result<usize, Error> {
        let bytes = elements_bytes(pairs.clone());
        self.make_room(bytes)?;
        self.log.begin_group(bytes);
        let log = &mut self.log;
        let added = self.collections.change(id, |elements| {
            let (mut ahead, mut added) = (pairs.clone().map(|pair| pair.0), 0);
            for (nth, (field, value)) in pairs.enumerate() {
                if nth % PREFETCHED == 0 {
                    elements.prefetch(log, &mut ahead);
                }
                added += usize::from(elements.put(log, field, value));
            }
            added
        });
        self.log.end_group();
        Ok(added)
    }

    /// Room for the tombstones was made before the command began.
    fn delete_elements<'f>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        id: CollectionId,
        fields: impl Iterator<Item = &'f [u8]> + Clone,
    ) -> usize {
        let tombstones: usize = fields.clone().map(|field| record_bytes_max(field.len(), 0)).sum();
        self.log.begin_group(tombstones + record_bytes_max(key.bytes.len(), 0));
        let log = &mut self.log;
        let (removed, left) = self.collections.change(id, |elements| {
            let (mut ahead, mut removed) = (fields.clone(), 0);
            for (nth, field) in fields.enumerate() {
                if nth % PREFETCHED == 0 {
                    elements.prefetch(log, &mut ahead);
                }
                removed += usize::from(elements.remove(log, field));
            }
            (removed, elements.len())
        });
        if left == 0 {
            self.remove(db, key, found);
        }
        self.log.end_group();
        removed
    }
}

/// Sets `pairs` in a hash that is being packed. False, and the hash is anything, if it would not be one that is packed.
fn pack<'p>(packing: &mut Packing, pairs: impl Iterator<Item = Pair<'p>> + Clone, limits: &PackedLimits) -> bool {
    // As many pairs as that make a hash large even if fields come twice among them, as in Redis.
    let is_small = |(field, value): Pair<'_>| limits.allow_item(field) && limits.allow_item(value);
    if pairs.clone().count() > limits.entries_max || !pairs.clone().all(is_small) {
        return false;
    }
    for (field, value) in pairs {
        match packing.packed().find(field, 2) {
            Some(spot) => packing.replace(packing.packed().behind(spot), value),
            None if packing.packed().len() + 2 > packed::ITEMS_MAX => return false,
            None => {
                packing.push(field);
                packing.push(value);
            }
        }
    }
    limits.allow(packing.packed(), 2)
}

fn elements_bytes<'p>(pairs: impl Iterator<Item = Pair<'p>>) -> usize {
    pairs.map(|(field, value)| element_bytes_max(field, value)).sum()
}

#[cfg(test)]
mod tests;
