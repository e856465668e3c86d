//! A hash: fields with values, packed in one record while it is small, else a record each.
//!
//! A hash is packed (`packed`: field, value, field, value, in the order in which fields came) until it has more fields, or a
//! longer field or value, than [`PackedLimits`] say; then it is large (`elements`) and stays so, as in Redis. The record tells
//! which of the two: a large hash's carries an id.
//!
//! ```text
//!  HSET ─▶ packed, one field, value as long as before ─▶ those bytes, in place where the log allows it
//!       ├▶ packed, above 1 KiB, on a medium           ─▶ a patch with what changed since it was last written whole
//!       ├▶ packed                                     ─▶ changed in a copy, written over the old or as a new record
//!       ├▶ packed, too large now                      ─▶ a record for each field, then the head in place of the packed one
//!       └▶ large                                      ─▶ a record for each field given, as one group
//! ```
//!
//! Where the log is replayed each change of a packed hash writes its record anew, or above 1 KiB a patch (`patch`). This is the pattern for other collections: a view (`HashRef`) for who reads; a few verbs
//! on the shard for who changes, that take what [`Shard::find`] gave; forms that only this file tells apart.
//!
//! From: `t_hash.c` of Redis 7.2, for what becomes large when.

use eagle_pmem::{CollectionId, Kind, Log, layout::record_bytes_max};

use super::{
    Form, collection_of,
    elements::{Elements, PREFETCHED, element_bytes_max},
    packed::{self, Packed, Packing},
    patch::Patched,
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
        self.allow_size(packed.len(), packed.bytes_len(), step)
    }

    /// The same for one of so many items and bytes.
    fn allow_size(&self, items: usize, bytes: usize, step: usize) -> bool {
        items <= (self.entries_max.saturating_mul(step)).min(packed::ITEMS_MAX) && bytes <= packed::BYTES_MAX
    }

    /// Whether these fields and values may be packed. As many as make a hash large are not, even if fields come twice among them, as in
    /// Redis.
    fn allow_pairs<'p>(&self, mut pairs: impl Iterator<Item = Pair<'p>> + Clone) -> bool {
        pairs.clone().count() <= self.entries_max
            && pairs.all(|(field, value)| self.allow_item(field) && self.allow_item(value))
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
    /// In one record and a patch.
    Patched(Patched<'a>),
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
            Self::Patched(patched) => patched.len() / 2,
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
            Self::Patched(patched) => patched.find(field, 2)?.1,
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
            Self::Patched(patched) => {
                let mut items = patched.items();
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
            Self::Packed(_) | Self::Patched(_) => {
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
            Self::Patched(patched) => {
                let mut items = patched.items().skip(2 * rng.usize(..self.len()));
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
        let Some(id) = record.id() else {
            return Ok(HashRef::Packed(Packed::new(record.value())));
        };
        if record.kind() == Kind::Head {
            return Ok(HashRef::Large(self.collections.get(id), &self.log));
        }
        let base = Packed::new(record.value());
        Ok(match self.patches.get(&self.log, record) {
            Some(patch) => HashRef::Patched(Patched::new(base, patch.value())),
            None => HashRef::Packed(base),
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
            self.check_hash(found)?;
            if let Some(id) = collection_of(self.record(found)) {
                self.touch(db, found, self.now);
                return self.set_elements(id, pairs);
            }
            if self.config.in_place && self.set_value_in_place(found, pairs.clone()) {
                self.touch(db, found, self.now);
                return Ok(0);
            }
            if let Some(added) = self.patch_in(db, key, found, pairs.clone())? {
                return Ok(added);
            }
        }
        let mut packing = std::mem::take(&mut self.packing);
        self.begin_packing(&mut packing, old);
        let before = packing.packed().len() / 2;
        let added = if pack(&mut packing, pairs.clone(), &self.config.packed_hash) {
            let added = packing.packed().len() / 2 - before;
            let expiry = old.and_then(|found| self.expiry(found));
            self.put_packed(db, key, old, Form::Hash, &mut packing, expiry).map(|()| added)
        } else {
            self.begin_packing(&mut packing, old);
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
        self.check_hash(found)?;
        if let Some(id) = collection_of(self.record(found)) {
            self.touch(db, found, self.now);
            return Ok(self.delete_elements(db, key, found, id, fields));
        }
        if let Some(removed) = self.patch_out(db, key, found, fields.clone())? {
            return Ok(removed);
        }
        let mut packing = std::mem::take(&mut self.packing);
        self.begin_packing(&mut packing, Some(found));
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
        if collection_of(self.record(found)).is_some() { "hashtable" } else { "listpack" }
    }

    fn check_hash(&self, found: Found) -> Result<(), Error> {
        if found.form() == Form::Hash { Ok(()) } else { Err(Error::WrongType) }
    }

    /// Sets fields by a patch. Returns how many are new, or `None`, and nothing was changed, if all is to be written.
    fn patch_in<'p>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        pairs: impl Iterator<Item = Pair<'p>> + Clone,
    ) -> Result<Option<usize>, Error> {
        let limits = self.config.packed_hash;
        let mut patching = std::mem::take(&mut self.patching);
        let added =
            self.begin_patch(found, &mut patching).filter(|_| limits.allow_pairs(pairs.clone())).and_then(|base| {
                let before = patching.patched(base).len();
                for (field, value) in pairs {
                    let patched = patching.patched(base);
                    match (patched.find(field, 2), patched.len()) {
                        (Some((number, _)), _) => patching.splice(base, number + 1, 1, &[value]),
                        (None, len) if len + 2 <= packed::ITEMS_MAX => patching.splice(base, len, 0, &[field, value]),
                        _ => return None,
                    }
                    if patching.is_too_large(base) {
                        return None;
                    }
                }
                let len = patching.patched(base).len();
                let is_allowed = limits.allow_size(len, base.bytes_len() + patching.bytes_len(), 2);
                is_allowed.then_some((len - before) / 2)
            });
        let done = match added {
            Some(_) => self.put_patch(db, key, found, &mut patching, Self::make_room),
            None => Ok(false),
        };
        self.patching = patching;
        Ok(if done? { added } else { None })
    }

    /// Takes fields out by a patch. Returns how many there were, or `None`, and nothing was changed, if all is to be written.
    fn patch_out<'f>(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        fields: impl Iterator<Item = &'f [u8]>,
    ) -> Result<Option<usize>, Error> {
        let mut patching = std::mem::take(&mut self.patching);
        let counts = self.begin_patch(found, &mut patching).and_then(|base| {
            let before = patching.patched(base).len();
            for field in fields {
                if let Some((number, _)) = patching.patched(base).find(field, 2) {
                    patching.splice(base, number, 2, &[]);
                }
                if patching.is_too_large(base) {
                    return None;
                }
            }
            let left = patching.patched(base).len();
            Some(((before - left) / 2, left))
        });
        let done = match counts {
            None => Ok(false),
            Some((0, _)) => Ok(true),
            Some((_, 0)) => {
                self.remove(db, key, found);
                Ok(true)
            }
            // It takes less room in the end.
            Some(_) => self.put_patch(db, key, found, &mut patching, Self::make_privileged_room),
        };
        self.patching = patching;
        Ok(if done? { counts.map(|counts| counts.0) } else { None })
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
    if !limits.allow_pairs(pairs.clone()) {
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
