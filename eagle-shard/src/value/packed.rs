//! A packed collection: the items of a small collection, one behind the other, in one record.
//!
//! ```text
//!  0       2       4                                                          the value's end
//!  ├───────┼───────┼─────┬────────┬─────┬────────┬ ┄ ┬─────┬────────┬┄┄┄┄┄┄┄┄┄┄┄┤
//!  │ count │ spare │ len │ item 0 │ len │ item 1 │   │ len │ item n │ spare     │
//!  └───────┴───────┴─────┴────────┴─────┴────────┴ ┄ ┴─────┴────────┴┄┄┄┄┄┄┄┄┄┄┄┘
//!  len: one byte below 255, else 255 and the length in 4 bytes
//! ```
//!
//! What the items are is the collection's matter: a hash has fields and values in turn, a set its members. They keep the order in
//! which they came. Where records may be changed in place, one that has grown gets some spare bytes at its end, so that a
//! collection built item by item is not written anew for each; elsewhere each change writes the record anew, or above 1 KiB a patch of it
//! (`patch`).
//!
//! A change is made in a copy of the items, the [`Packing`], that goes over the old ones or into a new record.
//! From: the listpack of Redis (`listpack.c`), which takes as much for short items.

use std::ops::Range;

use eagle_pmem::Kind;

use super::patch::Patched;
use crate::{
    call::{DbId, Key, UnixMs},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
    value::Form,
};

/// The most items that are packed, whatever the configuration says: what `count` can say.
pub(crate) const ITEMS_MAX: usize = u16::MAX as usize;

/// The most bytes that are packed, whatever the configuration says: each change copies them. The limits of Redis need 67 KiB.
pub(crate) const BYTES_MAX: usize = 128 << 10;

const SPARE_AT: usize = 2;
const ITEMS_AT: usize = 4;

/// The length byte of an item whose length takes 4 bytes more.
const LONG: u8 = u8::MAX;

/// Of a record that has grown, this part more is spare: an eighth.
const SPARE_PART: usize = 8;
const _: () = assert!(2 * (BYTES_MAX / SPARE_PART) <= u16::MAX as usize);

/// What spare bytes are filled with.
static SPARE: [u8; u16::MAX as usize] = [0; u16::MAX as usize];

/// The items of a packed collection where they lie.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// Up to the spare bytes.
    bytes: &'a [u8],
}

/// Where an item lies, and where it begins with its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    begin: usize,
    at: usize,
    end: usize,
}

impl<'a> Packed<'a> {
    /// The items of a record's value.
    #[inline]
    pub(crate) fn new(value: &'a [u8]) -> Self {
        let spare = half_word(value, SPARE_AT);
        Self { bytes: &value[..value.len() - spare] }
    }

    /// Whether a record's value is items of which nothing is known, some, in whole entries of `step`.
    pub(crate) fn is_sound(value: &[u8], step: usize) -> bool {
        let Some(head) = value.first_chunk::<ITEMS_AT>() else {
            return false;
        };
        let (count, spare) = (half_word(head, 0), half_word(head, SPARE_AT));
        let Some(end) = value.len().checked_sub(spare) else {
            return false;
        };
        count > 0 && count.is_multiple_of(step) && is_items(&value[..end], ITEMS_AT, count) == Some(end)
    }

    /// How many items there are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        half_word(self.bytes, 0)
    }

    /// Appends it to `out`, without spare bytes.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        out[start + SPARE_AT..start + ITEMS_AT].fill(0);
    }

    /// What they take in bytes, spare ones not counted.
    #[inline]
    pub(crate) fn bytes_len(self) -> usize {
        self.bytes.len()
    }

    /// The items in their order.
    #[inline]
    pub(crate) fn items(self) -> Items<'a> {
        Items::from(self.bytes, ITEMS_AT)
    }

    /// The first item that is equal to `wanted`, among every `step`th from the first on.
    #[inline]
    pub(crate) fn find(self, wanted: &[u8], step: usize) -> Option<Spot> {
        self.find_numbered(wanted, step).map(|found| found.1)
    }

    /// The same, with its number among the items.
    #[inline]
    pub(crate) fn find_numbered(self, wanted: &[u8], step: usize) -> Option<(usize, Spot)> {
        let (mut next, mut number) = (ITEMS_AT, 0);
        while next < self.bytes.len() {
            let spot = spot(self.bytes, next);
            if self.item(spot) == wanted {
                return Some((number, spot));
            }
            next = spot.end;
            for _ in 1..step {
                next = self::spot(self.bytes, next).end;
            }
            number += step;
        }
        None
    }

    /// The item at a place.
    #[inline]
    pub(crate) fn item(self, spot: Spot) -> &'a [u8] {
        &self.bytes[spot.at..spot.end]
    }

    /// The place of the item behind another.
    ///
    /// # Panics
    /// If that is the last.
    #[inline]
    pub(crate) fn behind(self, before: Spot) -> Spot {
        spot(self.bytes, before.end)
    }
}

impl Spot {
    /// Where the item's bytes are in the value.
    pub(crate) fn bytes(self) -> Range<usize> {
        self.at..self.end
    }
}

/// The items of a packed collection, one after the other.
#[derive(Clone)]
pub(crate) struct Items<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Items<'a> {
    /// The items of `bytes` that begin at `next`.
    #[inline]
    pub(crate) const fn from(bytes: &'a [u8], next: usize) -> Self {
        Self { bytes, next }
    }

    /// Where the next item begins.
    #[inline]
    pub(crate) const fn at(&self) -> usize {
        self.next
    }

    /// What they lie in.
    #[inline]
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == self.bytes.len() {
            return None;
        }
        let spot = spot(self.bytes, self.next);
        self.next = spot.end;
        Some(&self.bytes[spot.at..spot.end])
    }
}

/// The place of the item that begins at `begin`.
#[inline]
fn spot(bytes: &[u8], begin: usize) -> Spot {
    match bytes[begin] {
        LONG => {
            let len = bytes[begin + 1..begin + 5].try_into().expect("4 bytes");
            Spot { begin, at: begin + 5, end: begin + 5 + u32::from_le_bytes(len) as usize }
        }
        len => Spot { begin, at: begin + 1, end: begin + 1 + usize::from(len) },
    }
}

/// Where `count` items end that begin at `begin` of bytes of which nothing is known; `None` if there are not so many.
pub(crate) fn is_items(bytes: &[u8], begin: usize, count: usize) -> Option<usize> {
    (0..count).try_fold(begin, |next, _| {
        let is_long = *bytes.get(next)? == LONG;
        if is_long && bytes.len() - next < 5 {
            return None;
        }
        Some(spot(bytes, next).end).filter(|end| *end <= bytes.len())
    })
}

/// The length bytes of an item, how many of 5.
#[inline]
fn prefix_of(item: &[u8]) -> ([u8; 5], usize) {
    let mut prefix = [LONG; 5];
    if item.len() < usize::from(LONG) {
        prefix[0] = item.len() as u8;
        return (prefix, 1);
    }
    prefix[1..].copy_from_slice(&(item.len() as u32).to_le_bytes());
    (prefix, 5)
}

/// Appends an item with its length.
#[inline]
pub(crate) fn write_item(out: &mut Vec<u8>, item: &[u8]) {
    let (prefix, len) = prefix_of(item);
    out.extend_from_slice(&prefix[..len]);
    out.extend_from_slice(item);
}

#[inline]
pub(crate) fn half_word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// A packed collection that is being changed, without spare bytes.
pub(crate) struct Packing {
    bytes: Vec<u8>,
}

impl Default for Packing {
    fn default() -> Self {
        Self { bytes: vec![0; ITEMS_AT] }
    }
}

impl Packing {
    /// Begins with the items of `source`, or with none.
    pub(crate) fn begin(&mut self, source: Option<Packed<'_>>) {
        self.bytes.clear();
        match source {
            Some(packed) => packed.write(&mut self.bytes),
            None => self.bytes.resize(ITEMS_AT, 0),
        }
    }

    /// Begins with the items of `source`, folded.
    pub(crate) fn begin_folded(&mut self, source: Patched<'_>) {
        self.bytes.clear();
        source.write(&mut self.bytes);
    }

    /// The items as they are now.
    #[inline]
    pub(crate) fn packed(&self) -> Packed<'_> {
        Packed { bytes: &self.bytes }
    }

    /// The items as a record's value.
    pub(crate) fn value(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an item at the end.
    pub(crate) fn push(&mut self, item: &[u8]) {
        let end = self.bytes.len();
        self.splice(end..end, item);
        self.set_len(self.packed().len() + 1);
    }

    /// Puts an item in the place of another.
    pub(crate) fn replace(&mut self, spot: Spot, item: &[u8]) {
        self.splice(spot.begin..spot.end, item);
    }

    /// Takes out `count` items, the first of which is at `spot`.
    pub(crate) fn remove(&mut self, spot: Spot, count: usize) {
        let last = (1..count).fold(spot, |spot, _| self.packed().behind(spot));
        self.bytes.drain(spot.begin..last.end);
        self.set_len(self.packed().len() - count);
    }

    fn set_len(&mut self, count: usize) {
        let count = u16::try_from(count).expect("a packed collection has at most ITEMS_MAX items");
        self.bytes[..SPARE_AT].copy_from_slice(&count.to_le_bytes());
    }

    /// Writes an item with its length over a range of bytes.
    fn splice(&mut self, range: Range<usize>, item: &[u8]) {
        let (prefix, prefix_len) = prefix_of(item);
        let prefix = &prefix[..prefix_len];
        let (tail, old_len) = (range.end, self.bytes.len());
        let end = range.start + prefix.len() + item.len();
        self.bytes.resize(old_len.max(old_len - tail + end), 0);
        self.bytes.copy_within(tail..old_len, end);
        self.bytes.truncate(old_len - tail + end);
        self.bytes[range.start..range.start + prefix.len()].copy_from_slice(prefix);
        self.bytes[range.start + prefix.len()..end].copy_from_slice(item);
    }
}

impl Shard {
    /// Puts a packed collection under a key, in place of `old`, with `expiry`. What takes less room than before may take from the
    /// reserve.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    pub(crate) fn put_packed(
        &mut self,
        db: DbId,
        key: Key<'_>,
        old: Option<Found>,
        form: Form,
        packing: &mut Packing,
        expiry: Option<UnixMs>,
    ) -> Result<(), Error> {
        let len = packing.bytes.len();
        let spare_max = len / SPARE_PART;
        let changed = old.filter(|found| found.form() == form);
        let patch_bytes = changed.map_or(0, |found| self.patch_bytes(found));
        let room = old.map_or(0, |found| self.record(found).value().len()) + patch_bytes;
        let is_like = |found: &Found| found.form() == form && self.expiry(*found) == expiry;
        let found = old.filter(|found| is_like(found) && (len..=len + 2 * spare_max).contains(&room));
        if let Some(found) = found
            && self.log.change_value(found.offset(), |value| packing.write_into(value))
        {
            self.touch(db, found, self.now);
            return Ok(());
        }
        let spare = if self.config.in_place && old.is_some() && len > room { spare_max } else { 0 };
        packing.note_spare(spare);
        let value: &[&[u8]] = &[&packing.bytes, &SPARE[..spare]];
        let id = changed.and_then(|_| self.new_base(len));
        let new = NewValue { form, kind: Kind::Packed, tag: form.collection_tag(), expiry, id, value };
        let done = if len <= room { self.put_privileged(db, key, old, new) } else { self.put(db, key, old, new) };
        self.stats.folded += u64::from(patch_bytes > 0 && done.is_ok());
        done
    }

    /// Begins to change the packed collection that was found, with its patch, or an empty one.
    pub(crate) fn begin_packing(&self, packing: &mut Packing, old: Option<Found>) {
        let Some(record) = old.map(|found| self.record(found)) else {
            return packing.begin(None);
        };
        let base = Packed::new(record.value());
        match self.patches.get(&self.log, record) {
            Some(patch) => packing.begin_folded(Patched::new(base, patch.value())),
            None => packing.begin(Some(base)),
        }
    }
}

impl Packing {
    /// Writes the items over the value of a record that has room for them.
    fn write_into(&mut self, value: &mut [u8]) {
        self.note_spare(value.len() - self.bytes.len());
        let (items, spare) = value.split_at_mut(self.bytes.len());
        items.copy_from_slice(&self.bytes);
        spare.fill(0);
    }

    fn note_spare(&mut self, spare: usize) {
        let spare = u16::try_from(spare).expect("spare bytes are a part of BYTES_MAX");
        self.bytes[SPARE_AT..ITEMS_AT].copy_from_slice(&spare.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(packed: Packed<'_>) -> Vec<String> {
        packed.items().map(|item| String::from_utf8_lossy(item).into_owned()).collect()
    }

    #[test]
    fn items_keep_their_order_through_changes() {
        // Pushed, replaced by shorter and longer ones across the length of one byte, taken out in pairs.
        let mut packing = Packing::default();
        packing.begin(None);
        let long = "x".repeat(300);
        for item in ["a", "1", &long, "2", "", "3"] {
            packing.push(item.as_bytes());
        }
        assert_eq!(texts(packing.packed()), ["a", "1", &long, "2", "", "3"]);
        let spot = packing.packed().find(long.as_bytes(), 2).unwrap();
        packing.replace(spot, b"b");
        let spot = packing.packed().find(b"a", 2).unwrap();
        packing.replace(packing.packed().behind(spot), long.as_bytes());
        assert_eq!(texts(packing.packed()), ["a", &long, "b", "2", "", "3"]);
        packing.remove(packing.packed().find(b"b", 2).unwrap(), 2);
        assert_eq!(texts(packing.packed()), ["a", &long, "", "3"]);
        packing.remove(packing.packed().find(b"", 2).unwrap(), 2);
        packing.remove(packing.packed().find(b"a", 2).unwrap(), 2);
        assert_eq!((packing.packed().len(), texts(packing.packed())), (0, vec![]));
    }

    #[test]
    fn only_every_step_is_searched() {
        // A value that reads like a field is none.
        let mut packing = Packing::default();
        packing.begin(None);
        for item in [b"field", b"other", b"other", b"value"] {
            packing.push(item);
        }
        let packed = packing.packed();
        let spot = packed.find(b"other", 2).unwrap();
        assert_eq!(packed.item(packed.behind(spot)), b"value");
        assert_eq!(packed.find(b"value", 2), None);
        assert!(packed.find(b"value", 1).is_some());
    }

    #[test]
    fn only_what_was_packed_is_sound() {
        // Every shorter value, and every value with another byte of its lengths, is refused; with spare bytes it is as good.
        let mut packing = Packing::default();
        packing.begin(None);
        for item in [&b"field"[..], &[7; 300]] {
            packing.push(item);
        }
        let value = packing.bytes.clone();
        assert!(Packed::is_sound(&value, 2) && !Packed::is_sound(&value, 4));
        assert!((0..value.len()).all(|len| !Packed::is_sound(&value[..len], 2)));
        for at in [0, 1, 2, 3, 4, 10, 11, 12, 13, 14] {
            let changed = |by: u8| {
                let mut changed = value.clone();
                changed[at] = changed[at].wrapping_add(by);
                changed
            };
            assert!((1..=255).all(|by| !Packed::is_sound(&changed(by), 2)), "byte {at}");
        }
        let mut spare = vec![0; value.len() + 9];
        packing.write_into(&mut spare);
        assert!(Packed::is_sound(&spare, 2));
        packing.begin(None);
        assert!(!Packed::is_sound(&packing.bytes, 2), "an empty collection is none");
    }

    #[test]
    fn spare_bytes_are_no_items() {
        // A value with room to spare reads as the items that were written into it.
        let mut packing = Packing::default();
        packing.begin(None);
        packing.push(b"item");
        let mut value = vec![7; 30];
        packing.write_into(&mut value);
        let packed = Packed::new(&value);
        assert_eq!((packed.len(), texts(packed)), (1, vec!["item".to_owned()]));
        packing.begin(Some(packed));
        packing.push(b"two");
        assert_eq!(texts(packing.packed()), ["item", "two"]);
    }
}
